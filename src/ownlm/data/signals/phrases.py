"""Finding the words and phrases of lists in all documents at once.

A word here is a run of letters and digits, so that punctuation, quotes and line ends beside it do not hide it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..words import Bytes, Hashes, Integers, hash_bytes, mix
from .block import DIGIT, LETTER, Block, Mask

_PREFIX_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)


@dataclass(frozen=True)
class Phrases:
    """Words and phrases to find.

    Attributes:
        buckets: bool[65536], where the first word of an entry may fall; few other words do.
        lengths: for each number of words, the hashes of those entries, sorted, and of their first words.
    """

    buckets: Mask
    lengths: dict[int, tuple[Hashes, Hashes]]


def find_phrases(block: Block, lists: Mapping[str, Phrases]) -> dict[str, Integers]:
    """Where the entries of each list begin, whatever the case: int64[k] bytes, rising."""
    runs = _letter_runs(block)
    buckets = np.logical_or.reduce([entries.buckets for entries in lists.values()])
    likely = np.flatnonzero(buckets[_buckets(runs.data, runs.starts, runs.ends)])
    hashes = _run_hashes(runs, likely)
    return {name: runs.starts[_match(runs, likely, hashes, entries)] for name, entries in lists.items()}


def split_phrase(text: str) -> list[str]:
    """The words of an entry: its runs of letters and digits."""
    return "".join(letter if letter.isalpha() or letter.isdecimal() else " " for letter in text).split()


@functools.lru_cache(maxsize=16)
def phrases(entries: tuple[str, ...]) -> Phrases:
    """Entries made ready to be found."""
    by_length: dict[int, set[tuple[bytes, ...]]] = {}
    for entry in entries:
        # Only the letters of ASCII are lowered in the text, so the usual ways to write the others are all listed.
        for spelling in (entry.lower(), entry.upper(), entry.title()):
            words = tuple(word.encode().lower() for word in split_phrase(spelling))
            by_length.setdefault(len(words), set()).add(words)
    buckets = np.zeros(2**16, bool)
    lengths = {}
    for length, group in sorted(by_length.items()):
        columns = [_packed([words[place] for words in sorted(group)]) for place in range(length)]
        data, starts, ends = columns[0]
        buckets[_buckets(data.tobytes() + bytes(4), starts, ends)] = True
        parts = [hash_bytes(*column) for column in columns]
        lengths[length] = np.unique(_phrase_hashes(parts)), np.unique(parts[0])
    return Phrases(buckets, lengths)


@dataclass(frozen=True)
class _Runs:
    """The runs of letters and digits.

    Attributes:
        data: the lowered bytes, and four more.
        starts, ends: int64[k].
        documents: int64[k].
    """

    data: bytes
    starts: Integers
    ends: Integers
    documents: Integers


def _letter_runs(block: Block) -> _Runs:
    inside = (block.flags & (LETTER | DIGIT)) != 0
    bounds = block.words.bytes
    # Where a run begins or ends, in turn; one that touches the next document's is ended and begun there.
    padded = np.zeros(len(inside) + 2, bool)
    padded[1:-1] = inside
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    starts, ends = edges[::2], edges[1::2]
    middle = bounds[(bounds > 0) & (bounds < len(inside))]
    touching = np.unique(middle[inside[middle - 1] & inside[middle]])
    if len(touching):
        starts, ends = np.sort(np.concatenate([starts, touching])), np.sort(np.concatenate([ends, touching]))
    documents = np.repeat(np.arange(len(block)), np.diff(np.searchsorted(starts, bounds)))
    return _Runs(block.lowered, starts, ends, documents)


def _match(runs: _Runs, likely: Integers, hashes: Hashes, entries: Phrases) -> Integers:
    """int64[k], the first runs of the entries found among the likely ones, rising."""
    found = [np.zeros(0, np.int64)]
    for length, (wanted, firsts) in entries.lengths.items():
        first = likely[_member(hashes, firsts)]
        first = first[first + length <= len(runs.starts)]
        first = first[runs.documents[first] == runs.documents[first + length - 1]]
        parts = [_run_hashes(runs, first + place) for place in range(length)]
        found.append(first[_member(_phrase_hashes(parts), wanted)])
    return np.sort(np.concatenate(found))


def _buckets(data: bytes, starts: Integers, ends: Integers) -> NDArray[np.uint16]:
    """uint16[k], a small hash of the length and of the first four bytes of each word.

    Args:
        data: the bytes, and four more.
        starts: int64[k].
        ends: int64[k].
    """
    # Every place of the bytes read as a number of four, without a copy.
    fours = np.ndarray((len(data) - 3,), "<u4", data, strides=(1,))
    lengths = (ends - starts).astype(np.uint32)
    values = fours[starts]
    values &= _PREFIX_MASKS[np.minimum(lengths, 4)]
    values *= np.uint32(0x9E3779B1)
    values += lengths * np.uint32(0x85EBCA77)
    return (values >> np.uint32(16)).astype(np.uint16)


def _run_hashes(runs: _Runs, chosen: Integers) -> Hashes:
    """uint64[k], the hashes of some runs, which are copied together for it."""
    starts, lengths = runs.starts[chosen], runs.ends[chosen] - runs.starts[chosen]
    ends = np.cumsum(lengths)
    places = np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)
    return hash_bytes(np.frombuffer(runs.data, np.uint8)[places], ends - lengths, ends)


def _phrase_hashes(parts: list[Hashes]) -> Hashes:
    total = parts[0]
    for part in parts[1:]:
        total = mix(total) + part
    return total


def _member(hashes: Hashes, wanted: Hashes) -> Mask:
    """bool[k], whether each hash is one of the sorted ones, of which there is at least one."""
    return wanted[np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)] == hashes


def _packed(words: Iterable[bytes]) -> tuple[Bytes, Integers, Integers]:
    """Words as one run of bytes, with where each begins and ends."""
    words = list(words)
    lengths = np.array([len(word) for word in words], np.int64)
    ends = np.cumsum(lengths)
    return np.frombuffer(b"".join(words), np.uint8), ends - lengths, ends
