"""Which documents belong together, and which of them are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..words import Integers
from .components import components
from .crowds import Walk
from .jaccard import Flags, Floats
from .options import DuplicateOptions
from .pairs import Pairs

if TYPE_CHECKING:
    import pyarrow as pa

# What a document is a duplicate by.
REASONS = ("", "exact-duplicate", "near-duplicate")
_EXACT, _NEAR = 1, 2


@dataclass(frozen=True)
class Choice:
    """Which documents are kept.

    Attributes:
        kept: bool[documents].
        reason: uint8[documents], a place in ``REASONS``; 0 for those kept, and those that were not up for choice.
        of: int64[documents], the kept document that stands for a dropped one; else -1.
        jaccard: float64[documents], the true Jaccard index with it; 0 where there is none.
    """

    kept: Flags
    reason: NDArray[np.uint8]
    of: Integers
    jaccard: Floats


def rank(*columns: pa.Array | pa.ChunkedArray) -> Integers:
    """The place of each row when all are sorted by these columns: int64[rows].

    With a document's id, its source and its place in it, the ranks are the same however the files were ordered.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    names = [str(number) for number in range(len(columns))]
    table = pa.table(list(columns), names=names)
    indices = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in names])
    ranks = np.empty(len(indices), np.int64)
    ranks[indices.to_numpy()] = np.arange(len(indices))
    return ranks


def preference(
    options: DuplicateOptions, ranks: Integers, lengths: Integers, places: Integers, quality: Floats | None = None
) -> Integers:
    """The order in which documents are kept, as the place of each in it: int64[documents], 0 for the first choice.

    Args:
        options: its ``keep`` says which comes first.
        ranks: int64[documents], each once: settles what is equal otherwise.
        lengths: int64[documents], of the texts.
        places: int64[documents], the rank by file and place in it.
        quality: float64[documents], more is better, not-a-number is worst; without it the longest is the best.
    """
    if options.keep == "first":
        keys: tuple[Any, ...] = (ranks, places)
    elif options.keep == "best" and quality is not None:
        keys = (ranks, -lengths, np.where(np.isnan(quality), np.inf, -quality))
    else:
        keys = (ranks, -lengths)
    order = np.lexsort(keys)
    result = np.empty(len(order), np.int64)
    result[order] = np.arange(len(order))
    return result


def find_clusters(pairs: Pairs, ranks: Integers) -> Integers:
    """The cluster of each document: int64[documents], the document of the lowest rank in it.

    A cluster is all that hangs together by exact and near duplicates; a chain of near-duplicates is one cluster even
    if its ends differ, so that no pair of near-duplicates is ever divided.

    Args:
        pairs: of all documents.
        ranks: int64[documents], each once. By document id, a cluster's name does not depend on the order of files.
    """
    first, second = _walk_clusters(pairs)
    everyone = np.arange(len(pairs))
    # A document with the same text has the same n-grams, so ``same`` holds ``exact``.
    copies = np.flatnonzero(pairs.same != everyone)
    links = [(pairs.first, pairs.second), (first, second), (copies, pairs.same[copies])]
    labels = components(len(pairs), *(np.concatenate(side) for side in zip(*links, strict=True)))
    lowest = np.full(len(pairs), len(pairs), np.int64)
    np.minimum.at(lowest, labels, ranks)
    by_rank = np.empty(len(pairs), np.int64)
    by_rank[ranks] = everyone
    return by_rank[lowest[labels]]


def _walk_clusters(pairs: Pairs) -> tuple[Integers, Integers]:
    """Near-duplicates inside crowds, enough of them to hang every crowd's clusters together.

    From each document only those that nobody has reached yet are looked at, breadth first: whoever is reached belongs
    to the cluster being walked, and whoever was reached before had its turn to look at this one.
    """
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    unreached = np.zeros(len(pairs), bool)
    unreached[pairs.crowds.members] = True
    walk = Walk(pairs.crowds, unreached)
    for start in pairs.crowds.members.tolist():
        if not unreached[start]:
            continue
        unreached[start] = False
        queue = [start]
        while queue:
            document = queue.pop()
            others, _ = _near(pairs, document, walk.around(document))
            unreached[others] = False
            queue += others.tolist()
            first.append(np.full(len(others), document))
            second.append(others)
    return np.concatenate(first), np.concatenate(second)


