"""The true index against sets in plain Python."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ownlm.data.duplicates import DuplicateOptions, jaccard
from ownlm.data.duplicates.index import Fingerprints
from ownlm.data.duplicates.jaccard import Verifier

OPTIONS = DuplicateOptions(ngram=2, near=0.5)


@pytest.mark.parametrize("block", [1, 100, 10**6])
def test_every_pair(
    write_shards: Any, sets_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(jaccard, "_SHINGLES", block)
    monkeypatch.setattr(jaccard, "_SIGNATURES", block)
    draw = random.Random(3)
    texts = [" ".join(draw.choices("abcd", k=draw.randint(1, 12))) for _ in range(40)]
    fingerprints = Fingerprints(write_shards(tmp_path, texts, OPTIONS, 7), OPTIONS)
    verifier = Verifier(fingerprints, fingerprints.sizes())
    sets = sets_of(texts, 2)
    pairs = list(itertools.product(range(40), repeat=2))
    draw.shuffle(pairs)
    first, second = np.array(pairs).T
    expected = [len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i, j in pairs]
    assert verifier.jaccard(first, second).tolist() == expected
    near, found = verifier.near(first, second)
    assert near.tolist() == [k for k, index in enumerate(expected) if index >= 0.5]
    assert found.tolist() == [index for index in expected if index >= 0.5]


def test_a_pair_is_left_to_the_first_band_that_brings_it_up(write_shards: Any, tmp_path: Path) -> None:
    texts = ["a b c d e f g h i j", "a b c d e f g h i k", "a b c d e f g h x y"]
    fingerprints = Fingerprints(write_shards(tmp_path, texts, OPTIONS), OPTIONS)
    verifier = Verifier(fingerprints, fingerprints.sizes())
    first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
    taken = np.concatenate([verifier.possible(first, second, band) for band in range(64)])
    assert sorted(taken.tolist()) == verifier.possible(first, second).tolist() == [0, 1, 2]
