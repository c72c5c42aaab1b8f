"""The near-duplicates of a whole corpus: who has the same text, the same n-grams, or nearly the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...progress import Progress
from ..words import Hashes, Integers
from .crowds import Crowds, Lists, can_be_near, crowd_lists
from .index import Fingerprints
from .jaccard import Flags, Floats, Verifier
from .options import DuplicateOptions, bands_of

# A band shared by more documents than this is a crowd. Comparing all of a band costs at most half of this, times the
# documents, in signatures.
CROWD = 64
# Candidate pairs held at once.
_PAIRS = 2**20


@dataclass(frozen=True)
class Pairs:
    """What ``find_pairs`` found. Documents go by their number, in the order of the shards.

    Attributes:
        options: those of the search.
        exact: int64[documents], the first document with the same text, white space aside; a document's own number
            where it is the first, or where exact duplicates are not looked for.
        same: int64[documents], the first document with the same text or the same set of n-grams.
        first, second: int64[pairs], near-duplicates of true Jaccard index at or above the threshold, each the first of
            its ``same``. Pairs inside a crowd may be missing: ``crowds`` holds those.
        jaccard: float64[pairs].
        crowds: documents so alike that writing down all pairs of them would take too long.
        verifier: compares any two documents; None where near-duplicates are not looked for.
    """

    options: DuplicateOptions
    exact: Integers
    same: Integers
    first: Integers
    second: Integers
    jaccard: Floats
    crowds: Crowds
    verifier: Verifier | None

    def __len__(self) -> int:
        return len(self.same)


def find_pairs(shards: Sequence[Path], options: DuplicateOptions, progress: Progress | None = None) -> Pairs:
    """Finds the duplicates of all documents in the fingerprint files ``shards``.

    Every pair with a Jaccard index of at least ``options.near`` is found, but for 1 in 10,000 exactly at the threshold
    and fewer above it; no other pair is. One band is in memory at a time.

    Args:
        progress: is told of each band.

    Raises:
        DamagedError: a file cannot be read, or was made with other options.
    """
    fingerprints = Fingerprints(shards, options)
    everyone = np.arange(len(fingerprints))
    exact = _first_of(fingerprints.hashes("exact")) if options.exact else everyone
    none = np.zeros(0, np.int64)
    if options.near is None:
        crowds = Crowds(Lists(none, none, none), none, 1.0)
        return Pairs(options, exact, exact, none, none, none.astype(np.float64), crowds, None)
    sizes = fingerprints.sizes()
    # Without a word there is no set to compare.
    same = np.where(sizes > 0, _first_of(fingerprints.hashes("set")), exact)
    verifier = Verifier(fingerprints, sizes)
    documents = np.flatnonzero((same == everyone) & (sizes > 0))
    first, second, crowded = _from_bands(fingerprints, verifier, documents, progress)
    lists = crowd_lists(fingerprints, np.flatnonzero(crowded), sizes, options.near)
    crowds = Crowds(lists.where(lists.lengths > CROWD), sizes, options.near)
    inside = crowded[first] & crowded[second]
    more_first, more_second = _from_lists(verifier, lists.where(lists.lengths <= CROWD), sizes, options.near)
    first = np.concatenate([first[~inside], more_first])
    second = np.concatenate([second[~inside], more_second])
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    places, jaccard = verifier.true(first, second)
    return Pairs(options, exact, same, first[places], second[places], jaccard, crowds, verifier)


def _first_of(hashes: Hashes) -> Integers:
    """For each row of uint64[documents, 2] the first row equal to it."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(order), np.int64)
    # The sort is stable, so the first of a run of equals is the first of all.
    first[order] = order[np.flatnonzero(new)[np.cumsum(new) - 1]] if len(order) else order
    return first


def _from_bands(
    fingerprints: Fingerprints, verifier: Verifier, documents: Integers, progress: Progress | None
) -> tuple[Integers, Integers, Flags]:
    """Candidates that share a band, and which documents stand in a crowd."""
    options = fingerprints.options
    assert options.near is not None
    crowded = np.zeros(len(fingerprints), bool)
    firsts, seconds = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for band in range(bands_of(options.near, options.permutations)[0]):
        members, lists = _runs(fingerprints.band(band, documents), documents)
        large = np.bincount(lists)[lists] > CROWD if len(lists) else np.zeros(0, bool)
        crowded[members[large]] = True
        members, lists = members[~large], lists[~large]
        for a, b in pairs_of_lists(lists):
            first, second = members[a], members[b]
            places = verifier.possible(first, second, band)
            firsts.append(first[places])
            seconds.append(second[places])
        if progress is not None:
            progress.advance()
    return np.concatenate(firsts), np.concatenate(seconds), crowded


def _runs(keys: Hashes, documents: Integers) -> tuple[Integers, Integers]:
    """The documents whose key another one has too, by key and then number, and a number for each key."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.ones(len(order), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    alone = new & np.append(new[1:], True)
    return documents[order[~alone]], np.cumsum(new)[~alone]


def pairs_of_lists(lists: Integers) -> Iterator[tuple[Integers, Integers]]:
    """All pairs of entries of the same list, in parts of bounded size: their places, the lower one first.

    Args:
        lists: int64[entries], rising, the list of each.
    """
    places = np.arange(len(lists))
    distance = 0
    while len(places):
        distance += 1
        places = places[places + distance < len(lists)]
        places = places[lists[places] == lists[places + distance]]
        for start in range(0, len(places), _PAIRS):
            part = places[start : start + _PAIRS]
            yield part, part + distance


def _from_lists(verifier: Verifier, lists: Lists, sizes: Integers, threshold: float) -> tuple[Integers, Integers]:
    """Candidates that share a list, each pair once."""
    found = [np.zeros(0, np.uint64)]
    for a, b in pairs_of_lists(lists.numbers):
        first, second = lists.members[a], lists.members[b]
        able = can_be_near(np.minimum(lists.rests[a], lists.rests[b]), sizes[first] + sizes[second], threshold)
        # The same pair stands in many lists.
        pairs = np.unique(first[able].astype(np.uint64) << np.uint64(32) | second[able].astype(np.uint64))
        found.append(pairs[verifier.possible(*_split(pairs))])
    return _split(np.unique(np.concatenate(found)))


def _split(pairs: Hashes) -> tuple[Integers, Integers]:
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(2**32 - 1)).astype(np.int64)
