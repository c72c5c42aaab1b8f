"""Hashes of texts against sets and strings in plain Python."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.duplicates import DuplicateOptions, ParagraphOptions, algorithm, fingerprint, schema
from ownlm.data.duplicates.fingerprint import minhash, shingles, sort_runs
from ownlm.data.words import find_words, mix

OPTIONS = DuplicateOptions(paragraphs=ParagraphOptions(min_words=2))
TEXTS = st.lists(st.text("aB \n.", max_size=30), min_size=1, max_size=8)


def taken(texts: list[str], options: DuplicateOptions = OPTIONS) -> dict[str, list[Any]]:
    return fingerprint(pa.array(texts, pa.large_string()), options).to_pydict()


@given(TEXTS, st.integers(1, 5))
def test_sets_of_ngrams(sets_of: Callable[..., list[set]], texts: list[str], ngram: int) -> None:
    hashes, offsets = shingles(find_words(pa.array(texts, pa.large_string()), "letters"), ngram)
    found = [hashes[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    expected = sets_of(texts, ngram)
    assert [len(one) for one in found] == [len(one) for one in expected]
    assert all(one == sorted(set(one)) for one in found)
    for i, j in itertools.combinations(range(len(texts)), 2):
        assert len(set(found[i]) & set(found[j])) == len(expected[i] & expected[j])


@given(TEXTS)
def test_equal_hashes_for_equal_texts_only(sets_of: Callable[..., list[set]], texts: list[str]) -> None:
    rows = taken(texts)
    squeezed, sets = [" ".join(text.split()) for text in texts], sets_of(texts)
    for i, j in itertools.combinations(range(len(texts)), 2):
        assert (rows["exact"][i] == rows["exact"][j]) == (squeezed[i] == squeezed[j])
        assert (rows["set"][i] == rows["set"][j]) == (sets[i] == sets[j])


@given(TEXTS, st.integers(0, 8))
def test_a_row_depends_on_its_own_text_only(texts: list[str], cut: int) -> None:
    whole = fingerprint(pa.array(texts, pa.large_string()), OPTIONS)
    column = pa.array(["before", *texts], pa.large_string())[1:]
    parts = [fingerprint(part, OPTIONS) for part in (column[:cut], column[cut:])]
    assert pa.Table.from_batches(parts).to_pylist() == whole.to_pylist()
    assert whole.schema == schema(OPTIONS)


def test_columns_follow_the_options() -> None:
    assert list(taken(["a"], DuplicateOptions(near=None))) == ["exact"]
    assert list(taken(["a"], DuplicateOptions())) == ["exact", "set", "signature", "shingles"]
    assert "signature" not in taken(["a"], DuplicateOptions(near=None, paragraphs=ParagraphOptions()))


def test_paragraphs_with_their_place_in_characters() -> None:
    texts = ["Größe über alles.\n\nZwei  Wörter\n\nx\n\nzwei wörter!", "", "zwei WÖRTER"]
    rows = taken(texts)
    spans = [
        [text[a:b] for a, b in zip(starts, ends, strict=True)]
        for text, starts, ends in zip(texts, rows["starts"], rows["ends"], strict=True)
    ]
    assert spans == [["Größe über alles.\n\n", "Zwei  Wörter\n\n", "zwei wörter!"], [], ["zwei WÖRTER"]]
    first = rows["paragraphs"][0]
    assert first[1] == first[2] == rows["paragraphs"][2][0] != first[0]


@given(st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=12))
def test_runs_are_sorted_each_for_itself(runs: list[list[int]]) -> None:
    values = np.array([value for run in runs for value in run], np.uint64)
    offsets = np.cumsum([0, *map(len, runs)])
    sort_runs(values, offsets)
    assert values.tolist() == [value for run in runs for value in sorted(run)]


def test_signatures_estimate_the_jaccard_index_without_bias() -> None:
    """The library's estimate against sets of a known index: small sets, large sets, those the bands are laid out for."""
    draw = random.Random(5)
    for size, index in itertools.product((5, 20, 300), (0.3, 0.6, 0.8, 0.95)):
        shared = round(2 * size * index / (1 + index))
        rows, truth = [], shared / (2 * size - shared)
        for _ in range(200):
            pool = mix(np.array([draw.getrandbits(64) for _ in range(2 * size - shared)], np.uint64))
            rows += [np.sort(pool[:size]), np.sort(np.append(pool[:shared], pool[size:]))]
        signatures = minhash(np.concatenate(rows), np.arange(0, 400 * size + 1, size), 128)
        matches = signatures[::2] == signatures[1::2]
        # 25,600 places, so a standard deviation of at most 0.0031; the bands of one pair are not quite independent.
        assert abs(matches.mean() - truth) < 0.013
        bands = matches[:, :125].reshape(-1, 25, 5).all(axis=2)
        assert abs(bands.mean() - truth**5) < 0.03
        if truth >= 0.8:
            assert bands.any(axis=1).all()


def test_the_key_tells_of_other_signatures() -> None:
    assert algorithm(DuplicateOptions()) == algorithm(DuplicateOptions(near=0.9))
    assert algorithm(DuplicateOptions()) != algorithm(DuplicateOptions(permutations=64))
    assert algorithm(DuplicateOptions(near=None)) == "1"


def test_every_process_takes_the_same() -> None:
    program = (
        "import hashlib, pyarrow as pa\n"
        "from ownlm.data.duplicates import *\n"
        "texts = pa.array([' '.join(f'w{i * j % 97}' for i in range(j)) for j in range(40)], pa.large_string())\n"
        "batch = fingerprint(texts, DuplicateOptions(paragraphs=ParagraphOptions()))\n"
        "print(hashlib.sha256(batch.serialize()).hexdigest())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": s}
        )
        for s in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout != ""
