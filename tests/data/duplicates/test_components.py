"""Connected components against union-find."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.duplicates.components import components


def union_find(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    parent = list(range(count))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(node) for node in range(count)]


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_as_union_find(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = case
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    assert components(count, first, second).tolist() == union_find(count, pairs)


def test_long_chains() -> None:
    count = 20_000
    order = np.random.default_rng(0).permutation(count)
    assert not components(count, order[:-1], order[1:]).any()
    assert not components(count, np.arange(1, count), np.arange(count - 1)).any()
    assert components(0, np.zeros(0, np.int64), np.zeros(0, np.int64)).tolist() == []
