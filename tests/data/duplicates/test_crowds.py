"""Documents of one template: no pair lost, and no time lost either."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.duplicates import DuplicateOptions, choose, crowds, find_clusters, find_pairs
from ownlm.data.duplicates.crowds import Crowds, Walk, crowd_lists
from ownlm.data.duplicates.index import Fingerprints
from ownlm.data.duplicates.jaccard import Verifier


def template(count: int, words: int, slots: int, seed: int = 0) -> list[str]:
    """Documents that share all words but those of some slots, far enough apart that each spoils five n-grams."""
    draw = random.Random(seed)
    base = [f"w{draw.randrange(5000)}" for _ in range(words)]
    texts = []
    for _ in range(count):
        text = list(base)
        for slot in range(slots):
            text[5 + slot * (words // slots)] = f"v{draw.randrange(10**9)}"
        texts.append(" ".join(text))
    return texts


@pytest.mark.parametrize("entries", [3, 10**6])
@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(st.text("abc ", max_size=20), min_size=2, max_size=16), st.sampled_from([0.5, 0.6, 0.8, 1.0]))
def test_near_duplicates_share_a_list(
    write_shards: Any, sets_of: Any, near_of: Any, entries: int, texts: list[str], near: float
) -> None:
    options = DuplicateOptions(near=near, ngram=1)
    sets = sets_of(texts, 1)
    documents = np.array([i for i, one in enumerate(sets) if one], np.int64)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(crowds, "_ENTRIES", entries)
        fingerprints = Fingerprints(write_shards(Path(folder), texts, options), options)
        sizes = fingerprints.sizes()
        lists = crowd_lists(fingerprints, documents, sizes, near)
    found = Crowds(lists, sizes, near)
    for i, j in near_of(sets, near):
        assert j in Walk(found, np.ones(len(texts), bool)).around(i)
        assert i in Walk(found, np.ones(len(texts), bool)).around(j)


def test_a_walk_finds_who_is_open() -> None:
    lists = crowds.Lists(np.array([0, 1, 2, 1, 2, 3]), np.full(6, 9), np.array([3, 3]))
    still_open = np.array([True, True, True, False])
    walk = Walk(Crowds(lists, np.full(4, 9), 0.8), still_open)
    assert walk.around(1).tolist() == [0, 2]
    assert walk.around(3).tolist() == [1, 2]
    still_open[[0, 1]] = False
    assert walk.around(0).tolist() == [2]
    assert walk.around(2).tolist() == []
    assert walk.around(5).tolist() == []


# Slots, and the Jaccard index of any two documents: 76 n-grams of 80 words, five spoiled by each slot.
@pytest.mark.parametrize(("slots", "index"), [(1, 71 / 81), (2, 66 / 86), (4, 56 / 96)])
def test_time_grows_with_the_crowd_not_with_its_pairs(
    write_shards: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int, index: float
) -> None:
    count = 20_000
    compared = []
    for name in ("jaccard", "possible"):
        whole = getattr(Verifier, name)

        def counting(self: Verifier, first: Any, *rest: Any, whole: Any = whole) -> Any:
            compared.append(len(first))
            return whole(self, first, *rest)

        monkeypatch.setattr(Verifier, name, counting)
    texts = template(count, 80, slots)
    options = DuplicateOptions()
    found = find_pairs(write_shards(tmp_path, texts, options, 5000), options)
    order = np.random.default_rng(0).permutation(count)
    clusters, choice = find_clusters(found, order), choose(found, order)
    near = index >= 0.8
    assert choice.kept.sum() == (1 if near else count)
    assert len(np.unique(clusters)) == (1 if near else count)
    if near:
        assert choice.kept[np.argmin(order)]
        dropped = choice.jaccard[~choice.kept]
        assert np.median(dropped) == index
    # All pairs would be 200 million.
    assert sum(compared) < 60 * count


def test_families_around_the_threshold(write_shards: Any, sets_of: Any, near_of: Any, tmp_path: Path) -> None:
    """Slots filled from a few choices each, so that pairs lie on both sides of the threshold, in one crowd."""
    draw = random.Random(4)
    base = [f"w{i}" for i in range(90)]
    texts = []
    for _ in range(400):
        text = list(base)
        for slot in range(6):
            text[6 + 14 * slot] = f"v{slot}{draw.randrange(3)}"
        texts.append(" ".join(text))
    options = DuplicateOptions()
    found = find_pairs(write_shards(tmp_path, texts, options), options)
    assert len(found.crowds.members) > 100
    truth = near_of(sets_of(texts))
    order = np.random.default_rng(2).permutation(len(texts))
    kept: list[int] = []
    neighbours: dict[int, set[int]] = {}
    for i, j in truth:
        neighbours.setdefault(i, set()).add(j)
        neighbours.setdefault(j, set()).add(i)
    for document in np.argsort(order).tolist():
        if not neighbours.get(document, set()) & set(kept):
            kept.append(document)
    choice = choose(found, order)
    assert np.flatnonzero(choice.kept).tolist() == sorted(kept)
    assert 10 < len(kept) < 200
    reached: dict[int, int] = {}
    for start in range(len(texts)):
        queue = [start]
        while queue:
            document = queue.pop()
            if document not in reached:
                reached[document] = start
                queue += neighbours.get(document, ())
    clusters = find_clusters(found, np.arange(len(texts)))
    assert clusters.tolist() == [reached[document] for document in range(len(texts))]
