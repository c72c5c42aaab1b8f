"""E-mail addresses (RFC 5321, RFC 6531) and IP addresses (RFC 791, RFC 4291)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

import numpy as np

from .characters import DIGITS, LETTERS, Characters, Found, classes, places_of

# A local part has at most 64 characters (RFC 5321, 4.5.3.1.1), a label of a domain 63 (RFC 1035, 2.3.4).
_LOCAL = 64
_DOMAIN = 255

# Endings that follow an @ in the names of files ("icon@2x.png") and are no top-level domains.
_FILES = frozenset(b"png jpg jpeg gif svg webp bmp ico pdf css js ts jsx tsx html htm json xml yaml yml txt".split())
# Users of services, not people: git@github.com.
_SERVICES = frozenset((b"git", b"hg", b"svn"))


def _domain(letters: bytes) -> re.Pattern[bytes]:
    label = rb"[A-Za-z0-9%b](?:[A-Za-z0-9%b-]{0,61}[A-Za-z0-9%b])?" % (letters, letters, letters)
    top = rb"(?:[A-Za-z%b]{2,24}|[Xx][Nn]--[A-Za-z0-9-]{2,59})" % letters
    return re.compile(rb"((?:%b\.){1,10})(%b)(?![A-Za-z0-9_%b@-]|\.[A-Za-z0-9%b])" % (label, top, letters, letters))


# Backwards from the @. First with the letters of alphabets only, since Chinese or Korean words may stand right beside
# an address; then with those as well.
_SCRIPTS = tuple(
    (re.compile(rb"[A-Za-z0-9%b._%%+'&-]+" % letters), _domain(letters)) for letters in (b"\x80", b"\x80\x82")
)
_LOCAL_BYTES = LETTERS + DIGITS + b"_+-'&%\x80\x82"

_AT = re.compile(rb"(?i: ?[\[({] ?(?:at|@) ?[\])}] ?| at )")
_SPELLED_LABEL = rb"[A-Za-z0-9\x80][A-Za-z0-9\x80-]{0,62}"
_SPELLED = re.compile(rb"(?i:%b(?:( ?[\[({] ?dot ?[\])}] ?| dot |\.)%b){1,8})" % (_SPELLED_LABEL, _SPELLED_LABEL))

_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rb"(?:%b\.){3}%b(?![0-9A-Za-z_\x80]|\.[0-9]|-[0-9A-Za-z]{1,20}\b(?!\.))" % (_OCTET, _OCTET))
_IPV6 = re.compile(rb"[0-9A-Fa-f:]{2,30}?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:]{2,39}")
# What an address cannot follow directly; a colon after a word is a label's.
_GLUED = re.compile(rb"(?:[0-9A-Za-z_\x80.]|[0-9:]:)\Z")
_IP_WORDS = re.compile(
    rb"(?:(?:\b|_)(?:ips?|ipv[46]|address(?:es)?|addr|hosts?|hostname|servers?|dns|nameserver|gateway|router"
    rb"|ping|subnet"
    rb"|connect(?:ed|ing|s)?|login|logged in|listen(?:ing|s)?|client|peer|remote|proxy|port"
    rb"|inet6?)\b[^\n]{0,30}|://|@)\Z"
)
_VERSION_WORDS = re.compile(
    rb"(?:\b(?:version|versions|ver|release|releases|section|sections|chapter|clause|figure|table|appendix|build|kernel"
    rb"|firmware|python|linux|windows|java|rfc|schema|oid)\b[^\n]{0,20}|[a-z]/|[=<>~^!]=)\Z"
)


def find_emails(text: Characters) -> Iterator[Found]:
    """E-mail addresses; those of services, such as git@github.com, are left out."""
    data = text.data
    places = places_of(data, b"@")
    places = places[(places > 0) & (places + 1 < len(data))]
    inside = classes(_LOCAL_BYTES)
    ends = classes(LETTERS + DIGITS + b"\x80\x82")
    for place in places[inside[data[places - 1]] & ends[data[places + 1]]].tolist():
        if found := _email_at(text.flat, place):
            yield Found(*found, "email", "")


def _email_at(flat: bytes, place: int) -> tuple[int, int] | None:
    reverse = flat[max(0, place - _LOCAL - 2) : place][::-1]
    for local_part, domain in _SCRIPTS:
        left, right = local_part.match(reverse), domain.match(flat, place + 1, place + 2 + _DOMAIN)
        if not left or not right:
            continue
        local = left.group()[::-1]
        # "Write to me...jane@corp.com": two full stops end what is before.
        trimmed = local.rpartition(b"..")[2].lstrip(b".-'&%+")
        start = place - len(trimmed)
        if not 0 < len(trimmed) <= _LOCAL or trimmed.endswith(b"."):
            return None
        if flat[start - 1 : start] in (b"@", b"\\") or flat[max(0, start - 3) : start] == b"://":
            return None
        if trimmed.lower() in _SERVICES or right[2].lower() in _FILES or flat[right.end() : right.end() + 1] == b"(":
            return None
        # "package@1.2.3-beta.next" is a version.
        if re.match(rb"[0-9]+\.[0-9]", right[1]):
            return None
        return start, right.end()
    return None


def find_spelled_emails(text: Characters) -> Iterator[Found]:
    """E-mail addresses that hide from robots: "name (at) example dot com", "<name at example.com>"."""
    flat = text.flat
    for at in _AT.finditer(flat):
        left = _SCRIPTS[0][0].match(flat[max(0, at.start() - _LOCAL) : at.start()][::-1])
        right = _SPELLED.match(flat, at.end(), at.end() + _DOMAIN)
        if not left or not right:
            continue
        local = left.group()[::-1].lstrip(b".-'&%+")
        start, end = at.start() - len(local), right.end()
        top = re.split(rb"[^A-Za-z0-9]", right.group())[-1]
        bracketed = at.group().strip() != b"at"
        enclosed = flat[start - 1 : start] == b"<" and flat[end : end + 1] == b">"
        # "Meet me at example.com" is no address; it takes a bracket, or the word "dot".
        if (
            local
            and flat[start - 1 : start] != b"@"
            and top.isalpha()
            and len(top) > 1
            and (bracketed or enclosed or b"dot" in right.group().lower())
        ):
            yield Found(start, end, "email", "spelled out")


def find_ip_addresses(text: Characters) -> Iterator[Found]:
    """IP addresses but those that name no machine in particular: loopback, unspecified, multicast, masks.

    Four small numbers between full stops may as well be a version or a section; they count only beside a word such as
    "address" or "server".
    """
    yield from _find_ipv4(text)
    yield from _find_ipv6(text)


def _find_ipv4(text: Characters) -> Iterator[Found]:
    numbers = text.numbers
    if not len(numbers.breaks):
        return
    dotted = np.concatenate([[False], numbers.dotted, [False]])
    # Exactly three full stops in a row, each between two groups of digits.
    starts = np.flatnonzero(dotted[1:-1] & ~dotted[:-2])
    ends = np.flatnonzero(dotted[1:-1] & ~dotted[2:]) + 1
    starts = starts[ends - starts == 3]
    # A group begins behind the break before it.
    groups = np.where(starts > 0, numbers.breaks[np.maximum(starts, 1) - 1] + 1, 0)
    for start in numbers.places[groups].tolist():
        match = _IPV4.match(text.flat, start, start + 40)
        if match and _names_machine(text, start, match.end()):
            yield Found(start, match.end(), "ip_address", "IPv4")


def _names_machine(text: Characters, start: int, end: int) -> bool:
    if re.match(rb"[0-9A-Za-z_\x80.]", text.flat[start - 1 : start] if start else b""):
        return False
    address = ipaddress.IPv4Address(text.flat[start:end].decode())
    octets = address.packed
    if octets[0] in (0, 127) or octets[0] >= 224:
        return False
    before = text.before(start)
    if _VERSION_WORDS.search(before):
        return False
    if max(octets) >= 100:
        return True
    port_or_prefix = re.match(rb":[0-9]{2,5}\b|/[0-9]{1,2}\b", text.flat[end : end + 6])
    return bool(port_or_prefix or _IP_WORDS.search(before))


def _find_ipv6(text: Characters) -> Iterator[Found]:
    flat, data = text.flat, text.data
    colons = places_of(data, b":")
    if len(colons) < 2:
        return
    gaps = np.diff(colons)
    before = np.concatenate([[len(data)], gaps])
    double = colons[:-1][(gaps == 1) & (before[:-1] != 1)]
    # Without "::" there are seven colons close together, or six before an IPv4 address: looked at from the first.
    full = colons[: max(0, len(colons) - 5)]
    first = before > 5
    # "ip:2001:..." has one more in front.
    first[1:] |= first[:-1]
    full = full[first[: len(full)] & (colons[5:] - full <= 25)]
    last = 0
    hexadecimal = re.compile(rb"[0-9A-Fa-f:]{1,39}")
    for place in np.union1d(double, full).tolist():
        if place < last:
            continue
        left = hexadecimal.match(flat[max(0, place - 39) : place][::-1])
        start = place - (left.end() if left else 0)
        if flat[start : start + 1] == b":" and flat[start + 1 : start + 2] != b":":
            start += 1
        match = _IPV6.match(flat, start)
        if match and (end := _ipv6_end(text, start, match.end())):
            last = end
            yield Found(start, end, "ip_address", "IPv6")


def _ipv6_end(text: Characters, start: int, end: int) -> int | None:
    flat = text.flat
    if flat[end - 1 : end] == b":" and flat[end - 2 : end] != b"::":
        end -= 1
    if _GLUED.search(flat, max(0, start - 2), start):
        return None
    if re.match(rb"[0-9A-Za-z_\x80:]|\.[0-9]", flat[end : end + 2]):
        return None
    value = flat[start:end].decode()
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return None
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return None
    # "a::b" is a name of C++ as well; written short, an address begins as those in use do (RFC 4291, 2.4), or a word
    # says so.
    in_use = re.match(r"[23][0-9a-f]{3}:|f[cd][0-9a-f]{2}:|fe80:|64:ff9b:", value, re.IGNORECASE)
    groups = [group for group in value.split(":") if group]
    if (
        value.count(":") + value.count(".") // 3 >= 7
        or (in_use and len(groups) > 1)
        or _IP_WORDS.search(text.before(start))
    ):
        return end
    return None
