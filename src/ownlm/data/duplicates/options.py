"""What counts as a duplicate, and what follows from it for MinHash."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from ...config import Config

# A pair exactly at the threshold may go unseen with this chance; one above it, with a smaller one.
MISS = 1e-4
# And with this chance, because its signatures agree in too few places.
UNLIKELY = 1e-6


class ParagraphOptions(Config):
    """Which repeated paragraphs are cut.

    CCNet (Wenzek et al. 2020) cuts every copy but the first, of paragraphs of any length. A paragraph that a few
    documents share is often a quotation, so here some copies are let stand.
    """

    min_words: int = Field(default=20, ge=1)
    """Shorter paragraphs are left alone."""

    max_documents: int = Field(default=3, ge=1)
    """A paragraph that stands in more documents than this is kept in one and cut from the others."""


class DuplicateOptions(Config):
    """Which documents are duplicates of another, and which of them is kept."""

    exact: bool = True
    """Drop documents whose text is that of another, white space aside."""

    near: float | None = Field(default=0.8, ge=0.5, le=1.0)
    """Drop documents whose Jaccard index with a kept one, over sets of word n-grams, is at least this; null for none."""

    ngram: int = Field(default=5, ge=1, le=50)
    """Words in an n-gram; punctuation and case do not count. FineWeb takes 5 too (Penedo et al. 2024)."""

    permutations: int = Field(default=128, ge=32, le=1024, multiple_of=8)
    """Length of a MinHash signature; more finds the same pairs with fewer wrong candidates, and takes more disk."""

    paragraphs: ParagraphOptions | None = None
    """Cut repeated paragraphs out of the documents that are kept; null for none."""

    keep: Literal["best", "longest", "first"] = "best"
    """Which of several duplicates is kept: that of the highest quality, the longest, or the first by file and place."""


def bands_of(threshold: float, permutations: int) -> tuple[int, int]:
    """How a signature is cut into bands: (bands, rows of each).

    A pair of Jaccard index s shares a band with the chance 1 - (1 - s^rows)^bands (Broder 1997; Leskovec, Rajaraman and
    Ullman, Mining of Massive Datasets, 3.4). Taken are the most rows that miss a pair at the threshold with a chance of
    at most ``MISS``: 25 bands of 5 rows for 0.8 and 128, which miss 1 in 20,000.
    """
    rows = 1
    for longer in range(2, permutations + 1):
        if (1 - threshold**longer) ** (permutations // longer) <= MISS:
            rows = longer
    return permutations // rows, rows


def least_matches(threshold: float, permutations: int) -> int:
    """In how many places of their signatures two documents must agree to be worth comparing.

    The places in which a pair at the threshold agrees are at most as spread as a binomial distribution; fewer than
    this come up with a chance of at most ``UNLIKELY``.
    """
    total = 0.0
    for matches in range(permutations + 1):
        ways = math.lgamma(permutations + 1) - math.lgamma(matches + 1) - math.lgamma(permutations - matches + 1)
        rest = permutations - matches
        if threshold == 1.0:
            total += float(rest == 0)
        else:
            total += math.exp(ways + matches * math.log(threshold) + rest * math.log1p(-threshold))
        if total > UNLIKELY:
            return matches
    return permutations
