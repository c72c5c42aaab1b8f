"""National numbers of people: identity, tax, social security and health.

Where a number's own structure is strong it stands alone; where one in ten numbers of that length would pass the check,
a word must stand beside it. The checks are those of python-stdnum, which cites each country's rules; the few that ask
for today's date there are worked out here, since a result may not depend on the day.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ...errors import MissingExtra
from .characters import DIGITS, LETTERS, Characters, Found, classes

Check = Callable[[str], bool]


class Rule(NamedTuple):
    """One country's number.

    Attributes:
        country: ISO 3166 code.
        check: a module of python-stdnum, or the name of a check of ours.
        alone: shapes that need no word beside them: 0 for a digit, A for a letter.
        worded: shapes that do.
        words: the words, as a pattern over lower-case bytes.
    """

    country: str
    check: str
    alone: tuple[str, ...]
    worded: tuple[str, ...]
    words: str


_ELEVEN, _TEN, _NINE = "00000000000", "0000000000", "000000000"
_RULES = (
    Rule("US", "social_security", ("000-00-0000",), ("000 00 0000", _NINE), r"ssn|social sec"),
    Rule("US", "us.itin", (), ("000-00-0000", "000 00 0000", _NINE), r"itin|taxpayer"),
    Rule("GB", "nino", ("AA000000A", "AA 00 00 00 A"), ("AA00 0000A", "AA 000000 A"), r"national insurance|\bnino?\b"),
    Rule("GB", "gb.nhs", (), ("000 000 0000", "000-000-0000", _TEN), r"\bnhs\b"),
    Rule("IE", "ie.pps", (), ("0000000A", "0000000AA"), r"\bppsn?\b"),
    Rule("DE", "de.idnr", (), ("00 000 000 000", _ELEVEN), r"steuer|\bid-?nr|\btin\b|tax id"),
    Rule("AT", "at.vnr", (), ("0000 000000", _TEN), r"sozialvers|\bsv-?n"),
    Rule("CH", "ch.ssn", ("000.0000.0000.00",), ("0000000000000",), r"\bahv|\bavs\b|\bavs-"),
    Rule("FR", "fr.nir", ("0 00 00 00 000 000 00",), ("000000000000000",), r"s.curit. sociale|\bnir\b|\binsee\b"),
    Rule("BE", "belgian", ("00.00.00-000.00",), (_ELEVEN,), r"rijksregister|registre national|\binsz\b|\bniss\b"),
    Rule("NL", "nl.bsn", (), (_NINE, "0000.00.000", "000.000.000"), r"\bbsn\b|burgerservice|sofi"),
    Rule("ES", "es.dni", ("00000000A", "00000000-A"), (), r"\bdni\b|\bnif\b"),
    Rule("ES", "es.nie", ("A0000000A", "A-0000000-A", "A-0000000A", "A0000000-A"), (), r"\bnie\b"),
    Rule("PT", "pt.nif", (), (_NINE, "000 000 000"), r"\bnif\b|contribuinte"),
    Rule("SE", "swedish", ("000000-0000", "00000000-0000"), (_TEN, "000000000000"), r"personnummer"),
    Rule("NO", "norwegian", (), (_ELEVEN, "000000 00000"), r"f.dselsn|personn|fnr"),
    Rule("DK", "danish", (), ("000000-0000", _TEN), r"\bcpr\b|personn"),
    Rule("FI", "fi.hetu", ("000000-000A", "000000A000A", "000000-0000", "000000A0000"), (), r"hetu|henkil.tunnus"),
    Rule("PL", "pl.pesel", (), (_ELEVEN,), r"pesel"),
    Rule("CZ", "cz.rc", ("000000/0000",), (_TEN,), r"rodn. ..slo"),
    Rule("RO", "ro.cnp", (), ("0000000000000",), r"\bcnp\b"),
    Rule("TR", "tr.tckimlik", (), (_ELEVEN,), r"kimlik|\bt\.?c\.?\b"),
    Rule("CA", "ca.sin", (), (_NINE, "000 000 000", "000-000-000"), r"\bsin\b|social insurance"),
    Rule("AU", "au.tfn", (), (_NINE, "000 000 000"), r"\btfn\b|tax file"),
    Rule("IN", "in_.aadhaar", (), ("000000000000", "0000 0000 0000", "0000-0000-0000"), r"aadha+r|uidai|\buid\b"),
    Rule("BR", "br.cpf", ("000.000.000-00",), (_ELEVEN,), r"\bcpf\b"),
    Rule("CL", "cl.rut", ("00.000.000-0", "0.000.000-0", "00.000.000-A"), ("00000000-0", "00000000-A"), r"\brut\b"),
    Rule("CN", "chinese", ("000000000000000000", "00000000000000000A"), (), r""),
    Rule("KR", "korean", ("000000-0000000",), ("0000000000000",), r"\brrn\b|resident registration"),
    Rule("ZA", "south_african", (), ("0000000000000", "000000 0000 000"), r"\bid\b|identity"),
    Rule("IT", "it.codicefiscale", ("AAAAAA00A00A000A",), (), r""),
    Rule("MX", "mx.curp", ("AAAA000000AAAAAA00", "AAAA000000AAAAAAA0"), (), r""),
)
_SHAPE = bytes(48 if 48 <= c <= 57 else 65 if chr(c).isalpha() and c < 128 else c for c in range(256))
_RIGHT = re.compile(rb"[ -]?[A-Za-z]{1,2}(?![0-9A-Za-z_\x80])|[A-Za-z][0-9]{3}[0-9A-Za-z](?![0-9A-Za-z_\x80])")
_LEFT = re.compile(rb"[ -]?[A-Za-z]{1,2}(?![0-9A-Za-z_\x80])")
_WORD_OR_PATH = re.compile(rb"[0-9A-Za-z_\x80,./=%&#-]")
_GOES_ON = re.compile(rb"[0-9A-Za-z_\x80%]|[.,/-][0-9A-Za-z]")


def find_national_ids(text: Characters) -> Iterator[Found]:
    """National numbers, by shape first, then by checksum and by the words beside them."""
    rules = _rules_by_shape()
    flat = text.flat
    for start, end in text.numbers_of(6):
        found = None
        for first, last in _extents(flat, start, end):
            if shape := rules.get(flat[first:last].translate(_SHAPE)):
                found = _decide(text, first, last, shape)
                if found:
                    yield found
                    break
        if found is None:
            for piece in re.finditer(rb"[0-9][^ ()]{4,22}[0-9]", flat[start:end]):
                shape = rules.get(piece.group().translate(_SHAPE))
                if shape and (found := _decide(text, start + piece.start(), start + piece.end(), shape)):
                    yield found
    yield from _find_lettered(text, rules)


def _extents(flat: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A number with the letters before and after it, where there are any; then without."""
    if end - start > 30:
        return
    right = _RIGHT.match(flat, end)
    left = _LEFT.match(flat[max(0, start - 4) : start][::-1])
    if left and right:
        yield start - left.end(), right.end()
    if right:
        yield start, right.end()
    yield start, end


