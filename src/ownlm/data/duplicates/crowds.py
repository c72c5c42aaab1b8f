"""Documents made from one template: bands that thousands share, without comparing each with each.

Two documents of a and b n-grams have a Jaccard index of t or more if they share at least t / (1 + t) (a + b) of them.
Bring the n-grams of all documents into one order, and look at the first that the two share: what comes before it in
either is not shared, so at least that many must be left from it on, in both. That bounds how far into a document one
has to look (the prefix filter of Chaudhuri, Ganti and Kaushik 2006), and which pairs that meet there can be near enough
(the positional filter of Xiao et al. 2008). Neither loses a pair.

In an order of rising frequency the template's own n-grams come last, so documents that share the template but too
little else never meet. What is left are lists of documents that are near-duplicates almost throughout. The pairs of a
long list are not written down: whoever needs them walks the lists, and a document that found its place is taken off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..words import Hashes, Integers, mix
from .fingerprint import sort_runs
from .index import Fingerprints

Counts = NDArray[np.uint32]
Flags = NDArray[np.bool_]

# A table of counts that n-grams fall into by their lowest bits: how often one stands at most.
_COUNTERS = 2**22
# N-grams held at once: some tens of megabytes.
_SHINGLES = 2**21
# Entries of lists sorted at once: some hundreds of megabytes.
_ENTRIES = 2**22
# Keeps document 0 from counting for nothing in a list's hash.
_SALT = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Lists:
    """Lists of documents that share an n-gram, one list after another.

    Attributes:
        members: int64[entries], rising inside each list.
        rests: int64[entries], how many n-grams the document has from the shared one on, this included.
        lengths: int64[lists].
    """

    members: Integers
    rests: Integers
    lengths: Integers

    @property
    def numbers(self) -> Integers:
        """int64[entries], the list of each entry."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def where(self, chosen: Flags) -> Lists:
        """Some of the lists."""
        entries = np.repeat(chosen, self.lengths)
        return Lists(self.members[entries], self.rests[entries], self.lengths[chosen])


def can_be_near(rests: Integers, sizes: Integers, threshold: float) -> Flags:
    """The positional filter.

    Args:
        rests: int64[pairs], the smaller rest of the two.
        sizes: int64[pairs], the n-grams of both together.
    """
    # Rounding must never cost a pair, hence the little that is taken off.
    return rests * (1 + threshold) >= threshold * sizes - 1e-6


