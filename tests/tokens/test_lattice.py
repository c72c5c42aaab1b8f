"""Lattices of words against every way to cut each of them, one after another."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.tokens.lattice import Edges, Lattice

SCORES = {"a": -1.0, "b": -2.0, "ab": -1.5, "ba": -2.5, "aa": -1.75, "aba": -2.25, "abab": -3.0}


def cuts(word: str, pieces: dict[str, float]) -> list[list[str]]:
    """Every way to cut a word into pieces."""
    ways = []
    for places in itertools.product([False, True], repeat=len(word) - 1):
        bounds = [0, *(i + 1 for i, cut in enumerate(places) if cut), len(word)]
        way = [word[begin:end] for begin, end in itertools.pairwise(bounds)]
        if all(piece in pieces for piece in way):
            ways.append(way)
    return ways


def lattice_of(words: list[str], names: list[str]) -> Lattice:
    rows = [
        (number, end, end - begin, names.index(word[begin:end]))
        for number, word in enumerate(words)
        for begin, end in itertools.combinations(range(len(word) + 1), 2)
        if word[begin:end] in names
    ]
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    edges = Edges(*(column.astype(kind) for column, kind in zip(columns, ("i4", "i2", "i1", "i4"), strict=True)))
    return Lattice(np.array(list(map(len, words)), np.int64), edges)


words_of_two = st.lists(st.text("ab", min_size=1, max_size=7), min_size=1, max_size=6, unique=True).map(
    lambda words: sorted(words, key=lambda word: (-len(word), word))
)


@given(words_of_two)
def test_expected_counts_are_sums_over_every_way(words: list[str]) -> None:
    names = list(SCORES)
    expected: Counter[str] = Counter()
    for times, word in enumerate(words, 1):
        ways = cuts(word, SCORES)
        chances = [math.exp(sum(SCORES[piece] for piece in way)) for way in ways]
        for way, chance in zip(ways, chances, strict=True):
            for piece in way:
                expected[piece] += times * chance / sum(chances)
    scores = np.array([SCORES[name] for name in names])
    counts = lattice_of(words, names).expected_counts(scores, np.arange(1.0, len(words) + 1))
    assert counts.tolist() == pytest.approx([expected[name] for name in names])


@given(words_of_two, st.sets(st.sampled_from(sorted(SCORES))))
def test_best_paths_are_the_best_of_every_way(words: list[str], dropped: set[str]) -> None:
    names = list(SCORES)
    left = {name: score for name, score in SCORES.items() if name not in dropped}
    lattice = lattice_of(words, names).without(np.array([name in left for name in names]))
    paths = lattice.best_paths(np.array([SCORES[name] for name in names]))
    for number, word in enumerate(words):
        best = max((sum(left[piece] for piece in way) for way in cuts(word, left)), default=-math.inf)
        assert paths.score[number] == best
        way = [names[piece] for piece in paths.piece[paths.word == number][::-1]]
        if best > -math.inf:
            assert "".join(way) == word and sum(left[piece] for piece in way) == best


def test_words_can_be_left_out() -> None:
    names = list(SCORES)
    words = ["abab", "aba", "bb", "a"]
    fewer = lattice_of(words, names).without(np.ones(len(names), np.bool_), np.array([True, False, True, True]))
    scores = np.array([SCORES[name] for name in names])
    alone = lattice_of(["abab", "bb", "a"], names)
    times = np.array([1.0, 2.0, 3.0])
    assert fewer.expected_counts(scores, times).tolist() == alone.expected_counts(scores, times).tolist()
    assert fewer.best_paths(scores).score.tolist() == alone.best_paths(scores).score.tolist()


def test_of_equally_good_ways_the_one_with_the_longer_last_piece_is_taken() -> None:
    lattice = lattice_of(["aab"], ["a", "b", "aa", "ab"])
    paths = lattice.best_paths(np.array([-1.0, -1.0, -2.0, -2.0]))
    assert paths.piece.tolist() == [3, 0]


def test_a_long_word_does_not_underflow() -> None:
    word = "ab" * 4000
    lattice = lattice_of_long(word)
    counts = lattice.expected_counts(np.array([-20.0, -20.0, -39.0]), np.ones(1))
    # Each pair is cut or not by itself: exp(-40) against exp(-39).
    whole = 1 / (1 + math.exp(-1))
    assert counts.tolist() == pytest.approx([4000 * (1 - whole), 4000 * (1 - whole), 4000 * whole])


def lattice_of_long(word: str) -> Lattice:
    ends = np.arange(1, len(word) + 1)
    pairs = ends[1::2]
    end = np.concatenate([ends, pairs])
    length = np.repeat([1, 2], [len(ends), len(pairs)])
    piece = np.concatenate([(ends + 1) % 2, np.full(len(pairs), 2)])
    edges = Edges(np.zeros(len(end), np.int32), end.astype("i2"), length.astype("i1"), piece.astype("i4"))
    return Lattice(np.array([len(word)]), edges)


def test_no_words_have_no_paths() -> None:
    lattice = lattice_of([], ["a"])
    assert lattice.expected_counts(np.zeros(1), np.zeros(0)).tolist() == [0.0]
    assert len(lattice.best_paths(np.zeros(1)).score) == 0
