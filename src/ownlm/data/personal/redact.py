"""What becomes of personal data: kept, masked, or replaced by a made-up value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from .options import KINDS, Kind, PersonalOptions, Span


class Edit(NamedTuple):
    """What stands between two characters of a text becomes something else."""

    start: int
    end: int
    replacement: str


def edits(text: str, spans: Sequence[Span], options: PersonalOptions) -> list[Edit]:
    """The edits that carry out the policy, in order, none overlapping.

    A value that is replaced has the same stand-in wherever it stands in the text, and two values have two. A stand-in
    that stands in the text already stays, so redacting twice changes nothing. Spans to keep have no edit, nor have
    those that drop their document: see ``dropped_for``.
    """
    stand_ins = _StandIns(text, spans)
    result = []
    for span in sorted(spans, key=lambda span: span.start):
        policy = options.policy_of(span.kind)
        value = text[span.start : span.end]
        if policy == "mask":
            result.append(Edit(span.start, span.end, KINDS[span.kind].placeholder))
        elif policy == "replace" and (new := stand_ins.of(span, value)) != value:
            result.append(Edit(span.start, span.end, new))
    return result


def redact(text: str, spans: Sequence[Span], options: PersonalOptions) -> str:
    """A text with the policy carried out."""
    return apply_edits(text, edits(text, spans, options))


def apply_edits(text: str, changes: Iterable[Edit]) -> str:
    """A text with edits made; they are in order and do not overlap."""
    parts = []
    place = 0
    for change in changes:
        parts += [text[place : change.start], change.replacement]
        place = change.end
    return "".join([*parts, text[place:]])


def dropped_for(spans: Iterable[Span], options: PersonalOptions) -> Kind | None:
    """The first kind for which the document is dropped, or None where it stays."""
    return next((span.kind for span in spans if options.policy_of(span.kind) == "drop"), None)


class _StandIns:
    """Made-up values for one text, numbered as the values first appear."""

    def __init__(self, text: str, spans: Iterable[Span]) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._next: dict[str, int] = {}
        # What is a stand-in already keeps itself, and no other value may get it.
        self._taken = {text[span.start : span.end] for span in spans}

    def of(self, span: Span, value: str) -> str:
        if _STAND_IN[span.kind].fullmatch(value):
            return value
        # An address of the new Internet stays one.
        form = "IPv6" if span.detail == "IPv6" else span.kind
        key = (form, _same(span.kind, value))
        while key not in self._given:
            self._next[form] = self._next.get(form, 0) + 1
            new = _FORMS[form](self._next[form])
            if new not in self._taken:
                self._given[key] = new
        return self._given[key]


def _same(kind: Kind, value: str) -> str:
    """What two ways to write one value have in common."""
    if kind in ("card", "phone", "iban", "national_id"):
        return re.sub(r"[\W_]", "", value).casefold()
    return re.sub(r"\s+", " ", value).casefold()


def _phone(number: int) -> str:
    """555-0100 to 555-0199 are kept for fiction in every area of North America (ATIS-0300115)."""
    area, line = divmod(number - 1, 100)
    return f"+1 {201 + area % 799} 555 01{line:02}"


def _ipv4(number: int) -> str:
    """The three networks for documentation (RFC 5737)."""
    if number > 3 * 254:
        return _ipv6(number)
    network, machine = divmod(number - 1, 254)
    return f"{('192.0.2', '198.51.100', '203.0.113')[network]}.{machine + 1}"


def _ipv6(number: int) -> str:
    """The network for documentation (RFC 3849)."""
    high, low = divmod(number, 0x10000)
    return f"2001:db8::{high:x}:{low:x}" if high else f"2001:db8::{low:x}"


def _card(number: int) -> str:
    """A number whose check digit is wrong, so that nobody can hold it."""
    body = f"4{number:014}"
    doubled = [2 * int(digit) for digit in body[::2]]
    total = sum(digit - 9 if digit > 9 else digit for digit in doubled) + sum(map(int, body[1::2]))
    return f"{body}{(11 - total) % 10}"


_FORMS: dict[str, Callable[[int], str]] = {
    "secret": lambda number: f"[SECRET_{number}]",
    "email": lambda number: f"email{number}@example.com",
    # Check digits run from 02 to 98 (ISO 7064): no account has 00.
    "iban": lambda number: f"GB00TEST{number:014}",
    "card": _card,
    # No area of the US social security numbers is 000.
    "national_id": lambda number: f"000-{number // 10000 % 100:02}-{number % 10000:04}",
    "ip_address": _ipv4,
    "IPv6": _ipv6,
    "phone": _phone,
    "address": lambda number: f"{number} Example Street",
    "person": lambda number: f"Person {number}",
}
_STAND_IN: dict[Kind, re.Pattern[str]] = {
    "secret": re.compile(r"\[SECRET(_\d+)?\]"),
    "email": re.compile(r"email\d+@example\.com"),
    "iban": re.compile(r"GB00TEST\d{14}"),
    "card": re.compile(r"40{5}\d{10}"),
    "national_id": re.compile(r"000-\d\d-\d{4}"),
    "ip_address": re.compile(r"(192\.0\.2|198\.51\.100|203\.0\.113)\.\d{1,3}|2001:db8::[0-9a-f:]{1,9}"),
    "phone": re.compile(r"\+1 \d{3} 555 01\d\d"),
    "address": re.compile(r"\d+ Example Street"),
    "person": re.compile(r"Person \d+"),
}
