"""Telephone numbers: the shape of the digits, the words beside them, and the world's numbering plans."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from ...errors import MissingExtra
from .characters import SEPARATORS, Characters, Found

# A number has at most 15 digits (ITU-T E.164, 6.2.1), a local one seldom fewer than 7.
LEAST, MOST = 7, 15
_EXTENSION = re.compile(rb"(?i: ?(?:x|ext\.?|extension|#) ?[0-9]{1,6})(?![0-9A-Za-z]|[.-][0-9])")
_WORDS = (
    rb"(?:tele)?(?:phone|fon|f\x80no|fono|foon)s?|tel\.?|telefonnummer|mobile?|mobiles|cell(?:ular)?|cellphone"
    rb"|landline|fax"
    rb"|tele?fax|hotline|helpline|handy|rufnummer|portable|m\x80vil|movil|celular|cellulare|telefoon|puhelin"
    rb"|desk|office"
    rb"|whats-?app|signal|sms|home|work|direct"
)
_VERBS = (
    rb"call(?:ed|ing|s)?|phon(?:ed|ing)|reach(?:ed|able|ing)?|ring|rang|dial(?:led|ed|ing)?|text(?:ed|ing)?"
    rb"|contact(?:ed)?"
    rb"|messag(?:e|es|ing)|answer(?:ing|s|ed)?|pick(?:ing)? up|available|registered|anrufen|appeler|llamar|chiamare"
)
# A label stands close before the number; a verb may have a few words between: "call me tomorrow at".
_BEFORE = re.compile(
    rb"\b(?:(?:%b)(?:[ -]?(?:number|no\.?|nr\.?|num\.?|#))?\b[ \t]{0,3}[^0-9A-Za-z]{0,8}(?:is|at|on|to"
    rb"|:)?[^0-9A-Za-z]{0,4}"
    rb"|(?:%b)\b(?:[^0-9.;!?]{0,30}\b(?:at|on|to|under|using|via|number(?: is)?|mobile|phone))?[ :]{0,3})\Z"
    % (_WORDS, _VERBS)
)
_AFTER = re.compile(rb"[ \t]{0,2}[-,:(/]?[ \t]{0,2}\(?(?:%b)\b" % _WORDS)
# Groups of digits that are a date, a range of years, a sum, a decimal number, a version, or a book (ISBN).
_NOT_A_PHONE = re.compile(
    rb"(?:1[0-9]|20)[0-9]{2}([-/. ])[0-9]{1,2}\1[0-9]{1,2}(?![0-9]).*"
    rb"|[0-9]{1,2}([-/. ])[0-9]{1,2}\2(?:1[0-9]|20)[0-9]{2}(?![0-9]).*"
    rb"|[0-9]{1,2}([-/.])[0-9]{1,2}\3[0-9]{2}"
    rb"|(?:(?:1[0-9]|20)[0-9]{2} ?[-/. ] ?)+(?:1[0-9]|20)[0-9]{2}"
    rb"|[0-9]{1,3}(?:([ .])[0-9]{3})*(?:[ .]000)+"
    rb"|(?![0-9]{3,4}\.[0-9]{4}\Z)[0-9]+\.[0-9]+|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9](?:\.[0-9]{3}){2,}"
    rb"|[0-9]{1,3}(?:\.[0-9]{1,2}){2,4}"
    rb"|97[89][- ]?[0-9].{8,14}"
    rb"|000.*|(?:19|20)[0-9]{12}|(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])[0-3][0-9]"
)
_FRENCH = re.compile(rb"0[1-9](?:\.[0-9]{2}){4}")
# Numbers of other things, right before the digits.
_OF_A_THING = re.compile(
    rb"\b(?:isbn|issn|doi|arxiv|oclc|pmid|bug|issue|ticket|order|invoice|tracking|ref|reference|id|serial"
    rb"|account|case)\b"
    rb"[^0-9a-z]{0,4}(?:number|num|no|nr|id)?[^0-9a-z]{0,4}\Z"
)
_NANP = re.compile(
    rb"\(?[2-9][0-9]{2}\) ?[2-9][0-9]{2}[-. ][0-9]{4}|[2-9][0-9]{2}([-. ])[2-9][0-9]{2}\1[0-9]{4}"
    rb"|1[-. ]\(?[2-9][0-9]{2}\)?[-. ][2-9][0-9]{2}[-. ][0-9]{4}"
)
_LEADING_ZERO = re.compile(rb"\(?0[1-9]")
_FORMATTED = re.compile(rb"[0-9][ .()-]+[0-9]")
_PIECE = re.compile(rb"[0-9][0-9()./-]{5,28}[0-9]")
_NO_PHONE_BEFORE = re.compile(rb"(?:[0-9A-Za-z_\x80#$%&@^~/\\.-]|[0-9][,:])\Z")
_NO_PHONE_AFTER = re.compile(rb"[0-9A-Za-z_\x80%]|[,:/.][0-9]|-[0-9]")


def find_phones(text: Characters, regions: Sequence[str]) -> Iterator[Found]:
    """Telephone numbers.

    With a country's code, a number must be one that its plan allows; without, it counts beside a word such as "phone"
    or "call", or where it is written as one of the ``regions`` writes its numbers and is valid there.
    """
    for start, end in text.numbers_of(LEAST):
        if found := _decide(text, start, end, regions):
            yield found
        elif end - start > 2 * LEAST:
            yield from _parts(text, start, end, regions)


def _parts(text: Characters, start: int, end: int, regions: Sequence[str]) -> Iterator[Found]:
    """Several numbers side by side, or one beside other digits: up to a space, and each piece without spaces."""
    flat = text.flat
    if flat[start - 1 : start] == b"+":
        stop = min(end, start + 30)
        while (stop := flat.rfind(b" ", start, stop)) > 0:
            if found := _decide(text, start, _behind_digits(flat, start, stop), regions):
                yield found
                start = found.end
                break
    for piece in _PIECE.finditer(flat, start, end):
        if found := _decide(text, piece.start(), piece.end(), regions):
            yield found


def _decide(text: Characters, start: int, end: int, regions: Sequence[str]) -> Found | None:
    flat = text.flat
    if end - start > 30:
        return None
    digits = flat[start:end].translate(None, SEPARATORS)
    if not LEAST <= len(digits) <= MOST + 2 or len(set(digits)) < 2:
        return None
    if flat[start - 1 : start] == b"+":
        start -= 1
    # A bracket before the number is its own where it closes inside.
    if flat[start - 1 : start] == b"(" and b")" in flat[start:end].partition(b"(")[0]:
        start -= 1
    if flat.count(b"(", start, end) != flat.count(b")", start, end):
        return None
    if _NO_PHONE_BEFORE.search(flat, max(0, start - 2), start):
        return None
    extension = _EXTENSION.match(flat, end)
    if not extension and _NO_PHONE_AFTER.match(flat, end):
        return None
    last = extension.end() if extension else end
    region = _region(text, start, end, last, regions)
    return None if region is None else Found(start, last, "phone", region)


def _behind_digits(flat: bytes, start: int, end: int) -> int:
    return start + len(flat[start:end].rstrip(SEPARATORS))


def _region(text: Characters, start: int, end: int, last: int, regions: Sequence[str]) -> str | None:
    """The country of a number, "" where it is not known, None where it is no telephone number.

    Args:
        text: the texts.
        start: where the number begins, with its sign or bracket.
        end: behind its last digit.
        last: behind its extension.
        regions: the countries to try.
    """
    value, before = text.flat[start:end], text.before(start)
    if _OF_A_THING.search(before):
        return None
    worded = bool(_BEFORE.search(before) or _AFTER.match(text.after(last, 24)))
    formatted = bool(_FORMATTED.search(value))
    # "(0)" is what one leaves out when calling from abroad.
    digits = value.replace(b"(0)", b"", 1).translate(None, SEPARATORS + b"+")
    if b"+" in value[:2]:
        return _international(digits, formatted or worded)
    if digits.startswith(b"00") and not digits.startswith(b"000"):
        region = _international(digits[2:], worded or (formatted and len(digits) > 10))
        if region is not None or not worded:
            return region
    if (_NOT_A_PHONE.fullmatch(value) and not _FRENCH.fullmatch(value)) or len(digits) > MOST - 2:
        return None
    if worded:
        # The words are evidence enough; the country would be a guess.
        return ""
    if _NANP.fullmatch(value):
        return _national(value, tuple(region for region in ("US", "CA") if region in regions), strict=False)
    if formatted and _LEADING_ZERO.match(value) and len(digits) >= 9 and not _counts_up(value):
        return _national(value, tuple(regions), strict=True)
    return None


def _counts_up(value: bytes) -> bool:
    """Whether the groups are a count, such as 01 02 03 04 05."""
    groups = [int(group) for group in re.findall(rb"[0-9]+", value)]
    return all(b - a == 1 for a, b in pairwise(groups))


@functools.lru_cache(maxsize=4096)
def _international(digits: bytes, likely: bool) -> str | None:
    library = phone_library()
    try:
        number = library.parse("+" + digits.decode())
    except library.NumberParseException:
        return None
    # A new or made-up number of the right length is taken for one where it is written or announced as one.
    if not library.is_valid_number(number) and not (likely and library.is_possible_number(number)):
        return None
    region = library.region_code_for_country_code(number.country_code)
    return region if region.isalpha() and region != "ZZ" else ""


@functools.lru_cache(maxsize=4096)
def _national(value: bytes, regions: tuple[str, ...], *, strict: bool) -> str | None:
    """The first region where the number is valid; strictly, where it is written as that region groups its digits."""
    library = phone_library()
    written = value.decode()
    for region in regions:
        try:
            number = library.parse(written, region)
        except library.NumberParseException:
            continue
        if not library.is_valid_number_for_region(number, region):
            continue
        if not strict or _groups(written) == _groups(_format(number)):
            return region
    return None


def _format(number: Any) -> str:
    library = phone_library()
    return library.format_number(number, library.PhoneNumberFormat.NATIONAL)


def _groups(written: str) -> list[str]:
    return re.findall(r"\d+", written)


@functools.cache
def phone_library() -> Any:
    """The numbering plans of the world.

    Raises:
        MissingExtra: the library phonenumbers is not installed.
    """
    try:
        import phonenumbers
    except ImportError:
        raise MissingExtra("finding telephone numbers", "data") from None
    return phonenumbers