def crowd_lists(fingerprints: Fingerprints, documents: Integers, sizes: Integers, threshold: float) -> Lists:
    """Lists of which any two near-duplicates among the documents share one.

    Args:
        documents: int64[k], rising.
        sizes: int64[all documents], how many n-grams each has.
        threshold: the Jaccard index looked for.
    """
    counts = np.zeros(_COUNTERS, np.uint32)
    for _, hashes, _ in _blocks(fingerprints, documents, sizes):
        counts += np.bincount(_counter(hashes), minlength=_COUNTERS).astype(np.uint32)
    needed = np.ceil(threshold * sizes[documents] - 1e-6).astype(np.int64)
    parts = -(-int((sizes[documents] - needed + 1).sum()) // _ENTRIES)
    lists, hashes, keys = Lists(*(np.zeros(0, np.int64),) * 3), np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    for part in range(parts):
        more, more_hashes, more_keys = _lists_of(
            *_prefixes(fingerprints, documents, sizes, needed, counts, part, parts), sizes, threshold
        )
        joined = (np.concatenate(both) for both in zip(_columns(lists), _columns(more), strict=True))
        hashes, keys = np.concatenate([hashes, more_hashes]), np.concatenate([keys, more_keys])
        lists, hashes, keys = _once(Lists(*joined), hashes, keys)
    return lists


def _columns(lists: Lists) -> tuple[Integers, Integers, Integers]:
    return lists.members, lists.rests, lists.lengths


def _blocks(
    fingerprints: Fingerprints, documents: Integers, sizes: Integers
) -> Iterator[tuple[slice, Hashes, Integers]]:
    """Parts of the documents with their n-grams and offsets."""
    total = np.cumsum(sizes[documents])
    start = 0
    while start < len(documents):
        done = int(total[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(total, done + _SHINGLES, side="right")))
        hashes, offsets = fingerprints.shingles(documents[start:end])
        yield slice(start, end), hashes, offsets
        start = end


def _counter(hashes: Hashes) -> Integers:
    return (hashes & np.uint64(_COUNTERS - 1)).astype(np.int64)


def _prefixes(
    fingerprints: Fingerprints,
    documents: Integers,
    sizes: Integers,
    needed: Integers,
    counts: Counts,
    part: int,
    parts: int,
) -> tuple[Hashes, Integers, Integers]:
    """The rarest n-grams of each document: key, document, and rest from there on.

    A key holds the count in its upper bits and most of the hash below: its order is that of rising frequency, the same
    for every document. Two n-grams in one key would only bring up a pair that is then compared for nothing.
    """
    empty = np.zeros(0, np.int64)
    found: list[tuple[Hashes, Integers, Integers]] = [(np.zeros(0, np.uint64), empty, empty)]
    for block, hashes, offsets in _blocks(fingerprints, documents, sizes):
        frequency = np.minimum(counts[_counter(hashes)], 2**20 - 1).astype(np.uint64)
        keys = frequency << np.uint64(44) | hashes >> np.uint64(20)
        sort_runs(keys, offsets)
        lengths = np.diff(offsets)
        rests = np.repeat(offsets[1:], lengths) - np.arange(len(keys))
        # What stands once brings nobody together; and a document comes once to a key.
        chosen = (rests >= np.repeat(needed[block], lengths)) & (keys >> np.uint64(44) > 1)
        first = np.zeros(len(keys), bool)
        first[offsets[:-1][lengths > 0]] = True
        chosen[1:] &= (keys[1:] != keys[:-1]) | first[1:]
        if parts > 1:
            chosen &= mix(keys) % np.uint64(parts) == part
        found.append((keys[chosen], np.repeat(documents[block], lengths)[chosen], rests[chosen]))
    keys, members, rests = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return keys, members, rests


def _lists_of(
    keys: Hashes, members: Integers, rests: Integers, sizes: Integers, threshold: float
) -> tuple[Lists, Hashes, Hashes]:
    """The documents of each key that two or more have: lists, the hash of each one's members, and its key."""
    order = np.argsort(keys, kind="stable")
    keys, members, rests = keys[order], members[order], rests[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.zeros(0, np.int64)
    lists = Lists(members, rests, np.diff(np.append(starts, len(keys))))
    several = lists.lengths > 1
    # Of two near-duplicates the smaller must have enough left for one of its own size.
    able = can_be_near(rests, 2 * sizes[members], threshold)
    if len(starts):
        several &= np.logical_or.reduceat(able, starts)
    lists, keys = lists.where(several), keys[starts][several]
    hashes = np.zeros(len(keys), np.uint64)
    if len(keys):
        begins = np.cumsum(lists.lengths) - lists.lengths
        hashes = np.add.reduceat(mix(lists.members.astype(np.uint64) + _SALT), begins)
    return _once(lists, hashes, keys)


def _once(lists: Lists, hashes: Hashes, keys: Hashes) -> tuple[Lists, Hashes, Hashes]:
    """Of lists with the same members, as neighbouring n-grams of a template bring up, that of the lowest key.

    It comes first in every member's order, so it is there that two of them meet first.
    """
    order = np.lexsort((keys, hashes))
    ordered = hashes[order]
    new = np.ones(len(order), bool)
    new[1:] = ordered[1:] != ordered[:-1]
    chosen = np.zeros(len(order), bool)
    chosen[order[new]] = True
    return lists.where(chosen), hashes[chosen], keys[chosen]


class Crowds:
    """Long lists, to be walked.

    Args:
        lists: with the documents that crowd.
        sizes: int64[all documents], how many n-grams each has.
        threshold: the Jaccard index looked for.
    """

    def __init__(self, lists: Lists, sizes: Integers, threshold: float) -> None:
        self.lists = lists
        self.sizes = sizes
        self.threshold = threshold
        order = np.argsort(lists.members, kind="stable")
        # int64[m], rising: all documents in a list; and where the lists of each begin.
        self.members, begins = np.unique(lists.members[order], return_index=True)
        self._begins = np.append(begins, len(order))
        self._numbers, self._rests = lists.numbers[order], lists.rests[order]

    def lists_of(self, document: int) -> tuple[Integers, Integers]:
        """The lists that a document stands in, and its rest in each."""
        place = int(np.searchsorted(self.members, document))
        if place == len(self.members) or self.members[place] != document:
            return self._numbers[:0], self._rests[:0]
        part = slice(int(self._begins[place]), int(self._begins[place + 1]))
        return self._numbers[part], self._rests[part]


class Walk:
    """Goes from a document to those it may be a near-duplicate of, among those still open.

    Lists lose the documents that are closed, so a crowd of one kind is walked in time linear in its size.

    Args:
        crowds: to be walked.
        still_open: bool[all documents], which are to be found; the walker closes them as it goes.
    """

    def __init__(self, crowds: Crowds, still_open: Flags) -> None:
        self._crowds = crowds
        self._open = still_open
        bounds = np.cumsum(crowds.lists.lengths)[:-1]
        self._members = np.split(crowds.lists.members, bounds) if len(crowds.lists.lengths) else []
        self._rests = np.split(crowds.lists.rests, bounds) if len(crowds.lists.lengths) else []
        self._alive = np.ones(len(self._members), bool)

    def around(self, document: int) -> Integers:
        """The open documents that share a list with this one and can be near it, rising; without itself."""
        numbers, rests = self._crowds.lists_of(document)
        alive = self._alive[numbers]
        found = [np.zeros(0, np.int64)]
        sizes = self._crowds.sizes
        for number, rest in zip(numbers[alive].tolist(), rests[alive].tolist(), strict=True):
            members, theirs = self._members[number], self._rests[number]
            left = self._open[members]
            if not left.all():
                members, theirs = members[left], theirs[left]
                self._members[number], self._rests[number] = members, theirs
                self._alive[number] = len(members) > 0
            able = can_be_near(np.minimum(theirs, rest), sizes[members] + sizes[document], self._crowds.threshold)
            found.append(members[able])
        others = np.unique(np.concatenate(found))
        return others[others != document]
