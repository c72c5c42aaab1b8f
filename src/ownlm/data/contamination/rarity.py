"""What a matched word is worth: many bits where it is rare, next to none where every item of a set says it.

A word's worth is its surprisal, the smaller of two estimates: its rank among the commonest English words, and its share
of the evaluation sets' own words (which also serves other languages). It is then discounted where the word belongs to
an n-gram that many items of one set share, as instructions and templates do.

Worth is kept in sixteenths of a bit, as integers, so that sums are exact in any order.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..words import Hashes, Words, find_words, ngrams

if TYPE_CHECKING:
    import pyarrow as pa

Worth = NDArray[np.int32]

SCALE = 16
"""Units of worth in a bit."""

_UNKNOWN = 15.0
_LEAST = 3.0
# The evaluation sets' own shares count only as far as there are words to count: as if this many others had been read.
_PRIOR = 20_000
# An n-gram may stand in this many items of its set, or in this share of them, before it counts as a template.
_FEW_ITEMS = 4
_FEW_SHARE = 0.02


def text_column(texts: list[str]) -> pa.LargeStringArray:
    """Texts as the column that ``find_words`` takes."""
    import pyarrow as pa

    return pa.array(texts, pa.large_string())


def surprisal(words: Words, sample: Hashes) -> NDArray[np.float64]:
    """The surprisal of words in bits, from 3 to 15.

    Args:
        words: the words asked about.
        sample: uint64[k], sorted hashes of all words of the evaluation sets.

    Returns:
        float64[words].
    """
    bits = np.minimum(_by_rank(words), _by_length(words))
    first, last = (np.searchsorted(sample, words.hashes, side=side) for side in ("left", "right"))
    share = np.maximum(last - first, 1) / (len(sample) + _PRIOR)
    return np.clip(np.minimum(bits, -np.log2(share)), _LEAST, _UNKNOWN)


def template_discount(words: Words, sets: NDArray[np.int32], n: int) -> NDArray[np.float64]:
    """How much of its surprisal each word keeps: 1 where its n-grams are a few items' own, near 0 in a set's template.

    Args:
        words: the questions, one document each.
        sets: int32[documents], the evaluation set of each.
        n: the words of an n-gram.

    Returns:
        float64[words], the least factor of the n-grams that hold the word.
    """
    kept = np.ones(len(words))
    for number in np.unique(sets):
        mine = np.flatnonzero(sets == number)
        factors, starts = _gram_factors(words, mine, n)
        for shift in range(n):
            np.minimum.at(kept, starts + shift, factors)
    return kept


def _gram_factors(words: Words, mine: NDArray[np.int64], n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The factor of each n-gram of one set's items, and the word it begins with: float64[k], int64[k]."""
    grams, offsets = ngrams(words, n)
    counts = np.diff(offsets)[mine]
    item = np.repeat(np.arange(len(mine)), counts)
    within = np.arange(len(item)) - np.repeat(np.cumsum(counts) - counts, counts)
    hashes = grams[np.repeat(offsets[:-1][mine], counts) + within]
    _, gram = np.unique(hashes, return_inverse=True)
    # In how many items each n-gram stands; twice in one counts once.
    pairs = np.unique(gram * np.int64(len(mine)) + item)
    items_of_gram = np.bincount(pairs // len(mine), minlength=int(gram.max(initial=-1)) + 1)
    few = max(_FEW_ITEMS, _FEW_SHARE * len(mine))
    return np.minimum(1.0, few / items_of_gram[gram]), np.repeat(words.documents[:-1][mine], counts) + within


def _by_rank(words: Words) -> NDArray[np.float64]:
    """By Zipf's law: the word of rank r is about every (10 r)th (Zipf 1949)."""
    hashes, ranks = _common_words()
    place = np.minimum(np.searchsorted(hashes, words.hashes), len(hashes) - 1)
    rank = np.where(hashes[place] == words.hashes, ranks[place], 2**16)
    return np.log2(10.0 * rank)


def _by_length(words: Words) -> NDArray[np.float64]:
    """Lone letters and numbers say little of a formula, a list or a date: 4 bits for one sign, 2 more for each further
    digit; a Chinese or Japanese character, which is a word of its own here, has about 9 bits."""
    bits = np.full(len(words), _UNKNOWN)
    length = words.ends - words.starts
    ascii_first = words.data[words.starts] < 0x80 if len(words) else np.zeros(0, bool)
    bits[(length == 1) & ascii_first] = 4.0
    digits = np.concatenate([np.zeros(1, np.int64), np.cumsum((words.data >= 48) & (words.data <= 57))])
    number = digits[words.ends] - digits[words.starts] == length
    bits[number] = np.minimum(2.0 + 2.0 * length[number], 12.0)
    bits[(length == 3) & ~ascii_first] = 9.0
    return bits


@functools.cache
def _common_words() -> tuple[Hashes, NDArray[np.int64]]:
    """The hashes of the commonest words, sorted, and their ranks from 1."""
    listed = resources.files(__package__).joinpath("common_words.txt").read_text("utf-8").split("\n")
    words = " ".join(line for line in listed if not line.startswith("#")).split()
    hashes = find_words(text_column(words), "letters").hashes
    order = np.argsort(hashes)
    return hashes[order], order + 1
