"""Who is kept, against the rule taken literally."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.duplicates import DuplicateOptions, choose, find_clusters, find_pairs, preference, rank
from ownlm.data.split import SplitOptions, assign


@settings(derandomize=True, deadline=None, max_examples=80)
@given(st.lists(st.text("ab .", max_size=16), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_best_first(write_shards: Any, sets_of: Any, near_of: Any, texts: list[str], draw: Any) -> None:
    options = DuplicateOptions(near=0.6, ngram=2)
    order = np.array(draw.sample(range(len(texts)), len(texts)))
    eligible = np.array([draw.random() < 0.8 for _ in texts])
    with tempfile.TemporaryDirectory() as folder:
        found = find_pairs(write_shards(Path(folder), texts, options, 7), options)
        choice = choose(found, order, eligible)
    near = near_of(sets_of(texts, 2), 0.6)
    equal = {(i, j) for j in range(len(texts)) for i in range(j) if texts[i].split() == texts[j].split()}
    index = {**near, **dict.fromkeys(equal, 1.0)}
    kept: list[int] = []
    for document in np.argsort(order).tolist():
        if not eligible[document]:
            assert (choice.reason[document], choice.of[document], choice.kept[document]) == (0, -1, False)
            continue
        by = next((k for k in kept if (min(k, document), max(k, document)) in index), None)
        if by is None:
            kept.append(document)
            assert (choice.reason[document], choice.of[document], choice.jaccard[document]) == (0, -1, 0)
            continue
        pair = (min(by, document), max(by, document))
        assert choice.of[document] == by
        assert choice.jaccard[document] == index[pair]
        assert choice.reason[document] == (1 if pair in equal else 2)
    assert np.flatnonzero(choice.kept).tolist() == sorted(kept)


def test_clusters_hang_together_and_are_named_by_rank(write_shards: Any, tmp_path: Path) -> None:
    words = [f"w{i}" for i in range(60)]
    # Each near the next, the first and the last are not near each other.
    chain = [" ".join(words[i : i + 40]) for i in range(0, 16, 2)]
    texts = [*chain, "alone", " ".join(words[:40]).upper()]
    options = DuplicateOptions()
    found = find_pairs(write_shards(tmp_path, texts, options, 3), options)
    assert found.verifier is not None
    assert found.verifier.jaccard(np.array([0]), np.array([7])) < 0.5
    assert find_clusters(found, np.arange(10)).tolist() == [0] * 8 + [8, 0]
    assert find_clusters(found, np.arange(10)[::-1]).tolist() == [9] * 8 + [8, 9]
    kept = choose(found, np.arange(10)).kept
    assert kept[0] and not kept[1] and not kept[9]


def test_no_pair_crosses_splits(
    write_shards: Any, sets_of: Any, near_of: Any, edited: list[str], tmp_path: Path
) -> None:
    options = DuplicateOptions()
    ids = pa.array([hashlib.sha256(text.encode()).hexdigest() for text in edited])
    clusters = find_clusters(find_pairs(write_shards(tmp_path, edited, options), options), rank(ids))
    split = assign(ids.take(pa.array(clusters)), None, SplitOptions(validation=0.3, test=0.3))
    assert np.bincount(split, minlength=3).min() > 30
    assert not [pair for pair in near_of(sets_of(edited)) if split[pair[0]] != split[pair[1]]]


def test_the_order_of_preference() -> None:
    ranks, places = np.array([3, 0, 2, 1]), np.array([0, 1, 2, 3])
    lengths = np.array([5, 7, 5, 7])
    quality = np.array([0.5, np.nan, 0.5, 0.1])

    def order(keep: str, quality: Any = None) -> list[int]:
        return np.argsort(preference(DuplicateOptions(keep=keep), ranks, lengths, places, quality)).tolist()

    assert order("first") == [0, 1, 2, 3]
    assert order("longest") == order("best") == [1, 3, 2, 0]
    assert order("longest", quality) == [1, 3, 2, 0]
    assert order("best", quality) == [2, 0, 3, 1]


def test_ranks() -> None:
    ids, sources, lines = pa.array(["b", "a", "b", "a"]), pa.array(["x", "y", "x", "ä"]), pa.array([2, 1, 1, 9])
    assert rank(ids, sources, lines).tolist() == [3, 0, 2, 1]
    assert rank(pa.chunked_array([["b"], ["a"]])).tolist() == [1, 0]
