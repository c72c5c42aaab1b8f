"""Payment card numbers (ISO/IEC 7812) and bank account numbers (ISO 13616)."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import numpy as np

from .characters import DIGITS, LETTERS, Characters, Found, classes
from .identities import number_module

# Issuers' ranges as their brands publish them: first and last prefix, the lengths that need nothing beside them, and
# those so rare today or so short that the word "card" must stand near.
_BRANDS: tuple[tuple[str, str, str, tuple[int, ...], tuple[int, ...]], ...] = (
    ("Visa", "4", "4", (16,), (13, 19)),
    ("Mastercard", "51", "55", (16,), ()),
    ("Mastercard", "2221", "2720", (16,), ()),
    ("American Express", "34", "34", (15,), ()),
    ("American Express", "37", "37", (15,), ()),
    ("Discover", "6011", "6011", (16,), (19,)),
    ("Discover", "644", "659", (16,), (19,)),
    ("Diners Club", "300", "305", (14,), (16, 19)),
    ("Diners Club", "309", "309", (14,), (16, 19)),
    ("Diners Club", "36", "36", (14,), (16, 19)),
    ("Diners Club", "38", "39", (14,), (16, 19)),
    ("JCB", "3528", "3589", (16,), (19,)),
    ("JCB", "1800", "1800", (), (15,)),
    ("JCB", "2131", "2131", (), (15,)),
    ("UnionPay", "62", "62", (16,), (17, 18, 19)),
    ("Mir", "2200", "2204", (16,), (17, 18, 19)),
    ("RuPay", "508", "508", (), (16,)),
    ("RuPay", "60", "60", (), (16,)),
    ("RuPay", "81", "82", (), (16,)),
    ("Maestro", "50", "50", (), tuple(range(12, 20))),
    ("Maestro", "56", "58", (), tuple(range(12, 20))),
    ("Maestro", "63", "63", (), tuple(range(12, 20))),
    ("Maestro", "67", "67", (), tuple(range(12, 20))),
)
_CARD = re.compile(
    rb"(?<![0-9A-Za-z_\x80.])(?<![0-9][,-])"
    rb"(?:[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5}"
    rb"|[0-9]{12,19})"
    rb"(?![0-9A-Za-z_\x80]|[.,-][0-9])"
)
_CARD_WORDS = re.compile(
    rb"\b(?:(?:credit|debit|bank|payment)?-?cards?|cc|visa|master-?card|amex|american express|maestro|diners"
    rb"|discover|jcb"
    rb"|unionpay|pan|(?:kredit|bank|ec-|giro)?karten?(?:nummer)?|cartes?|tarjetas?|cart[a\x80]o|carta"
    rb"|kort(?:nummer)?)\b"
)


def find_cards(text: Characters) -> Iterator[Found]:
    """Payment cards: Luhn's check digit, and the prefix and length of a brand, or the word "card" beside them."""
    flat = text.flat
    for start, end in text.numbers_of(12):
        place = start
        while match := _CARD.search(flat, place, end + 2):
            # What looks like its last group may be the month behind it; and it may begin with the second group.
            last = text.flat.rfind(match[1] or b"\0", match.start(), match.end())
            ends = [match.end(), last] if match[1] and last - match.start() > 15 else [match.end()]
            for stop in ends:
                if brand := _brand_at(text, match.start(), stop):
                    yield Found(match.start(), stop, "card", brand)
                    place = stop
                    break
            else:
                place = text.flat.find(match[1], match.start()) if match[1] else match.end()


def _brand_at(text: Characters, start: int, end: int) -> str | None:
    digits = text.flat[start:end].translate(None, b" -").decode()
    if not 12 <= len(digits) <= 19 or len(set(digits)) < 2:
        return None
    if not luhn(digits):
        # A stand-in for another number, whose check digit is wrong on purpose.
        return "Visa" if re.fullmatch(rb"40{5}[0-9]{10}", text.flat[start:end]) else None
    beside = None
    for brand, first, last, alone, rare in _BRANDS:
        if first <= digits[: len(first)] <= last and len(digits) in alone + rare:
            if len(digits) in alone and not _in_table(text.flat, start, end):
                return brand
            beside = brand
            break
    words = _CARD_WORDS.search(text.before(start)) or _CARD_WORDS.search(text.after(end, 20))
    return (beside or "unknown") if words else None


def _in_table(flat: bytes, start: int, end: int) -> bool:
    """Whether groups of four go on before or after: then these are columns of numbers."""
    separator = re.escape(flat[start + 4 : start + 5])
    if separator.isdigit():
        return False
    before = re.search(rb"[0-9]{4}%b\Z" % separator, flat[max(0, start - 5) : start])
    return bool(before or re.match(rb"%b[0-9]{4}(?![0-9])" % separator, flat[end : end + 6]))


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    odd = [int(digit) for digit in digits[-1::-2]]
    even = [2 * int(digit) for digit in digits[-2::-2]]
    return (sum(odd) + sum(digit - 9 if digit > 9 else digit for digit in even)) % 10 == 0


def find_ibans(text: Characters) -> Iterator[Found]:
    """Bank account numbers: the country's length and structure, and check digits modulo 97."""
    numbers, data = text.numbers, text.data
    if not len(numbers.places):
        return
    first = numbers.places[np.concatenate([[0], numbers.breaks + 1])]
    first = first[(first >= 2) & (first + 2 < len(data))]
    letter, word = classes(LETTERS), classes(LETTERS + DIGITS + b"_\x80")
    keep = letter[data[first - 1]] & letter[data[first - 2]] & word[data[first + 1]]
    keep &= (first == 2) | ~word[data[np.maximum(first - 3, 0)]]
    valid = number_module("iban").is_valid if keep.any() else None
    for place in first[keep].tolist():
        pattern = _account(text.flat[place - 2 : place].upper().decode())
        match = pattern.match(text.flat, place - 2) if pattern else None
        if not match or not valid:
            continue
        account = re.sub(rb"[ -]", b"", match.group()).decode().upper()
        # The second is a stand-in for another account.
        if valid(account, check_country=False) or account.startswith("GB00TEST"):
            yield Found(match.start(), match.end(), "iban", match.group()[:2].decode().upper())


@functools.cache
def _account(country: str) -> re.Pattern[bytes] | None:
    """The account numbers of a country, in one piece or in groups of four; their lengths stand in SWIFT's registry."""
    found = number_module("numdb").get("iban").info(country + "00")[0][1]
    if "bban" not in found:
        return None
    length = sum(int(part) for part in re.findall(r"(\d+)!?[anc]", found["bban"]))
    groups, rest = divmod(length, 4)
    pattern = rb"[A-Za-z]{2}[0-9]{2}(?:[0-9A-Za-z]{%d}|(?:([ -])[0-9A-Za-z]{4})(?:\1[0-9A-Za-z]{4}){%d}%b)"
    last = rb"\1[0-9A-Za-z]{%d}" % rest if rest else b""
    return re.compile(pattern % (length, groups - 1, last) + rb"(?![0-9A-Za-z_\x80])")
