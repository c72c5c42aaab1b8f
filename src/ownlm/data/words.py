"""Words of many documents at once, as flat arrays: what the signals, the fingerprints and decontamination count.

Nothing here is done a document or a word at a time in Python. A column of texts is one run of UTF-8 bytes; a word is a
range of them and a 64-bit hash. Two different words share a hash with a chance of about 1 in 10^19, so everything that
compares words compares hashes.
"""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["space", "letters"]
Integers = NDArray[np.int64]
Hashes = NDArray[np.uint64]
Bytes = NDArray[np.uint8]

# Odd, so that multiplying by it loses nothing modulo 2^64 (Knuth, The Art of Computer Programming 3, 6.4).
_BASE = np.uint64(0x9E3779B97F4A7C15)
# Bytes hashed at once: the arrays of one block stay in the cache of a core.
_BLOCK = 2**17

# The first bytes of a range are hashed eight at a time, as nearly all words are whole.
_SHORT = 64
_MASKS = np.array([2 ** (8 * size) - 1 for size in range(9)], np.uint64)

_SEPARATOR, _LETTER, _ALONE = range(3)


@dataclass(frozen=True)
class Words:
    """Every word of a column of texts.

    Attributes:
        data: uint8[bytes], the column's UTF-8 bytes, all documents one after another.
        starts: int64[words], where each word begins in ``data``.
        ends: int64[words], where it ends.
        hashes: uint64[words], of the lower-cased word.
        documents: int64[documents + 1]; document i has the words ``documents[i]:documents[i + 1]``.
        bytes: int64[documents + 1], where each document's text begins in ``data``.
    """

    data: Bytes
    starts: Integers
    ends: Integers
    hashes: Hashes
    documents: Integers
    bytes: Integers

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def counts(self) -> Integers:
        """int64[documents], how many words each has."""
        return np.diff(self.documents)


