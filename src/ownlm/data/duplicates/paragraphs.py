"""Paragraphs that stand in many documents, or twice in one, and what to cut so that each is left once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..words import Hashes, Integers
from .index import Fingerprints
from .jaccard import Flags
from .options import DuplicateOptions

# Paragraphs looked at together: some hundreds of megabytes.
_TOGETHER = 2**22


@dataclass(frozen=True)
class Cuts:
    """What to cut, by document and place.

    Attributes:
        documents: int64[cuts], rising.
        starts, ends: int64[cuts], in characters. A cut takes the blank lines after its paragraph along; where it is a
            document's last, those before it stay, so strip what is left.
    """

    documents: Integers
    starts: Integers
    ends: Integers


def find_repeated_paragraphs(shards: Sequence[Path], options: DuplicateOptions, kept: Flags, ranks: Integers) -> Cuts:
    """The paragraphs to cut from the documents that are kept.

    A paragraph is the same by its words: punctuation, case and white space do not count. Of a paragraph in more
    documents than ``max_documents`` the copy in the document of the lowest rank stays. A second copy inside one
    document goes in any case. Only kept documents count, or a page kept once would lose its text to its own copies.

    Args:
        shards: fingerprint files.
        options: with which they were made; their ``paragraphs`` must be set.
        kept: bool[documents].
        ranks: int64[documents], each once; by document id, the result does not depend on the order of files.
    """
    if options.paragraphs is None:
        raise ValueError("these options do not ask for paragraphs")
    fingerprints = Fingerprints(shards, options)
    total = sum(len(hashes) for hashes, *_ in fingerprints.paragraphs())
    parts = max(1, -(-total // _TOGETHER))
    found = [_cut_part(fingerprints, kept, ranks, part, parts) for part in range(parts)]
    documents, starts, ends = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.lexsort((starts, documents))
    return Cuts(documents[order], starts[order], ends[order])


def _cut_part(
    fingerprints: Fingerprints, kept: Flags, ranks: Integers, part: int, parts: int
) -> tuple[Integers, Integers, Integers]:
    """The cuts among the paragraphs whose hash falls into one part of several."""
    assert fingerprints.options.paragraphs is not None
    hashes, starts, ends, documents = _of_part(fingerprints, kept, part, parts)
    order = np.lexsort((starts, ranks[documents], hashes))
    hashes, starts, ends, documents = hashes[order], starts[order], ends[order], documents[order]
    new = np.ones(len(hashes), bool)
    new[1:] = hashes[1:] != hashes[:-1]
    new_document = new.copy()
    new_document[1:] |= documents[1:] != documents[:-1]
    group = np.cumsum(new) - 1
    count = np.bincount(group[new_document], minlength=1)[group] if len(group) else group
    cut = ~new & (~new_document | (count > fingerprints.options.paragraphs.max_documents))
    return documents[cut], starts[cut], ends[cut]


def _of_part(
    fingerprints: Fingerprints, kept: Flags, part: int, parts: int
) -> tuple[Hashes, Integers, Integers, Integers]:
    empty = np.zeros(0, np.int64)
    chosen: list[tuple[Hashes, Integers, Integers, Integers]] = [(np.zeros(0, np.uint64), empty, empty, empty)]
    for hashes, starts, ends, documents in fingerprints.paragraphs():
        mine = kept[documents] & (hashes % np.uint64(parts) == part)
        chosen.append((hashes[mine], starts[mine], ends[mine], documents[mine]))
    hashes, starts, ends, documents = (np.concatenate(columns) for columns in zip(*chosen, strict=True))
    return hashes, starts, ends, documents
