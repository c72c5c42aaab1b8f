"""Best-fit packing against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.errors import DataError
from ownlm.tokens.packing import best_fit, split_lengths


def brute_force(lengths: list[int], capacity: int) -> list[int]:
    """How full each bin of best-fit decreasing is, by looking at every bin for every item."""
    bins: list[int] = []
    for length in sorted(lengths, reverse=True):
        room = [i for i, used in enumerate(bins) if used + length <= capacity]
        if room:
            bins[max(room, key=lambda i: bins[i])] += length
        else:
            bins.append(length)
    return sorted(bins)


@given(st.integers(1, 3000).flatmap(lambda c: st.tuples(st.lists(st.integers(1, c), max_size=60), st.just(c))))
def test_it_is_best_fit_decreasing(case: tuple[list[int], int]) -> None:
    lengths, capacity = case
    bins = best_fit(lengths, capacity)
    assert sorted(item for items in bins for item in items) == list(range(len(lengths)))
    assert sorted(sum(lengths[i] for i in items) for items in bins) == brute_force(lengths, capacity)
    assert all(sorted(items, key=lambda i: -lengths[i]) == items for items in bins)
    assert bins == best_fit(np.array(lengths, dtype=np.int32), capacity)


def test_hand_worked() -> None:
    # 6 and 5 open bins; 4 fits both and takes the fuller; 3 goes to the 5; 2 fills it; 1 opens a third.
    assert best_fit([5, 1, 6, 3, 2, 4], 10) == [[2, 5], [0, 3, 4], [1]]


def test_a_million_items_fill_their_bins() -> None:
    lengths = np.random.default_rng(0).integers(1, 2049, 10**6)
    bins = best_fit(lengths, 8192)
    assert sum(map(len, bins)) == len(lengths)
    assert lengths.sum() / (8192 * len(bins)) > 0.999


def test_an_item_longer_than_a_bin() -> None:
    with pytest.raises(DataError, match="item 1 has 11 tokens, more than the 10"):
        best_fit([3, 11], 10)
    assert best_fit([], 10) == []


@given(st.integers(1, 200), st.integers(1, 50))
def test_split_keeps_everything(length: int, limit: int) -> None:
    pieces = split_lengths(length, limit)
    assert sum(pieces) == length
    assert max(pieces) <= limit
    assert len(pieces) == -(-length // limit)
    if length > 1 and limit > 2:
        assert min(pieces) > 1
    assert all(piece == limit for piece in pieces[:-2])
