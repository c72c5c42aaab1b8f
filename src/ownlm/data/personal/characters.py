"""Texts as one run of bytes, a byte a character, and the scans over it that name the places worth a look."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .options import Kind

Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]

# What stands for the characters beyond ASCII: a letter of an alphabet with capitals, any other sign, and a letter of a
# script without, which may stand right beside a number or an address and is no part of it.
LETTER, OTHER, UNCASED = 0x80, 0x81, 0x82
# How much of the text before and after a place decides about it.
CONTEXT = 60
# Of which some may be blanked, and does not count.
_FAR = 200
# What is found near something else is taken only this far from where the neighbourhood was cut out of its text.
_MARGIN = 400
_BLANK = re.compile(rb"\x81{2,}")
# Two digits of one number stand at most this far apart, as in "1) (2".
GAP = 4

DIGITS = b"0123456789"
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SEPARATORS = b" -.()/"
_PART = re.compile(rb"[0-9](?:[0-9 .()/-]*[0-9])?")


class Found(NamedTuple):
    """A place in ``Characters.flat``."""

    start: int
    end: int
    kind: Kind
    detail: str


@dataclass(frozen=True)
class Characters:
    """Texts one after another, one byte a character, a zero byte after each.

    Full-width forms and the digits of every script are their ASCII counterparts, every space is a space and every dash
    a hyphen; other letters are 0x80 or 0x82 and other signs 0x81. So a place in ``flat`` is a place in the text, and
    patterns need not know Unicode.

    Attributes:
        flat: the bytes.
        starts: int64[documents + 1], where each text begins in ``flat``.
    """

    flat: bytes
    starts: Integers

    @functools.cached_property
    def data(self) -> Bytes:
        """uint8[bytes], ``flat`` as an array."""
        return np.frombuffer(self.flat, np.uint8)

    @functools.cached_property
    def numbers(self) -> Numbers:
        """Where the digits are."""
        return _find_numbers(self.data)

    @functools.cached_property
    def long_words(self) -> tuple[Integers, Integers]:
        """Start and end of every run of at least 16 letters and digits of ASCII, hyphens and underscores."""
        return runs_of(classes(LETTERS + DIGITS + b"_-")[self.data], 16)

    def numbers_of(self, least: int) -> Iterator[tuple[int, int]]:
        """Start and end of every number of at least so many digits; what is blanked parts one from the next."""
        for start, end in self.numbers.with_digits(least):
            if OTHER not in self.flat[start:end]:
                yield start, end
                continue
            for part in _PART.finditer(self.flat, start, end):
                if len(part.group().translate(None, SEPARATORS)) >= least:
                    yield part.span()

    def before(self, place: int, reach: int = CONTEXT) -> bytes:
        """What stands before a place in the same text, in lower case; something blanked is a single byte."""
        text = self.flat[max(0, place - _FAR) : place].rpartition(b"\0")[2]
        return _BLANK.sub(b"\x81", text).lower()[-reach:]

    def after(self, place: int, reach: int = CONTEXT) -> bytes:
        """What stands from a place on in the same text, in lower case; something blanked is a single byte."""
        text = self.flat[place : place + _FAR].partition(b"\0")[0]
        return _BLANK.sub(b"\x81", text).lower()[:reach]

    def around(self, found: Sequence[Found]) -> Neighbourhoods:
        """The neighbourhoods of places, as far as these decide about what stands there."""
        reach = _FAR + _MARGIN
        documents = np.searchsorted(self.starts, [place.start for place in found], side="right") - 1
        areas: list[list[int]] = []
        for place, begin, end in sorted(
            zip(found, self.starts[documents].tolist(), (self.starts[documents + 1] - 1).tolist(), strict=True)
        ):
            start, stop = max(begin, place.start - reach), min(end, place.end + reach)
            if areas and start <= areas[-1][1] and areas[-1][2] == begin:
                areas[-1][1] = max(areas[-1][1], stop)
            else:
                areas.append([start, stop, begin, end])
        pieces = [self.flat[start:stop] for start, stop, _, _ in areas]
        starts = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum([len(piece) + 1 for piece in pieces], out=starts[1:])
        limits = [
            (start if start == begin else start + _MARGIN, stop if stop == end else stop - _MARGIN)
            for start, stop, begin, end in areas
        ]
        offsets = [area[0] - start for area, start in zip(areas, starts[:-1].tolist(), strict=True)]
        return Neighbourhoods(Characters(b"\0".join([*pieces, b""]), starts), offsets, limits)

    def without(self, found: Iterable[Found]) -> Characters:
        """The same texts with places blanked, so that what follows no longer sees them."""
        found = list(found)
        if not found:
            return self
        flat = bytearray(self.flat)
        for place in found:
            flat[place.start : place.end] = bytes([OTHER]) * (place.end - place.start)
        blanked = replace(self, flat=bytes(flat))
        # The scans name places only; the patterns that decide look at the blanked bytes.
        blanked.__dict__["numbers"] = self.numbers
        return blanked


@dataclass(frozen=True)
class Neighbourhoods:
    """What stands around some places, as texts of their own.

    Attributes:
        text: the texts.
        offsets: for each, how far it stands behind its place in the whole.
        limits: for each, the first and the last place in the whole that is not too near a cut.
    """

    text: Characters
    offsets: list[int]
    limits: list[tuple[int, int]]

    def in_whole(self, found: Iterable[Found]) -> list[Found]:
        """What was found in the neighbourhoods, as places in the whole; what is near a cut is left out."""
        found = list(found)
        numbers = np.searchsorted(self.text.starts, [place.start for place in found], side="right") - 1
        moved = []
        for place, number in zip(found, numbers.tolist(), strict=True):
            start, end = place.start + self.offsets[number], place.end + self.offsets[number]
            first, last = self.limits[number]
            if first <= start and end <= last:
                moved.append(place._replace(start=start, end=end))
        return moved


@dataclass(frozen=True)
class Numbers:
    """The digits of a column, and the numbers that they may form.

    Attributes:
        places: int64[digits].
        breaks: int64[groups - 1], the last digit of each group of adjacent digits but the last, as a place in
            ``places``.
        dotted: bool[groups - 1], whether a single full stop stands between a group and the next.
        starts: int64[numbers], the first digit of each run of digits with fewer than ``GAP`` separators, and nothing
            else, between them.
        ends: int64[numbers], behind its last digit.
        digits: int64[numbers], how many digits it has.
    """

    places: Integers
    breaks: Integers
    dotted: NDArray[np.bool_]
    starts: Integers
    ends: Integers
    digits: Integers

    def with_digits(self, least: int) -> list[tuple[int, int]]:
        """Start and end of every number of at least so many digits."""
        enough = self.digits >= least
        return list(zip(self.starts[enough].tolist(), self.ends[enough].tolist(), strict=True))


def to_characters(documents: Sequence[str]) -> Characters:
    """Lays texts out for the scans."""
    starts = np.zeros(len(documents) + 1, np.int64)
    np.cumsum([len(text) + 1 for text in documents], out=starts[1:])
    joined = "\0".join([*documents, ""])
    if joined.isascii():
        return Characters(joined.encode(), starts)
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
    return Characters(_table()[np.minimum(codes, 0xFFFF)].tobytes(), starts)


def places_of(data: Bytes, text: bytes) -> Integers:
    """Every place where a short text stands: int64[places]."""
    length = len(data) - len(text) + 1
    if length <= 0:
        return np.zeros(0, np.int64)
    here = data[:length] == text[0]
    for i in range(1, len(text)):
        here &= data[i : i + length] == text[i]
    return np.flatnonzero(here)


def runs_of(inside: NDArray[np.bool_], least: int) -> tuple[Integers, Integers]:
    """Start and end of every run of at least ``least`` bytes that are inside: int64[runs] each."""
    # Whether all of the next ``width`` bytes are inside, doubled until the width is reached: what remains is rare.
    width = 1
    while width < least:
        step = min(width, least - width)
        inside = inside[:-step] & inside[step:]
        width += step
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if len(inside) and inside[0]:
        edges = np.concatenate([np.zeros(1, np.int64), edges])
    if len(edges) % 2:
        edges = np.append(edges, len(inside))
    return edges[::2], edges[1::2] + (least - 1)


@functools.cache
def classes(members: bytes) -> NDArray[np.bool_]:
    """bool[256], which bytes are among the given."""
    table = np.zeros(256, bool)
    table[list(members)] = True
    return table


def _find_numbers(data: Bytes) -> Numbers:
    # A digit less '0' is below ten, and unsigned bytes wrap: one comparison for two.
    places = np.flatnonzero(data - np.uint8(ord("0")) < 10)
    gaps = np.diff(places)
    breaks = np.flatnonzero(gaps != 1)
    left, width = places[breaks], gaps[breaks]
    separated = width <= GAP
    separator = classes(SEPARATORS)
    for i in range(1, GAP):
        separated &= (width <= i) | separator[data[np.minimum(left + i, len(data) - 1)]]
    dotted = (width == 2) & (data[np.minimum(left + 1, len(data) - 1)] == ord(".")) if len(left) else separated
    ends = breaks[~separated]
    if not len(places):
        return Numbers(places, breaks, dotted, places, places, places)
    first = np.concatenate([np.zeros(1, np.int64), ends + 1])
    last = np.append(ends, len(places) - 1)
    return Numbers(places, breaks, dotted, places[first], places[last] + 1, last - first + 1)


@functools.cache
def _table() -> Bytes:
    """What each character of the basic plane is in ``flat``; beyond it there are only signs, for our purpose."""
    table = np.full(0x10000, OTHER, np.uint8)
    table[:128] = np.arange(128)
    for code in range(128, 0x10000):
        table[code] = _byte_for(chr(code))
    return table


def _byte_for(character: str) -> int:
    if "！" <= character <= "～":
        return ord(character) - 0xFEE0
    category = unicodedata.category(character)
    if category == "Nd":
        return ord("0") + unicodedata.digit(character)
    if category[0] in "LM":
        return UNCASED if category in ("Lo", "Lm") else LETTER
    if category == "Pd" or character == "\u2212":
        return ord("-")
    if category == "Sc":
        return ord("$")
    # Marks of direction and width that stand in numbers copied from a telephone.
    if category in ("Zs", "Cf"):
        return ord(" ")
    return ord("\n") if category in ("Zl", "Zp") or character == "\x85" else OTHER
