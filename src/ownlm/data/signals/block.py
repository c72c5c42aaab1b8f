"""A block of documents taken apart once: characters, words, lines and paragraphs, each as flat arrays.

A line is what stands between two line feeds, without the white space at its ends; a paragraph is a run of lines with no
blank line between them. Blank lines are no lines. Two lines are equal when their words are, whatever the case and the
white space between; two paragraphs, when their lines are.
"""

from __future__ import annotations

import functools
import sys
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..words import Bytes, Hashes, Integers, Words, find_words, hash_bytes, mix

if TYPE_CHECKING:
    import pyarrow as pa

Mask = NDArray[np.bool_]

# What a byte, or the character it belongs to, is: bits of ``Block.flags``.
LETTER, UPPER, LOWER, DIGIT, PUNCTUATION, WIDE, INNER = (np.uint8(1 << bit) for bit in range(7))

_LINE_FEED = 10
# Odd, with its bits spread, so that the numbers of documents and the places of words become keys.
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
# Characters from here on are ideographs, but for the private and the special ones at the end.
_TABLE_END, _IDEOGRAPHS_END = 0x20000, 0x323B0


@dataclass(frozen=True)
class Block:
    """Some documents.

    Attributes:
        words: their words, in Gopher's sense: runs of anything but white space.
        flags: uint8[bytes], the bits above for each byte; of a character of several bytes, all bytes have its bits,
            the first has WIDE too, and the others INNER.
        wide: int64[k], where each character beyond ASCII begins.
        wide_codes: int32[k], its code point.
        newlines: int64[k], where each line feed stands.
        line_words: int64[lines + 1], the first word of each line; a line's words end where the next line's begin.
        paragraph_words: int64[paragraphs + 1], the same of paragraphs.
    """

    words: Words
    flags: Bytes
    wide: Integers
    wide_codes: NDArray[np.int32]
    newlines: Integers
    line_words: Integers
    paragraph_words: Integers

    def __len__(self) -> int:
        return len(self.words.bytes) - 1

    @property
    def data(self) -> Bytes:
        """uint8[bytes], the UTF-8 bytes of all documents."""
        return self.words.data

    def count(self, mask: Mask) -> Integers:
        """int64[documents], how many bytes of each document a mask over all bytes holds."""
        return self.count_at(np.flatnonzero(mask))

    def count_at(self, places: Integers) -> Integers:
        """int64[documents], how many of the places, rising, each document has."""
        return np.diff(np.searchsorted(places, self.words.bytes))

    @cached_property
    def characters(self) -> Integers:
        """int64[documents]."""
        return self.span(self.words.bytes[:-1], self.words.bytes[1:])

    @cached_property
    def word_documents(self) -> NDArray[np.int32]:
        """int32[words], the document of each word."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.words.counts)

    @cached_property
    def word_keys(self) -> Hashes:
        """uint64[words], equal for equal words of one document."""
        return self.words.hashes + document_keys(self.word_documents)

    @cached_property
    def word_characters(self) -> Integers:
        """int64[words]."""
        return self.span(self.words.starts, self.words.ends)

    @cached_property
    def characters_before(self) -> Integers:
        """int64[words + 1], how many characters the words before each have."""
        before = np.zeros(len(self.words) + 1, np.int64)
        np.cumsum(self.word_characters, out=before[1:])
        return before

    @cached_property
    def signs(self) -> Integers:
        """int64[k], the bytes of punctuation and symbols."""
        return np.flatnonzero((self.flags & PUNCTUATION) != 0)

    @cached_property
    def digits(self) -> Integers:
        """int64[k], the bytes of digits."""
        return np.flatnonzero((self.flags & DIGIT) != 0)

    @cached_property
    def sign_bytes(self) -> Bytes:
        """uint8[k], those bytes."""
        return self.data[self.signs]

    @cached_property
    def lines(self) -> Runs:
        """The lines."""
        return Runs.of(self, self.words.hashes, self.line_words, self.line_words)

    @cached_property
    def paragraphs(self) -> Runs:
        """The paragraphs."""
        lines = np.searchsorted(self.line_words, self.paragraph_words)
        return Runs.of(self, self.lines.hashes, lines, self.paragraph_words)

    @cached_property
    def line_signs(self) -> Integers:
        """int64[lines], how many bytes of punctuation, symbols and digits each has."""
        bounds = np.append(self.lines.starts, len(self.data))
        return np.diff(np.searchsorted(self.signs, bounds)) + np.diff(np.searchsorted(self.digits, bounds))

    @cached_property
    def lowered(self) -> bytes:
        """The bytes with the letters of ASCII in lower case, to search in, and four of zero, to read past the end."""
        return self.data.tobytes().lower() + bytes(4)

    def span(self, starts: Integers, ends: Integers) -> Integers:
        """int64[k], how many characters ranges of bytes have."""
        if not len(self.wide):
            return ends - starts
        if len(self._inner) * 32 < len(self.data):
            before = np.searchsorted(self._inner, starts), np.searchsorted(self._inner, ends)
        else:
            before = self._inner_before[starts], self._inner_before[ends]
        return (ends - starts) - (before[1] - before[0])

    @cached_property
    def _inner(self) -> Integers:
        """int64[k], the bytes of characters beyond their first."""
        return np.flatnonzero((self.flags & INNER) != 0)

    @cached_property
    def _inner_before(self) -> Integers:
        """int64[bytes + 1], how many such bytes stand before each byte."""
        before = np.zeros(len(self.data) + 1, np.int64)
        np.cumsum((self.flags & INNER) != 0, out=before[1:])
        return before


@dataclass(frozen=True)
class Runs:
    """Runs of words: lines or paragraphs.

    Attributes:
        starts, ends: int64[k], the bytes of each.
        documents: int32[k], the document of each.
        counts: int64[documents], how many each document has.
        hashes: uint64[k], equal for equal runs.
        repeats: bool[k], whether an equal one stands before it in its document.
    """

    starts: Integers
    ends: Integers
    documents: NDArray[np.int32]
    counts: Integers
    hashes: Hashes
    repeats: Mask

    @staticmethod
    def of(block: Block, hashes: Hashes, firsts: Integers, first_words: Integers) -> Runs:
        """The runs that begin at the given words.

        Args:
            block: the documents.
            hashes: uint64[n], of the words, or of longer parts.
            firsts: int64[k + 1], the first part of each run.
            first_words: int64[k + 1], the first word of each run.
        """
        words = block.words
        first, last = first_words[:-1], first_words[1:] - 1
        documents = block.word_documents[first]
        own = _run_hashes(hashes, firsts)
        places, begins = group(own ^ document_keys(documents))
        repeats = np.zeros(len(first), bool)
        repeats[places[~begins]] = True
        counts = np.diff(np.searchsorted(first, words.documents))
        return Runs(words.starts[first], words.ends[last], documents, counts, own, repeats)

    def total(self, values: NDArray) -> NDArray[np.float64]:
        """float64[documents], the sums of a number, or a truth, for each run."""
        return np.bincount(self.documents, weights=values, minlength=len(self.counts)).astype(np.float64)


def read_block(texts: pa.LargeStringArray) -> Block:
    """Takes documents apart; none may be null."""
    words = find_words(texts, "space")
    data = words.data
    flags = translate(data, _ascii_flags())
    wide = np.flatnonzero(data >= 0xC0)
    codes = _flag_wide(flags, data, wide)
    # The line feeds before each word decide where lines and paragraphs begin.
    newlines = np.flatnonzero(data == _LINE_FEED)
    feeds = np.bincount(np.searchsorted(words.starts, newlines), minlength=len(words) + 1)
    feeds[words.documents[:-1]] = 2
    feeds = feeds[: len(words)]
    ends = [len(words)]
    lines, paragraphs = (np.append(np.flatnonzero(feeds >= least), ends) for least in (1, 2))
    return Block(words, flags, wide, codes, newlines, lines, paragraphs)


def group(keys: Hashes) -> tuple[Integers, Mask]:
    """Groups equal keys.

    The place goes into the low bits of its key, so that an ordinary sort, several times as fast as one that returns the
    order, keeps equal keys together and in their order.

    Args:
        keys: uint64[k], spread over all bits.

    Returns:
        The places 0 to k - 1, equal keys one after another, each group in rising order: int64[k]; and which of them
        begin a group: bool[k].
    """
    if not len(keys):
        return np.zeros(0, np.int64), np.zeros(0, bool)
    bits = np.uint64(max(len(keys) - 1, 1).bit_length())
    sorted_keys = keys >> bits << bits
    sorted_keys |= np.arange(len(keys), dtype=np.uint64)
    sorted_keys.sort()
    places = (sorted_keys & ((np.uint64(1) << bits) - np.uint64(1))).view(np.int64)
    sorted_keys >>= bits
    begins = np.ones(len(keys), bool)
    np.not_equal(sorted_keys[1:], sorted_keys[:-1], out=begins[1:])
    # The bits that the place took away decide too.
    alike = np.flatnonzero(~begins)
    begins[alike] = keys[places[alike]] != keys[places[alike - 1]]
    return places, begins


def listed(text: str) -> tuple[str, ...]:
    """The words of a text, to write a list of them as one."""
    return tuple(text.split())


@dataclass(frozen=True)
class WordSet:
    """A few words to look for among many.

    Attributes:
        hashes: uint64[k], sorted.
        buckets: bool[65536], the upper bits that some of them have: what most other words fail.
    """

    hashes: Hashes
    buckets: Mask

    @staticmethod
    @functools.cache
    def of(words: tuple[str, ...]) -> WordSet:
        """The set of words, which are in lower case."""
        lengths = np.array([len(word.encode()) for word in words], np.int64)
        ends = np.cumsum(lengths)
        data = np.frombuffer("".join(words).encode(), np.uint8)
        hashes = np.unique(hash_bytes(data, ends - lengths, ends))
        buckets = np.zeros(2**16, bool)
        buckets[hashes >> np.uint64(48)] = True
        return WordSet(hashes, buckets)

    def find(self, hashes: Hashes) -> tuple[Integers, Integers]:
        """The places whose hash is one of the set, rising, and which of the set each is: int64[k] each."""
        likely = np.flatnonzero(self.buckets[hashes >> np.uint64(48)])
        chosen = hashes[likely]
        which = np.minimum(np.searchsorted(self.hashes, chosen), len(self.hashes) - 1)
        equal = self.hashes[which] == chosen
        return likely[equal], which[equal]


def document_keys(documents: NDArray[np.integer]) -> Hashes:
    """uint64[k], a number for each document that tells its hashes from those of others."""
    return documents.astype(np.uint64) * _SPREAD


def _run_hashes(hashes: Hashes, firsts: Integers) -> Hashes:
    """uint64[runs], a hash of the hashes of each run in their order."""
    starts = firsts[:-1]
    lengths = np.diff(firsts)
    places = np.arange(len(hashes), dtype=np.int64) - np.repeat(starts, lengths)
    # The place goes in by a product with an odd number of its own.
    weighted = hashes * (mix(places.astype(np.uint64) * _SPREAD + _SPREAD) | np.uint64(1))
    sums = np.zeros(len(hashes) + 1, np.uint64)
    np.cumsum(weighted, out=sums[1:])
    return mix(sums[firsts[1:]] - sums[starts] + lengths.astype(np.uint64))


def translate(data: Bytes, table: bytes) -> Bytes:
    """uint8[k], the entry of a table of 256 for each byte; faster than numpy's own look-up."""
    return np.frombuffer(bytearray(data.tobytes().translate(table)), np.uint8)