def _find_lettered(text: Characters, rules: dict[bytes, list[Rule]]) -> Iterator[Found]:
    """The numbers that are half letters, among the words of 16 and 18 letters and digits."""
    starts, ends = text.long_words
    digit, letter = classes(DIGITS), classes(LETTERS)
    if not len(starts):
        return
    data, lengths = text.data, ends - starts
    keep = (
        ((lengths == 16) | (lengths == 18)) & letter[data[starts]] & digit[data[starts + 6]] & digit[data[starts + 7]]
    )
    for start, end in zip(starts[keep].tolist(), ends[keep].tolist(), strict=True):
        shape = rules.get(text.flat[start:end].translate(_SHAPE))
        if shape and (found := _decide(text, start, end, shape)):
            yield found


def _decide(text: Characters, start: int, end: int, rules: list[Rule]) -> Found | None:
    flat = text.flat
    if _WORD_OR_PATH.match(flat[start - 1 : start] if start else b"") or _GOES_ON.match(flat[end : end + 2]):
        return None
    value = flat[start:end].decode()
    shape = flat[start:end].translate(_SHAPE).decode()
    for rule in rules:
        worded = bool(rule.words and _words(rule.words).search(text.before(start)))
        # Small letters stand in hashes and names of files; alone, a number is written in capitals.
        if (worded or (shape in rule.alone and value == value.upper())) and _check(rule.check)(value.upper()):
            return Found(start, end, "national_id", rule.country)
    return None


