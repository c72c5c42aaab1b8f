"""Shards: every file once, and a new file disturbs only its neighbours."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data import plan
from ownlm.data.plan import Shard, plan_shards
from ownlm.data.sources.records import Unit

MEBIBYTE = 2**20


def unit(name: str, size: int) -> Unit:
    return Unit("source", name, f"/data/{name}", "txt", 0, size, 1, size)


def shards_of(sizes: dict[str, int]) -> list[Shard]:
    units = [unit(name, sizes[name]) for name in sorted(sizes)]
    return plan_shards("source", units, [f"content of {u.name} {u.size}" for u in units])


names = st.dictionaries(st.text("abcdef", min_size=1, max_size=6), st.integers(0, 3 * MEBIBYTE), max_size=60)


@settings(max_examples=100, deadline=None)
@given(names)
def test_every_file_is_in_one_shard_in_order_and_no_shard_is_large(sizes: dict[str, int]) -> None:
    shards = shards_of(sizes)
    assert [u.name for shard in shards for u in shard.units] == sorted(sizes)
    assert all(shard.size <= plan.MOST_BYTES or len(shard.units) == 1 for shard in shards)
    assert all(len(shard.units) == len(shard.contents) > 0 for shard in shards)
    for shard, following in itertools.pairwise(shards):
        # A shard ends because it is full, because the next file would not fit, or by a name.
        assert shard.size >= plan.LEAST_BYTES or shard.size + following.units[0].size > plan.MOST_BYTES


def test_a_file_larger_than_a_shard_stands_alone() -> None:
    shards = shards_of({"a": 10, "b": 100 * MEBIBYTE, "c": 10})
    assert [[u.name for u in shard.units] for shard in shards] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("new", ["0000.txt", "0500x.txt", "1999x.txt", "zzz.txt"])
def test_a_new_file_changes_a_few_shards_of_many(new: str) -> None:
    sizes = {f"{n:04}.txt": 40_000 + n * 7919 % 60_000 for n in range(2000)}
    before = {str(shard.identity) for shard in shards_of(sizes)}
    after = {str(shard.identity) for shard in shards_of(sizes | {new: 50_000})}
    assert len(before) > 50
    assert len(after - before) <= 4


def test_a_changed_file_changes_its_shard_alone() -> None:
    sizes = {f"{n:04}.txt": 50_000 for n in range(500)}
    units = [unit(name, size) for name, size in sizes.items()]
    before = plan_shards("source", units, ["same"] * 500)
    after = plan_shards("source", units, ["same"] * 250 + ["other"] + ["same"] * 249)
    assert len({str(s.identity) for s in after} - {str(s.identity) for s in before}) == 1
