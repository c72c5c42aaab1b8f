"""The index: units, seeds and coverage by brute force; saved, loaded, told apart."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.contamination.index import EvaluationIndex
from ownlm.data.contamination.rarity import text_column
from ownlm.data.contamination.sets import Item
from ownlm.data.words import find_words
from ownlm.errors import DamagedError

LONG = " ".join(f"w{number} then" for number in range(260))


def hashes_of(text: str) -> list[int]:
    return find_words(text_column([text]), "letters").hashes.tolist()


def unit_texts(index: EvaluationIndex, texts: Sequence[str]) -> list[str]:
    """The words of each unit, read back from their hashes."""
    names = {value: word for text in texts for word in text.split() for value in hashes_of(word)}
    bounds = zip(index.unit_offsets[:-1], index.unit_offsets[1:], strict=True)
    return [" ".join(names[value] for value in index.unit_words[a:b].tolist()) for a, b in bounds]


def test_questions_become_units() -> None:
    texts = ["who wrote the log", "too short", LONG, "who wrote the log"]
    index = EvaluationIndex.build([Item("s", str(number), text) for number, text in enumerate(texts)])
    units = unit_texts(index, texts)
    assert units[0] == texts[0]
    # 520 words make three pieces of nearly one length, and nothing is lost between them.
    assert " ".join(units[1:]) == LONG
    assert index.unit_lengths.tolist() == [4, 173, 174, 173]
    assert index.unit_ends.tolist() == [True, False, False, True]
    members = [index.unit_items[a:b].tolist() for a, b in zip(index.unit_item_offsets, index.unit_item_offsets[1:])]
    assert members == [[0, 3], [2], [2], [2]]


words = st.lists(st.sampled_from(["ibis", "newt", "the", "of", "yak", "emu"]), max_size=9).map(" ".join)


@given(st.lists(words, max_size=12), st.integers(2, 5))
def test_seeds_are_the_n_grams_of_the_units(texts: list[str], ngram: int) -> None:
    index = EvaluationIndex.build([Item("s", str(n), text) for n, text in enumerate(texts)], ngram=ngram)
    units = [text.split() for text in unit_texts(index, texts)]
    assert units == [list(text) for text in dict.fromkeys(tuple(text.split()) for text in texts) if len(text) >= 3]
    assert np.array_equal(index.seeds, np.unique(index.seeds))
    places: dict[tuple[str, ...], set[tuple[int, int]]] = {}
    for unit, place, seed in zip(
        index.seed_units.tolist(),
        index.seed_places.tolist(),
        np.repeat(np.arange(len(index.seeds)), np.diff(index.seed_offsets)).tolist(),
        strict=True,
    ):
        size = min(ngram, len(units[unit]))
        gram = tuple(units[unit][place : place + size])
        assert len(gram) == size
        places.setdefault((str(seed), *gram), set()).add((unit, place))
    # One seed is one n-gram.
    assert len({name[1:] for name in places}) == len(places) == len(index.seeds)
    for unit, text in enumerate(units):
        grams = len(text) - min(ngram, len(text)) + 1
        kept = int((index.seed_units == unit).sum())
        assert min(4, grams) <= kept <= grams
    # What the seeds of a unit cover, word by word.
    for unit, text in enumerate(units):
        size = min(ngram, len(text))
        covered = {place + k for place in index.seed_places[index.seed_units == unit].tolist() for k in range(size)}
        worth = index.unit_worth[index.unit_offsets[unit] :][: len(text)]
        assert index.coverable[unit] == sum(int(worth[place]) for place in covered)


def test_saved_and_loaded(index: EvaluationIndex, items: list[Item], tmp_path: Path) -> None:
    index.save(tmp_path / "one.npz")
    loaded = EvaluationIndex.load(tmp_path / "one.npz")
    for field in dataclasses.fields(index):
        before, after = (np.asarray(getattr(each, field.name)) for each in (index, loaded))
        assert before.dtype == after.dtype
        assert np.array_equal(before, after), field.name
    assert list(loaded.items) == items
    assert loaded.fingerprint == index.fingerprint
    loaded.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_the_fingerprint_tells_indexes_apart(items: list[Item]) -> None:
    changed = [dataclasses.replace(items[0], letter="c"), *items[1:]]
    indexes = [
        EvaluationIndex.build(items),
        EvaluationIndex.build(items, ngram=5),
        EvaluationIndex.build(items, near=40),
        EvaluationIndex.build(changed),
        EvaluationIndex.build(items[::-1]),
        EvaluationIndex.build([]),
    ]
    assert len({index.fingerprint for index in indexes}) == len(indexes)
    assert EvaluationIndex.build(list(items)).fingerprint == indexes[0].fingerprint


def test_a_damaged_index(index: EvaluationIndex, tmp_path: Path) -> None:
    path = tmp_path / "index.npz"
    index.save(path)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for broken in (b"", content[: len(content) // 2], b"not an archive", bytes(flipped)):
        path.write_bytes(broken)
        with pytest.raises(DamagedError, match="not a whole evaluation index"):
            EvaluationIndex.load(path)
    np.savez(path, format=np.int64(0))
    with pytest.raises(DamagedError):
        EvaluationIndex.load(path)


def test_no_words_of_an_item_are_lost_in_punctuation() -> None:
    index = EvaluationIndex.build([Item("s", "1", "Who, where & WHEN -- (why)?")])
    assert index.unit_words.tolist() == [hashes_of(word)[0] for word in re.findall(r"\w+", "who where when why")]
