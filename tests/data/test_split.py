"""The division into training, validation and test."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ownlm.data.split import SPLITS, SplitOptions, assign, empty_splits

HALF = SplitOptions(validation=0.3, test=0.3)
NAMES = st.sampled_from(["a", "b", "ä", "c", "d", "e", "f"])


def split_of(clusters: list[str], groups: list[str | None] | None = None, options: SplitOptions = HALF) -> list[str]:
    taken = assign(pa.array(clusters), None if groups is None else pa.array(groups, pa.string()), options)
    return [SPLITS[code] for code in taken.tolist()]


@given(st.lists(st.tuples(NAMES, st.none() | NAMES), min_size=1, max_size=12))
def test_clusters_and_groups_are_never_divided(rows: list[tuple[str, str | None]]) -> None:
    clusters, groups = [row[0] for row in rows], [row[1] for row in rows]
    split = split_of(clusters, groups)
    for side in (clusters, groups):
        for name in set(side) - {None}:
            assert len({split[i] for i in range(len(rows)) if side[i] == name}) == 1
    # By the definition: whoever is linked, through anyone, goes where the smallest group's or cluster's hash says.
    for i in range(len(rows)):
        linked = {i}
        while True:
            more = {
                j
                for j in range(len(rows))
                for k in linked
                if clusters[j] == clusters[k] or groups[j] == groups[k] is not None
            }
            if more <= linked:
                break
            linked |= more
        named = sorted({f"group:{groups[j]}" for j in linked if groups[j] is not None})
        key = named[0] if named else min(f"cluster:{clusters[j]}" for j in linked)
        digest = hashlib.blake2b(f"ownlm\0{key}".encode(), digest_size=8).digest()
        point = int.from_bytes(digest[:6], "big") / 2**48
        assert split[i] == ("validation" if point < 0.3 else "test" if point >= 0.7 else "train")


def test_shares_are_reached_and_a_salt_gives_another_division() -> None:
    clusters = [f"{i:032x}" for i in range(20_000)]
    options = SplitOptions(validation=0.05, test=0.1)
    counts = np.bincount(assign(pa.array(clusters), None, options), minlength=3)
    assert abs(counts[1] - 1000) < 120 and abs(counts[2] - 2000) < 170
    other = split_of(clusters, options=options.model_copy(update={"salt": "other"}))
    assert other != split_of(clusters, options=options)


def test_documents_stay_where_they_are() -> None:
    draw = random.Random(0)
    clusters = [f"c{draw.randrange(300)}" for _ in range(500)]
    groups = [f"g{draw.randrange(400)}" if draw.random() < 0.3 else None for _ in clusters]
    before = split_of(clusters, groups)
    # Others come, with names before and after, in front and behind.
    more = [f"{draw.choice('abd')}{i}" for i in range(400)]
    after = split_of([*more, *clusters, "zz"], [*([None] * 400), *groups, "a new one"])
    assert after[400:-1] == before
    # A smaller cluster joins a group: the group's name decides.
    assert split_of(["m", "a"], ["customer", "customer"])[0] == split_of(["m"], ["customer"])[0]
    # More of one share takes from training only.
    wider = split_of(clusters, groups, SplitOptions(validation=0.5, test=0.3))
    assert all(new == old or (old, new) == ("train", "validation") for old, new in zip(before, wider, strict=True))


def test_groups_can_be_ignored() -> None:
    clusters, groups = [f"c{i}" for i in range(60)], ["one customer"] * 60
    assert len(set(split_of(clusters, groups))) == 1
    assert split_of(clusters, groups, HALF.model_copy(update={"group": False})) == split_of(clusters)


def test_what_stayed_empty_is_told() -> None:
    options = SplitOptions(validation=0.1, test=0.0)
    assert empty_splits(assign(pa.array(["only"]), None, options), options) in (["validation"], ["train"])
    assert empty_splits(np.array([0, 1], np.uint8), options) == []
    assert empty_splits(np.array([0, 1], np.uint8), HALF) == ["test"]
    assert empty_splits(assign(pa.array([], pa.string()), None, HALF), HALF) == list(SPLITS)
    assert split_of([], []) == []


def test_nothing_would_be_left_to_train_on() -> None:
    with pytest.raises(ValidationError, match="nothing to train on"):
        SplitOptions(validation=0.5, test=0.5)
