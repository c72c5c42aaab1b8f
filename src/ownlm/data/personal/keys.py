"""Secrets: keys and tokens by their issuers' prefixes, private keys, passwords, random values beside a word for one.

The prefixes are those that the issuers document for secret scanners; that prefix and structure alone find keys with
hardly a false one is shown by Meli, McNiece and Reaves, "How Bad Can It Get? Characterizing Secret Leakage in Public
GitHub Repositories" (NDSS 2019).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .characters import DIGITS, LETTERS, Characters, Found, Integers, classes, places_of, runs_of

_ISSUERS: dict[str, bytes] = {
    "AWS": rb"(?:AKIA|ASIA)[A-Z2-7]{16}",
    "GitHub": rb"gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9_]{60,90}",
    "GitLab": rb"glpat-[A-Za-z0-9_-]{20,64}",
    "Slack": rb"xox[abeoprs]-[A-Za-z0-9-]{10,250}",
    "Stripe": rb"[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}|whsec_[A-Za-z0-9]{24,64}",
    "Google": rb"AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}",
    "Hugging_Face": rb"hf_[A-Za-z0-9]{30,40}",
    "ownlm": rb"ownlm_[a-z0-9]{12}_[A-Za-z0-9]{43}",
    "npm": rb"npm_[A-Za-z0-9]{36}",
    "PyPI": rb"pypi-AgEI[A-Za-z0-9_-]{50,250}",
    "DigitalOcean": rb"do[opr]_v1_[a-f0-9]{64}",
    "Shopify": rb"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
    "Databricks": rb"dapi[a-f0-9]{32}",
    "Mailgun": rb"key-[a-f0-9]{32}",
    "Twilio": rb"SK[a-f0-9]{32}",
    "JWT": rb"eyJ[A-Za-z0-9_-]{10,4000}\.[A-Za-z0-9_-]{4,8000}(?:\.[A-Za-z0-9_-]{0,4000})?",
    # OpenAI and those who write their keys alike; words with hyphens have no digits among them.
    "sk": rb"sk-(?:[a-z]{2,8}-)?(?=[A-Za-z_-]{0,60}[0-9])[A-Za-z0-9_-]{20,200}",
}
_PREFIXED = re.compile(
    rb"(?:%b)(?![A-Za-z0-9_])" % b"|".join(rb"(?P<%b>%b)" % (k.encode(), v) for k, v in _ISSUERS.items())
)
_BOT = re.compile(rb"AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])")
_BOT_NUMBER = re.compile(rb"(?<![0-9A-Za-z:])[0-9]{8,10}:\Z")
# Two whose prefix ends with a full stop, and so stands before the long word.
_DOTTED = ((b"ya29.", "Google"), (b"SG.", "SendGrid"))
_VALUE = re.compile(rb"[A-Za-z0-9_+/.~-]{1,500}={0,2}")
# Signs inside a password, when more of it follows.
_VALUE_SIGNS = re.compile(rb"(?:[!#$%^&*@?()|]{1,3}[A-Za-z0-9_+/=.~-]{1,100}){1,10}")
_NAMED = re.compile(
    rb"(?:(?:key|token|secret|passw(?:or)?d|passphrase|credential|signature)s?(?:_?(?:id|value|base64"
    rb"|string))?[\"']?\s?"
    rb"(?:=|:|:=|=>|==|\bis\b|,)\s?[a-z]?[\"'`]?|\b(?:bearer|basic|token) [\"'`]?|[?&](?:key|token|sig|secret)=)\Z"
)
_PUBLIC = re.compile(rb"public|primary|foreign|sort|partition|cache|hot|host|fingerprint|sha\d|md5|hash|digest")
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
# Lines of base 64, the last of them short, and the headers that some keys have (RFC 7468).
_KEY_LINES = re.compile(
    rb"(?:(?:\s|\\n){1,4}(?:[A-Za-z0-9+/=]{16,500}|[A-Z][A-Za-z-]{2,20}: [^\n\0]{1,100}))*"
    rb"(?:(?:\s|\\n){1,4}[A-Za-z0-9+/=]{4,15}(?=\s|\\n|-|\0))?"
)
_KEY_LENGTH = 20_000
_KEY_END = re.compile(rb"(?:\s|\\n){0,4}-----END [A-Z0-9 ]{1,60}-----")
_URL = re.compile(
    rb"[A-Za-z][A-Za-z0-9+.-]{1,20}://([^\s\0\x81/:@\"'<>()\[\]]{0,64}:([^\s\0\x81/:@\"'<>\[\]]{1,128}))\Z"
)
_PASSWORD = re.compile(
    rb"(?i:passw(?:or)?d|passphrase|\bpwd)[\"']?(?: is|:| ?=| :) ?[\"'`]?([^\s\0\x81\"'`<>(){}\[\],;:]{6,64})(?![(\[])"
)
# What stands for a password where one is explained.
_EXAMPLE = re.compile(rb"pass|pwd|secret|xxx|\*\*|\.\.\.|\$|%s|example|change|your|user", re.IGNORECASE)


def find_secrets(text: Characters) -> Iterator[Found]:
    """Secrets; the detail is the issuer or the sort of secret."""
    yield from _find_private_keys(text)
    yield from _find_tokens(text)
    yield from _find_named(text)
    yield from _find_url_passwords(text)
    yield from _find_passwords(text)


def _find_private_keys(text: Characters) -> Iterator[Found]:
    flat = text.flat
    for place in places_of(text.data, b"-----BEGIN").tolist():
        begin = _PRIVATE_KEY.match(flat, place)
        if not begin:
            continue
        body = _KEY_LINES.match(flat, begin.end(), begin.end() + _KEY_LENGTH)
        # A key that was cut off is still a key.
        last = body.end() if body else begin.end()
        end = _KEY_END.match(flat, last)
        yield Found(place, end.end() if end else last, "secret", "private key")


def _find_tokens(text: Characters) -> Iterator[Found]:
    starts, ends = text.long_words
    last = 0
    for start in starts[_with_digits(text, starts, ends)].tolist():
        if start >= last and (found := _prefixed(text, start)):
            last = found.end
            yield found


def _find_named(text: Characters) -> Iterator[Found]:
    """Random values beside a word such as "api_key"."""
    data = text.data
    starts, ends = runs_of(classes(LETTERS + DIGITS + b"_-+/")[data], 16)
    first = classes(b" \t\"'`=:,")[data[np.maximum(starts - 1, 0)]] & (data[starts] != ord("/"))
    for start in starts[first & _with_digits(text, starts, ends)].tolist():
        if found := _named(text, start):
            yield found


def _with_digits(text: Characters, starts: Integers, ends: Integers) -> NDArray[np.bool_]:
    places = text.numbers.places
    return np.searchsorted(places, ends) > np.searchsorted(places, starts)


def _prefixed(text: Characters, start: int) -> Found | None:
    flat = text.flat
    if match := _PREFIXED.match(flat, start):
        return Found(start, match.end(), "secret", (match.lastgroup or "").replace("_", " "))
    for prefix, issuer in _DOTTED:
        if flat.endswith(prefix, 0, start) and not re.match(rb"[0-9A-Za-z_]", flat[start - len(prefix) - 1 : start]):
            value = _VALUE.match(flat, start)
            assert value is not None
            return Found(start - len(prefix), value.end(), "secret", issuer)
    # A bot's key at Telegram: its number, a colon, 35 letters.
    bot = _BOT_NUMBER.search(flat, max(0, start - 12), start) if flat[start - 1 : start] == b":" else None
    if bot and (match := _BOT.match(flat, start)):
        return Found(start - len(bot.group()), match.end(), "secret", "Telegram")
    return None


def _named(text: Characters, start: int) -> Found | None:
    before = text.before(start)
    value = _VALUE.match(text.flat, start)
    if not value or not _NAMED.search(before) or _PUBLIC.search(before[-30:]):
        return None
    written = value.group().rstrip(b".")
    if not is_random(written):
        return None
    more = _VALUE_SIGNS.match(text.flat, start + len(written))
    return Found(start, more.end() if more else start + len(written), "secret", "unknown")


def is_random(value: bytes) -> bool:
    """Whether a value looks drawn at random rather than written.

    In random letters and digits every other neighbour is of another class (a capital, a small letter, a digit); in
    names and dates few are. And letters drawn from 16 or more, as those of hexadecimal numbers are, hardly repeat.
    """
    if len(value) < 16:
        return False
    kinds = re.sub(rb"[A-Z]", b"A", re.sub(rb"[a-z]", b"a", re.sub(rb"[0-9]", b"0", value)))
    changes = sum(a != b and bytes((a, b)).isalnum() for a, b in pairwise(kinds))
    counts = Counter(value).values()
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in counts)
    digits = sum(48 <= byte <= 57 for byte in value)
    # One digit alone may end a name written with capitals inside it.
    return digits > 0 and changes >= len(value) * (0.2 if digits > 1 else 0.45) and entropy >= 2.5


def _find_url_passwords(text: Characters) -> Iterator[Found]:
    for place in places_of(text.data, b"@").tolist():
        before = text.flat[max(0, place - 220) : place]
        scheme = before.rfind(b"://")
        if scheme < 0:
            continue
        match = _URL.search(before, max(0, scheme - 22))
        if match and not _EXAMPLE.search(match[2]):
            yield Found(place - len(match[1]), place, "secret", "password in a URL")


def _find_passwords(text: Characters) -> Iterator[Found]:
    data = text.data | np.uint8(0x20)
    places = np.concatenate([places_of(data, b"passw"), places_of(data, b"passp"), places_of(data, b"pwd")])
    last = 0
    for place in np.sort(places).tolist():
        match = _PASSWORD.match(text.flat, place) if place >= last else None
        if not match:
            continue
        value = match[1].rstrip(b".!?") if match[1].endswith(b".") else match[1]
        mixed = re.search(rb"[A-Za-z\x80]", value) and re.search(rb"[0-9]", value)
        if mixed and len(value) >= 6 and not _EXAMPLE.search(value):
            last = match.start(1) + len(value)
            yield Found(match.start(1), last, "secret", "password")
