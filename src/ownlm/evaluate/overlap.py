"""How far a text agrees with a right one by what they share: ROUGE and chrF."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from .measurement import Floats, Metric

# Lengths of the pieces of letters that chrF counts, and how much more recall counts (Popovic 2015; sacrebleu's defaults).
CHRF_ORDER, CHRF_BETA = 6, 2


def words(text: str) -> list[str]:
    """As ROUGE's own package has them: lower case, letters a to z and digits."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_n(found: str, right: Sequence[str], n: int) -> float:
    """ROUGE-N's F1 (Lin 2004), the best over the right texts: shared runs of n words."""
    return max(_f1_of_counts(_runs(words(found), n), _runs(words(text), n)) for text in right)


def rouge_l(found: str, right: Sequence[str]) -> float:
    """ROUGE-L's F1, the best over the right texts: words shared in their order, with gaps."""

    def one(text: str) -> float:
        a, b = words(found), words(text)
        return _f1(_longest_common(a, b), len(a), len(b))

    return max(map(one, right))


def chrf_rows(found: Sequence[str], right: Sequence[str]) -> Floats:
    """What each pair of texts adds to chrF: pieces of found, of right, and shared, by length: [texts, 3 * 6]."""
    rows = np.zeros((len(found), CHRF_ORDER, 3))
    for place, (a, b) in enumerate(zip(found, right, strict=True)):
        # Spaces do not count.
        letters, others = re.sub(r"\s+", "", a), re.sub(r"\s+", "", b)
        for n in range(1, CHRF_ORDER + 1):
            ours, theirs = _pieces(letters, n), _pieces(others, n)
            # What no right piece could meet does not count (sacrebleu).
            rows[place, n - 1] = ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()
    return rows.reshape(len(found), -1)


def chrf() -> Metric:
    """Of all texts together, from 0 to 1."""

    def of(sums: Floats) -> Floats:
        ours, theirs, shared = np.moveaxis(sums.reshape(*sums.shape[:-1], CHRF_ORDER, 3), -1, 0)
        counted = (ours > 0) & (theirs > 0)
        number = np.maximum(counted.sum(-1), 1)
        precision = np.where(counted, shared / np.maximum(ours, 1), 0).sum(-1) / number
        recall = np.where(counted, shared / np.maximum(theirs, 1), 0).sum(-1) / number
        weight = CHRF_BETA**2
        below = weight * precision + recall
        return np.where(below > 0, (1 + weight) * precision * recall / np.where(below > 0, below, 1), 0.0)

    return Metric("chrf", of, True, 1.0, bounds=(0.0, 1.0))


def _runs(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _pieces(text: str, n: int) -> Counter[str]:
    return Counter(text[i : i + n] for i in range(len(text) - n + 1))


def _f1_of_counts(a: Counter[tuple[str, ...]], b: Counter[tuple[str, ...]]) -> float:
    return _f1((a & b).total(), a.total(), b.total())


def _f1(shared: int, a: int, b: int) -> float:
    return 2 * shared / (a + b) if shared else 0.0


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest sequence that stands in both, with gaps."""
    line = [0] * (len(b) + 1)
    for x in a:
        corner = 0
        for j, y in enumerate(b, 1):
            corner, line[j] = line[j], corner + 1 if x == y else max(line[j], line[j - 1])
    return line[-1]