@functools.cache
def _rules_by_shape() -> dict[bytes, list[Rule]]:
    table: dict[bytes, list[Rule]] = {}
    for rule in _RULES:
        for shape in rule.alone + rule.worded:
            table.setdefault(shape.encode(), []).append(rule)
    return table


@functools.cache
def _words(pattern: str) -> re.Pattern[bytes]:
    return re.compile(pattern.encode())


def number_module(name: str) -> Any:
    """A module of python-stdnum.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(f"stdnum.{name}")
    except ImportError:
        raise MissingExtra("finding personal data", "data") from None


@functools.cache
def _check(name: str) -> Check:
    ours: dict[str, Check] = {
        "social_security": _is_social_security,
        "nino": _is_nino,
        "belgian": _is_belgian,
        "swedish": _is_swedish,
        "norwegian": _is_norwegian,
        "danish": lambda value: _is_date(re.sub(r"\D", "", value), "dmy"),
        "chinese": _is_chinese,
        "korean": _is_korean,
        "south_african": _is_south_african,
    }
    return ours[name] if name in ours else number_module(name).is_valid


def _is_social_security(value: str) -> bool:
    # There is no area 000: such a number is a stand-in for another.
    return value.startswith("000-") or number_module("us.ssn").is_valid(value.replace(" ", ""))


def _is_nino(value: str) -> bool:
    """UK national insurance numbers (HMRC's manual NIM39110)."""
    letters = value[:2]
    if letters in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"):
        return False
    return bool(re.fullmatch(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]", value.replace(" ", "")))


def _is_date(digits: str, order: str) -> bool:
    """Whether the first six digits can be a day: February has 29, since the century is not always known."""
    parts = {part: int(digits[2 * i : 2 * i + 2]) for i, part in enumerate(order)}
    longest = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return 1 <= parts["m"] <= 12 and 1 <= parts["d"] <= longest[parts["m"] - 1]


def _is_belgian(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    before, after_2000 = int(digits[:9]), int("2" + digits[:9])
    check = int(digits[9:])
    return _is_date(digits, "ymd") and check in (97 - before % 97, 97 - after_2000 % 97)


def _is_swedish(value: str) -> bool:
    digits = re.sub(r"\D", "", value)[-10:]
    return _is_date(digits, "ymd") and number_module("luhn").is_valid(digits)


def _is_norwegian(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    module = number_module("no.fodselsnummer")
    if not _is_date(digits, "dmy"):
        return False
    return digits[9] == module.calc_check_digit1(digits) and digits[10] == module.calc_check_digit2(digits)


def _is_chinese(value: str) -> bool:
    # The library's own check fails on districts that it does not know.
    born = value[6:10]
    return (
        "1850" <= born < "2100"
        and _is_date(value[8:14], "ymd")
        and value[17] == number_module("cn.ric").calc_check_digit(value)
    )


def _is_korean(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    return _is_date(digits, "ymd") and digits[12] == number_module("kr.rrn").calc_check_digit(digits[:12])


def _is_south_african(value: str) -> bool:
    digits = re.sub(r"\D", "", value)
    return _is_date(digits, "ymd") and digits[10] in "012" and number_module("luhn").is_valid(digits)