def flat_bytes(texts: pa.LargeStringArray) -> tuple[Bytes, Integers]:
    """The UTF-8 bytes of a column without a copy, and where each document's begin: uint8[bytes], int64[documents + 1]."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if texts.buffers()[2] is None or len(texts) == 0:
        return np.zeros(0, np.uint8), np.zeros(len(texts) + 1, np.int64)
    data = np.frombuffer(texts.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    return data, offsets - offsets[0]


def find_words(texts: pa.LargeStringArray, kind: Kind) -> Words:
    """Finds the words of every document.

    Args:
        texts: the documents; none may be null.
        kind: ``space`` for runs of anything but white space, as Gopher counts words (Rae et al. 2021, appendix A1);
            ``letters`` for runs of letters and digits, without punctuation, where each Chinese or Japanese character
            is a word of its own. Either way the hash is of the word in lower case.
    """
    data, documents = flat_bytes(texts)
    word_of_byte = _classes(data, kind)
    inside = word_of_byte != _SEPARATOR
    begins = inside.copy()
    # A word begins where the byte before it is none of a word, or where a document does, or a character stands alone.
    begins[1:] &= ~inside[:-1]
    first = documents[:-1][documents[:-1] < documents[1:]]
    begins[first] = inside[first]
    if kind == "letters":
        _begin_alone(begins, word_of_byte, data)
    starts = np.flatnonzero(begins)
    # A word ends before the next separator or the next beginning, whichever comes first.
    places = np.flatnonzero(begins | ~inside)
    ends = np.append(places, len(data))[np.flatnonzero(begins[places]) + 1]
    hashes = hash_bytes(_lower(texts, data), starts, ends)
    return Words(data, starts, ends, hashes, np.searchsorted(starts, documents), documents)


def ngrams(words: Words, n: int) -> tuple[Hashes, Integers]:
    """The hashes of the runs of ``n`` words inside each document, in order, and where each document's begin.

    A document with fewer words has none.

    Returns:
        uint64[k] and int64[documents + 1].
    """
    counts = np.maximum(words.counts - (n - 1), 0)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    if len(words) < n:
        return np.zeros(0, np.uint64), offsets
    length = len(words) - n + 1
    hashes = words.hashes[:length].copy()
    for following in range(1, n):
        hashes *= _BASE
        hashes += words.hashes[following : following + length]
    # Those that begin in one document and end in the next are left out.
    keep = np.ones(length, bool)
    ends = words.documents[1:]
    for back in range(1, n):
        crossing = ends - back
        # A document shorter than this has its own first word further on.
        keep[crossing[(crossing >= 0) & (crossing < length) & (crossing >= words.documents[:-1])]] = False
    return mix(hashes[keep]), offsets


def hash_bytes(data: Bytes, starts: Integers, ends: Integers) -> Hashes:
    """The hashes of ranges of bytes, which are read eight bytes at a time.

    Args:
        data: uint8[bytes].
        starts: int64[k], rising.
        ends: int64[k], rising too, each not below its start.

    Returns:
        uint64[k]; equal bytes have equal hashes wherever they stand.
    """
    lengths = ends - starts
    padded = np.append(data, np.zeros(8, np.uint8))
    # Every place of the bytes read as a number of eight, without a copy.
    eights = np.ndarray((len(data) + 1,), "<u8", padded, strides=(1,))
    # The length goes in, so that a range of zeros differs from a shorter one, and one of no bytes from none at all.
    hashes = mix((eights[starts] & _MASKS[np.minimum(lengths, 8)]) + lengths.astype(np.uint64) * _BASE)
    more = np.flatnonzero(lengths > 8)
    for done in range(8, _SHORT, 8):
        left = lengths[more] - done
        hashes[more] = mix(hashes[more] * _BASE + (eights[starts[more] + done] & _MASKS[np.minimum(left, 8)]))
        more = more[left > 8]
    if len(more):
        hashes[more] = mix(hashes[more] * _BASE + _hash_rests(data, starts[more] + _SHORT, ends[more]))
    return hashes


def _hash_rests(data: Bytes, starts: Integers, ends: Integers) -> Hashes:
    """uint64[k], of what is beyond the first bytes of long ranges: a polynomial of its bytes."""
    lengths = ends - starts
    if int(lengths.sum()) * 8 < len(data):
        # Few and far between: the sums run over a copy of them.
        after = np.cumsum(lengths)
        data = data[np.arange(after[-1]) + np.repeat(starts - (after - lengths), lengths)]
        starts, ends = after - lengths, after
    hashes = np.zeros(len(starts), np.uint64)
    values, powers, inverses = _tables(_BLOCK)
    first = 0
    while first < len(starts):
        origin = int(starts[first])
        # Whole ranges only; one longer than a block is summed block by block.
        last = int(np.searchsorted(ends, origin + _BLOCK, side="right"))
        if last <= first:
            hashes[first] = _hash_long(data[origin : int(ends[first])])
            first += 1
            continue
        size = int(ends[first:last].max()) - origin
        sums = np.zeros(size + 1, np.uint64)
        np.cumsum(values[data[origin : origin + size]] * powers[:size], out=sums[1:])
        begin, end = starts[first:last] - origin, ends[first:last] - origin
        hashes[first:last] = (sums[end] - sums[begin]) * inverses[begin]
        first = last
    return hashes


def mix(hashes: Hashes) -> Hashes:
    """Spreads every bit over all others (the finalizer of SplitMix64, Steele et al. 2014)."""
    hashes = hashes ^ (hashes >> np.uint64(30))
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(27)
    hashes *= np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    return hashes


def _hash_long(data: Bytes) -> np.uint64:
    values, powers, _ = _tables(_BLOCK)
    total = np.zeros(1, np.uint64)
    shift = np.ones(1, np.uint64)
    step = powers[-1:] * _BASE
    for start in range(0, len(data), _BLOCK):
        block = data[start : start + _BLOCK]
        total += shift * np.sum(values[block] * powers[: len(block)], dtype=np.uint64)
        shift *= step
    return total[0]


@functools.cache
def _tables(block: int) -> tuple[Hashes, Hashes, Hashes]:
    """A random number for each byte, the powers of the base, and their inverses modulo 2^64."""
    values = mix(np.arange(1, 257, dtype=np.uint64) * _BASE)
    ones = np.full(block, _BASE, np.uint64)
    ones[0] = 1
    inverse = np.full(block, np.uint64(pow(int(_BASE), -1, 2**64)), np.uint64)
    inverse[0] = 1
    # One more inverse than powers: a range of no bytes may begin at a block's end.
    powers, inverses = np.cumprod(ones, dtype=np.uint64), np.cumprod(inverse, dtype=np.uint64)
    return values, powers, np.append(inverses, inverses[-1:] * inverse[-1:])


def _lower(texts: pa.LargeStringArray, data: Bytes) -> Bytes:
    """The bytes in lower case, each at its place.

    A few letters have more or fewer bytes in lower case, such as the Turkish dotted I; a column that holds one is
    lowered letter by letter only where the length stays.
    """
    if not (data >= 0x80).any():
        return np.frombuffer(data.tobytes().lower(), np.uint8)
    import pyarrow as pa
    import pyarrow.compute as pc

    lowered = pc.utf8_lower(texts)
    lengths, before = pc.binary_length(lowered), pc.binary_length(texts)
    if not lengths.equals(before):
        lowered = pc.if_else(pc.equal(lengths, before), lowered, pc.ascii_lower(texts))
    return flat_bytes(lowered.cast(pa.large_string()))[0]


def _classes(data: Bytes, kind: Kind) -> Bytes:
    """Whether each byte is of a separator, a letter, or a character that stands alone."""
    classes = np.frombuffer(data.tobytes().translate(_byte_classes(kind)), np.uint8)
    leads = np.flatnonzero(data >= 0xC2)
    if not len(leads):
        return classes
    classes = classes.copy()
    lead = data[leads]
    for length, first, last in ((2, 0xC2, 0xDF), (3, 0xE0, 0xEF), (4, 0xF0, 0xF4)):
        places = leads[(lead >= first) & (lead <= last)]
        if not len(places):
            continue
        code = data[places].astype(np.int32) & (0x7F >> length)
        for following in range(1, length):
            code = code << 6 | (data[places + following] & 0x3F)
        found = _code_classes(kind)[code] if length < 4 else _far_classes(code, kind)
        for shift in range(length):
            classes[places + shift] = found
    return classes


@functools.cache
def _byte_classes(kind: Kind) -> bytes:
    """The class of each single byte; those of longer characters are looked up by character."""
    return bytes(_class_of(chr(byte), kind) if byte < 0x80 else _LETTER for byte in range(256))


@functools.cache
def _code_classes(kind: Kind) -> Bytes:
    """The class of each character of up to three bytes, by its number."""
    return np.array([_class_of(chr(code), kind) for code in range(0x10000)], np.uint8)


def _far_classes(code: NDArray[np.int32], kind: Kind) -> Bytes:
    """The class of characters of four bytes: pictures are signs, and the planes of ideographs stand alone."""
    classes = np.full(len(code), _LETTER, np.uint8)
    if kind == "letters":
        classes[(code >= 0x1F000) & (code <= 0x1FAFF)] = _SEPARATOR
        classes[(code >= 0x20000) & (code <= 0x3FFFF)] = _ALONE
    return classes


def _class_of(character: str, kind: Kind) -> int:
    if kind == "space":
        return _SEPARATOR if character.isspace() else _LETTER
    code = ord(character)
    # Kana and ideographs, which are written without spaces.
    if 0x3040 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF:
        return _ALONE
    # Letters, the marks on them, and numbers.
    return _LETTER if unicodedata.category(character)[0] in "LMN" else _SEPARATOR


def _begin_alone(begins: NDArray[np.bool_], classes: Bytes, data: Bytes) -> None:
    """Begins a word at every character that stands alone, and at the letter after one."""
    alone = classes == _ALONE
    if not alone.any():
        return
    begins |= alone & ((data & 0xC0) != 0x80)
    begins[1:] |= (classes[1:] == _LETTER) & alone[:-1]
