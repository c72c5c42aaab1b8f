"""The true Jaccard index of pairs of documents, and the filters that spare it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..words import Integers
from .index import Fingerprints
from .options import bands_of, least_matches

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# N-grams, or signatures, held at once: some tens of megabytes.
_SHINGLES = 2**21
_SIGNATURES = 2**15


class Verifier:
    """Compares documents by the n-grams on disk.

    Args:
        fingerprints: of all documents.
        sizes: int64[documents], how many n-grams each has.
    """

    def __init__(self, fingerprints: Fingerprints, sizes: Integers) -> None:
        options = fingerprints.options
        assert options.near is not None
        self._fingerprints = fingerprints
        self._sizes = sizes
        self._threshold = options.near
        self._least = least_matches(options.near, options.permutations)
        self._bands, self._rows = bands_of(options.near, options.permutations)

    def near(self, first: Integers, second: Integers) -> tuple[Integers, Floats]:
        """Which pairs are near-duplicates: their places among the pairs, and their Jaccard index.

        Two filters go before the true index. That of sizes loses nothing: an index is at most the smaller size by the
        larger. That of signatures loses a pair at the threshold with a chance of 1 in a million.
        """
        places = self.possible(first, second)
        near, found = self.true(first[places], second[places])
        return places[near], found

    def true(self, first: Integers, second: Integers) -> tuple[Integers, Floats]:
        """As ``near``, without the filters."""
        found = self.jaccard(first, second)
        near = np.flatnonzero(found >= self._threshold)
        return near, found[near]

    def possible(self, first: Integers, second: Integers, band: int | None = None) -> Integers:
        """The places of the pairs that both filters let through.

        Args:
            band: the band that brought the pairs up; a pair that an earlier band brings up too is left to it.
        """
        places = np.flatnonzero(self._alike_in_size(first, second))
        kept = [np.zeros(0, np.int64)]
        for part in _parts(places, _SIGNATURES):
            matches = self._matches(first[part], second[part])
            good = _count_rows(matches) >= self._least
            if band is not None:
                used = self._bands * self._rows
                shared = matches[:, : used : self._rows].copy()
                for row in range(1, self._rows):
                    shared &= matches[:, row : used : self._rows]
                good &= shared.argmax(axis=1) == band
            kept.append(part[good])
        return np.concatenate(kept)

    def _matches(self, first: Integers, second: Integers) -> Flags:
        """Where the signatures of pairs agree: bool[pairs, permutations]."""
        documents, places = np.unique(np.concatenate([first, second]), return_inverse=True)
        signatures = self._fingerprints.signatures(documents)
        return signatures[places[: len(first)]] == signatures[places[len(first) :]]

    def jaccard(self, first: Integers, second: Integers) -> Floats:
        """The true Jaccard index of each pair: float64[pairs], rounded once."""
        order = np.lexsort((second, first))
        result = np.empty(len(first), np.float64)
        work = np.cumsum(self._sizes[first[order]] + self._sizes[second[order]])
        start = 0
        while start < len(order):
            done = work[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(work, done + _SHINGLES, side="right")))
            part = order[start:end]
            shared = self._shared(first[part], second[part])
            union = self._sizes[first[part]] + self._sizes[second[part]] - shared
            result[part] = shared / union
            start = end
        return result

    def _alike_in_size(self, first: Integers, second: Integers) -> Flags:
        a, b = self._sizes[first], self._sizes[second]
        return np.minimum(a, b) / np.maximum(a, b) >= self._threshold

    def _shared(self, first: Integers, second: Integers) -> Integers:
        """How many n-grams each pair shares; pairs with one first document stand together."""
        import pyarrow as pa

        documents, places = np.unique(np.concatenate([first, second]), return_inverse=True)
        hashes, offsets = self._fingerprints.shingles(documents)
        # Small numbers in place of hashes, so that a set is a row of marks.
        codes = pa.array(hashes).dictionary_encode().indices.to_numpy(zero_copy_only=True)
        marks = np.full(int(codes.max()) + 1 if len(codes) else 0, -1, np.int32)
        begins, ends = offsets[places].tolist(), offsets[places + 1].tolist()
        pairs = len(first)
        shared = np.empty(pairs, np.int64)
        marked = -1
        for pair, one in enumerate(places[:pairs].tolist()):
            if one != marked:
                marked = one
                marks[codes[begins[pair] : ends[pair]]] = one
            shared[pair] = np.count_nonzero(marks[codes[begins[pairs + pair] : ends[pairs + pair]]] == one)
        return shared


def _count_rows(flags: Flags) -> Integers:
    """How many of each row are true, for rows of a multiple of eight: eight at a time, as bytes that cannot overflow."""
    sums = flags.view(np.uint64).sum(axis=1, dtype=np.uint64)
    return sums.view(np.uint8).reshape(-1, 8).sum(axis=1, dtype=np.int64)


def _parts(places: Integers, size: int) -> Iterator[Integers]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
