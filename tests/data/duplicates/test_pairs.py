"""All near-duplicates against comparing every document with every other."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.duplicates import DuplicateOptions, Pairs, choose, find_clusters, find_pairs, pairs
from ownlm.data.duplicates.pairs import pairs_of_lists
from ownlm.progress import Progress


def everything(found: Pairs) -> dict[tuple[int, int], float]:
    """Every pair that ``find_pairs`` stands for: those written down, those inside crowds, and equal documents."""
    known = dict(
        zip(zip(found.first.tolist(), found.second.tolist(), strict=True), found.jaccard.tolist(), strict=True)
    )
    members = found.crowds.members
    a, b = (members[side] for side in np.triu_indices(len(members), 1))
    assert found.verifier is not None
    places, values = found.verifier.near(a, b)
    known |= dict(zip(zip(a[places].tolist(), b[places].tolist(), strict=True), values.tolist(), strict=True))
    groups: dict[int, list[int]] = {}
    for document, first in enumerate(found.same.tolist()):
        groups.setdefault(first, []).append(document)
    spread = {tuple(sorted((x, y))): j for (i, k), j in known.items() for x in groups[i] for y in groups[k]}
    spread |= {(x, y): 1.0 for group in groups.values() for x in group for y in group if x < y}
    return spread  # type: ignore[return-value]


def test_real_texts_with_edits(
    write_shards: Any, sets_of: Any, near_of: Any, edited: list[str], tmp_path: Path
) -> None:
    options = DuplicateOptions()
    sets = sets_of(edited)
    truth = near_of(sets)
    # The copies are of every kind.
    half = near_of(sets, 0.5)
    assert len(truth) > 120
    assert [sum(low <= j < low + 0.1 for j in half.values()) > 15 for low in (0.5, 0.6, 0.7, 0.8, 0.9)] == [True] * 5
    found = everything(find_pairs(write_shards(tmp_path, edited, options), options))
    wordless = {i for i, one in enumerate(sets) if not one}
    assert {pair: j for pair, j in found.items() if pair[0] not in wordless} == truth
    names = {tuple(sorted((edited[i], edited[j]))) for i, j in found if i in wordless}
    assert names == {("  !!!\n", "!!!")}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.lists(st.text("ab ", max_size=24), max_size=25), st.sampled_from([0.5, 0.6, 0.75, 0.8, 1.0]), st.integers(1, 3)
)
def test_small_alphabets(
    write_shards: Any, sets_of: Any, near_of: Any, texts: list[str], near: float, ngram: int
) -> None:
    options = DuplicateOptions(near=near, ngram=ngram, exact=False)
    with tempfile.TemporaryDirectory() as folder:
        found = everything(find_pairs(write_shards(Path(folder), texts, options, 6), options))
    assert found == near_of(sets_of(texts, ngram), near)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_crowds(write_shards: Any, sets_of: Any, near_of: Any, data: st.DataObject) -> None:
    """The other way of finding candidates, which bands of many documents take, for bands of three."""
    words = st.sampled_from(["a", "b", "c", "d"])
    base = data.draw(st.lists(words, min_size=4, max_size=12))
    edits = data.draw(st.lists(st.lists(st.tuples(st.integers(0, 11), words), max_size=3), max_size=14))
    texts = []
    for edit in edits:
        text = list(base)
        for place, word in edit:
            text[place % len(text)] = word
        texts.append(" ".join(text))
    options = DuplicateOptions(near=data.draw(st.sampled_from([0.5, 0.7, 0.8])), ngram=2)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(pairs, "CROWD", 2)
        found = find_pairs(write_shards(Path(folder), texts, options, 5), options)
        truth = near_of(sets_of(texts, 2), options.near)
        assert everything(found) == truth
        kept = choose(found, np.arange(len(texts))).kept
        assert not any(kept[i] and kept[j] for i, j in truth)


def test_the_same_for_any_order_and_any_shards(write_shards: Any, edited: list[str], tmp_path: Path) -> None:
    options = DuplicateOptions()
    draw = random.Random(1)
    results = []
    for turn, size in enumerate((1000, 50, 7)):
        order = list(range(len(edited)))
        if turn:
            draw.shuffle(order)
        shards = write_shards(tmp_path / str(turn), [edited[i] for i in order], options, size)
        found = find_pairs(shards, options)
        # Whatever the order, a document's rank is its number before it was shuffled.
        ranks = np.array(order)
        clusters, choice = find_clusters(found, ranks), choose(found, ranks)
        rows: list[Any] = [None] * len(order)
        for place, original in enumerate(order):
            kept_by = order[choice.of[place]] if choice.of[place] >= 0 else None
            row = (order[clusters[place]], bool(choice.kept[place]), int(choice.reason[place]), kept_by)
            rows[original] = (*row, float(choice.jaccard[place]))
        results.append(rows)
    assert results[0] == results[1] == results[2]


def test_exact_duplicates_only(write_shards: Any, tmp_path: Path) -> None:
    texts = ["One two.", "one two", " One\n\n two.", "", "\n", "One two.", "!"]
    options = DuplicateOptions(near=None)
    found = find_pairs(write_shards(tmp_path / "exact", texts, options), options)
    assert found.same.tolist() == found.exact.tolist() == [0, 1, 0, 3, 3, 0, 6]
    near = DuplicateOptions(exact=False)
    found = find_pairs(write_shards(tmp_path / "near", texts, near), near)
    assert found.same.tolist() == [0, 0, 0, 3, 4, 0, 6]
    assert found.exact.tolist() == list(range(7))
    assert len(find_pairs([], options)) == len(find_pairs([], near)) == 0


def test_every_process_finds_the_same(write_shards: Any, edited: list[str], tmp_path: Path) -> None:
    shards = write_shards(tmp_path, edited[:80], DuplicateOptions())
    program = (
        "import sys, hashlib\nfrom ownlm.data.duplicates import *\n"
        "found = find_pairs(sys.argv[1:], DuplicateOptions())\n"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in (found.first, found.second, found.jaccard, found.same))).hexdigest())"
    )
    command = [sys.executable, "-c", program, *map(str, shards)]
    runs = [
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": s}).stdout
        for s in "12"
    ]
    assert runs[0] == runs[1] != ""


def test_progress_is_told_of_each_band(write_shards: Any, tmp_path: Path) -> None:
    options = DuplicateOptions()
    with Progress("Finding duplicates", total=25, unit="bands", every=None) as progress:
        find_pairs(write_shards(tmp_path, ["a b c"], options), options, progress)
    assert progress.done == 25


@given(st.lists(st.integers(0, 5), max_size=8))
def test_pairs_of_lists(lengths: list[int]) -> None:
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    found = [pair for a, b in pairs_of_lists(numbers) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    expected = [(i, j) for j in range(len(numbers)) for i in range(j) if numbers[i] == numbers[j]]
    assert sorted(found) == sorted(expected)