def code_points(data: Bytes, starts: Integers) -> NDArray[np.int32]:
    """int32[k], the code points of the characters that begin at the given bytes."""
    first = data[starts].astype(np.int32)
    if not (first >= 0x80).any():
        return first
    codes = first & np.where(first < 0x80, 0x7F, np.where(first < 0xE0, 0x1F, np.where(first < 0xF0, 0x0F, 0x07)))
    for shift, least in ((1, 0xC0), (2, 0xE0), (3, 0xF0)):
        more = np.flatnonzero(first >= least)
        codes[more] = (codes[more] << 6) | (data[starts[more] + shift] & 0x3F)
    return codes


def _flag_wide(flags: Bytes, data: Bytes, wide: Integers) -> NDArray[np.int32]:
    """Sets the flags of the characters beyond ASCII, and returns their code points."""
    codes = code_points(data, wide)
    if not len(wide):
        return codes
    properties = np.where((codes >= _TABLE_END) & (codes < _IDEOGRAPHS_END), LETTER, np.uint8(0))
    small = codes < _TABLE_END
    properties[small] = _character_flags()[codes[small]]
    flags[wide] |= properties
    first = data[wide]
    for shift, least in ((1, 0xC0), (2, 0xE0), (3, 0xF0)):
        more = np.flatnonzero(first >= least)
        flags[wide[more] + shift] |= properties[more]
    return codes


@functools.cache
def _ascii_flags() -> bytes:
    plain = [_flags_of(chr(code)) for code in range(0x80)]
    return bytes([*plain, *[int(INNER)] * 0x40, *[int(WIDE)] * 0x40])


@functools.cache
def _character_flags() -> Bytes:
    """The flags of the first two planes' characters; the surrogates among them are none."""
    assert sys.maxunicode >= _TABLE_END
    return np.array([_flags_of(chr(code)) for code in range(_TABLE_END)], np.uint8)


def _flags_of(character: str) -> int:
    flags = 0
    if character.isalpha():
        flags |= int(LETTER) | int(UPPER) * character.isupper() | int(LOWER) * character.islower()
    elif character.isdecimal():
        flags |= int(DIGIT)
    elif unicodedata.category(character)[0] in "PS":
        flags |= int(PUNCTUATION)
    return flags