def choose(pairs: Pairs, order: Integers, eligible: Flags | None = None) -> Choice:
    """Keeps documents in the order of preference, and drops each that is a duplicate of one kept before.

    So a document is dropped only if a kept one has the same text, or a true Jaccard index with it at or above the
    threshold; and no two kept documents are duplicates of each other.

    Args:
        pairs: of all documents.
        order: int64[documents], the place of each in the order of preference; see ``preference``.
        eligible: bool[documents], which are up for choice: one that was dropped for another reason keeps nobody out.
    """
    eligible = np.ones(len(pairs), bool) if eligible is None else eligible
    # A group of equal documents stands or falls with its most preferred one.
    best = np.full(len(pairs), len(pairs), np.int64)
    candidates = np.flatnonzero(eligible)
    np.minimum.at(best, pairs.same[candidates], order[candidates])
    of, jaccard = _greedy(pairs, best)
    by_order = np.empty(len(pairs), np.int64)
    by_order[order] = np.arange(len(pairs))
    standing = of[pairs.same]
    kept_by = np.full(len(pairs), -1, np.int64)
    kept_by[candidates] = by_order[best[standing[candidates]]]
    kept = kept_by == np.arange(len(pairs))
    dropped = eligible & ~kept
    reason = np.zeros(len(pairs), np.uint8)
    reason[dropped] = _NEAR
    reason[dropped & (pairs.exact[kept_by] == pairs.exact)] = _EXACT
    result = np.where(dropped, jaccard[pairs.same], 0.0)
    return Choice(kept, reason, np.where(dropped, kept_by, -1), result)


def _greedy(pairs: Pairs, best: Integers) -> tuple[Integers, Floats]:
    """For each group the group that keeps it: itself, or the first in the order that is near it.

    Args:
        best: int64[documents], by the number of a group's first document, the place of its best one in the order; as
            many as there are documents where the group has none.

    Returns:
        int64[documents] and the Jaccard index float64[documents], by the group's first document.
    """
    of = np.arange(len(pairs))
    jaccard = np.ones(len(pairs), np.float64)
    undecided = best < len(pairs)
    first, second = np.concatenate([pairs.first, pairs.second]), np.concatenate([pairs.second, pairs.first])
    by_first = np.argsort(first, kind="stable")
    neighbours = second[by_first]
    found = np.concatenate([pairs.jaccard, pairs.jaccard])[by_first]
    involved = np.unique(np.concatenate([first, pairs.crowds.members]))
    involved = involved[undecided[involved]]
    involved = involved[np.argsort(best[involved])]
    begins, ends = (np.searchsorted(first[by_first], involved, side=side).tolist() for side in ("left", "right"))
    crowded = np.isin(involved, pairs.crowds.members).tolist()
    walk = Walk(pairs.crowds, undecided)
    for place, document in enumerate(involved.tolist()):
        if not undecided[document]:
            continue
        undecided[document] = False
        near, values = neighbours[begins[place] : ends[place]], found[begins[place] : ends[place]]
        if crowded[place]:
            more, more_values = _near(pairs, document, walk.around(document))
            near, values = np.concatenate([near, more]), np.concatenate([values, more_values])
        open_ = undecided[near]
        near = near[open_]
        undecided[near] = False
        of[near] = document
        jaccard[near] = values[open_]
    return of, jaccard


def _near(pairs: Pairs, document: int, others: Integers) -> tuple[Integers, Floats]:
    """Those of the others that are near-duplicates of a document, and their Jaccard index."""
    if not len(others):
        return others, np.zeros(0, np.float64)
    assert pairs.verifier is not None
    places, jaccard = pairs.verifier.near(np.full(len(others), document), others)
    return others[places], jaccard
