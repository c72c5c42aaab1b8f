"""Finding the words and phrases of lists in all documents at once.

A word here is a run of letters and digits, so that punctuation, quotes and line ends beside it do not hide it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..words import Bytes, Hashes, Integers, hash_bytes, mix
from .block import DIGIT, LETTER, Block, Mask

_PREFIX_MASKS = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)


@dataclass(frozen=True)
class PhraseLists:
    """Lists of words and phrases to find.

    Attributes:
        buckets: bool[65536], where the first word of an entry may fall; few other words do.
        firsts: for each number of words, the hashes of the first words of such entries, sorted.
        entries: for each list and number of words, the hashes of its entries, sorted.
    """

    buckets: Mask
    firsts: dict[int, Hashes]
    entries: dict[str, dict[int, Hashes]]


def find_phrases(block: Block, lists: PhraseLists) -> dict[str, Integers]:
    """Where the entries of each list begin, whatever the case: int64[k] bytes, rising."""
    runs = _letter_runs(block)
    likely = np.flatnonzero(lists.buckets[_buckets(runs.data, runs.starts, runs.ends)])
    hashes = _run_hashes(runs, likely)
    found: dict[str, list[Integers]] = {name: [np.zeros(0, np.int64)] for name in lists.entries}
    for length, firsts in lists.firsts.items():
        begins = _member(hashes, firsts)
        first, phrase = likely[begins], hashes[begins]
        for place in range(1, length):
            # The next words of the document, where there are some.
            inside = first + place < runs.ends_of_documents[np.searchsorted(runs.ends_of_documents, first, "right")]
            first, phrase = first[inside], phrase[inside]
            phrase = mix(phrase) + _run_hashes(runs, first + place)
        for name, entries in lists.entries.items():
            if length in entries:
                found[name].append(runs.starts[first[_member(phrase, entries[length])]])
    return {name: np.sort(np.concatenate(places)) for name, places in found.items()}


def split_phrase(text: str) -> list[str]:
    """The words of an entry: its runs of letters and digits."""
    return "".join(letter if letter.isalpha() or letter.isdecimal() else " " for letter in text).split()


@functools.lru_cache(maxsize=8)
def phrase_lists(lists: tuple[tuple[str, tuple[str, ...]], ...]) -> PhraseLists:
    """Lists by name, made ready to be found."""
    buckets = np.zeros(2**16, bool)
    firsts: dict[int, list[Hashes]] = {}
    found: dict[str, dict[int, Hashes]] = {}
    for name, entries in lists:
        by_length: dict[int, set[tuple[bytes, ...]]] = {}
        for entry in entries:
            # Only the letters of ASCII are lowered in the text, so the usual ways to write the others are all listed.
            for spelling in (entry.lower(), entry.upper(), entry.title()):
                words = tuple(word.encode().lower() for word in split_phrase(spelling))
                by_length.setdefault(len(words), set()).add(words)
        found[name] = {}
        for length, group in sorted(by_length.items()):
            columns = [_packed([words[place] for words in sorted(group)]) for place in range(length)]
            data, starts, ends = columns[0]
            buckets[_buckets(data.tobytes() + bytes(4), starts, ends)] = True
            first, *others = (hash_bytes(*column) for column in columns)
            firsts.setdefault(length, []).append(first)
            found[name][length] = np.unique(functools.reduce(lambda phrase, word: mix(phrase) + word, others, first))
    return PhraseLists(buckets, {length: np.unique(np.concatenate(parts)) for length, parts in firsts.items()}, found)


@dataclass(frozen=True)
class _Runs:
    """The runs of letters and digits.

    Attributes:
        data: the lowered bytes, and four more.
        starts, ends: int64[k].
        ends_of_documents: int64[documents], how many runs there are up to the end of each.
    """

    data: bytes
    starts: Integers
    ends: Integers
    ends_of_documents: Integers


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
    return _Runs(block.lowered, starts, ends, np.searchsorted(starts, bounds[1:]))


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


def _member(hashes: Hashes, wanted: Hashes) -> Mask:
    """bool[k], whether each hash is one of the sorted ones, of which there is at least one."""
    return wanted[np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)] == hashes


def _packed(words: Iterable[bytes]) -> tuple[Bytes, Integers, Integers]:
    """Words as one run of bytes, with where each begins and ends."""
    words = list(words)
    lengths = np.array([len(word) for word in words], np.int64)
    ends = np.cumsum(lengths)
    return np.frombuffer(b"".join(words), np.uint8), ends - lengths, ends
