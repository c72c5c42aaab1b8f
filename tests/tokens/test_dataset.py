"""A built data set's dataset.json: what is written is read, and what is wrong in it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.errors import ConfigError, DataError
from ownlm.tokens.dataset import (
    Part,
    dataset_of_part,
    is_dataset,
    read_dataset,
    repeats_of_parts,
    write_dataset,
)

SOUND: dict[str, Any] = {
    "format": 1,
    "tokenizer": "tokenizer",
    "kind": "text",
    "splits": {
        "train": [
            {"name": "peps", "dataset": "train/peps", "weight": 2.0, "epochs": 4},
            {"name": "wiki", "dataset": "train/wiki"},
        ],
        "validation": [{"name": "peps", "dataset": "validation/peps"}],
        "test": [],
    },
}


def write(folder: Path, value: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def test_what_it_says(tmp_path: Path) -> None:
    assert not is_dataset(tmp_path)
    folder = write(tmp_path / "built", SOUND)
    assert is_dataset(folder) and is_dataset(str(folder))
    built = read_dataset(folder)
    assert (built.folder, built.tokenizer, built.kind) == (folder, folder / "tokenizer", "text")
    peps, wiki = built.parts("train")
    assert peps == Part("peps", folder / "train/peps", 2.0, 4)
    assert wiki == Part("wiki", folder / "train/wiki", None, None)
    assert [part.folder for part in built.parts("validation")] == [folder / "validation/peps"]
    with pytest.raises(DataError, match="no test split") as caught:
        built.parts("test")
    assert (caught.value.where, caught.value.hint) == (str(folder / "dataset.json"), "it has: train, validation")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "built"
    train = [Part("a", folder / "train/a", 0.5, 2.0), Part("b", folder / "train" / "b")]
    write_dataset(folder, {"train": train, "validation": [], "test": [Part("a", Path("test/a"))]}, kind="chat")
    built = read_dataset(folder)
    assert built.parts("train") == tuple(train)
    assert built.parts("test") == (Part("a", folder / "test/a"),)
    assert (built.kind, list(built.splits)) == ("chat", ["train", "test"])
    # Moved as a whole, it is as good as before.
    folder.rename(tmp_path / "moved")
    assert read_dataset(tmp_path / "moved").parts("test")[0].folder == tmp_path / "moved" / "test/a"
    with pytest.raises(ConfigError, match="inside the data set"):
        write_dataset(folder, {"train": [Part("a", tmp_path / "elsewhere")]}, kind="text")


def test_the_data_set_of_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "built", SOUND)
    (folder / "train" / "peps").mkdir(parents=True)
    found = dataset_of_part(folder / "train" / "peps")
    assert found is not None and found.folder == folder
    monkeypatch.chdir(folder / "train")
    assert dataset_of_part("peps") == found
    assert dataset_of_part(tmp_path) is None


@pytest.mark.parametrize(
    ("changes", "place", "sentence"),
    [
        ({"format": 2}, "", "the format 2 is not known"),
        ({"tokenizer": "/etc"}, "tokenizer in ", "inside the data set"),
        ({"tokenizer": "../other"}, "tokenizer in ", "inside the data set"),
        ({"kind": "texts"}, "kind in ", "not one of the choices"),
        ({"more": 1}, "more in ", "unknown key 'more'"),
        ({"splits": {"training": []}}, "splits.training", "not one of the choices|input should be"),
        ({"splits": {"train": [{"name": "a"}]}}, "splits.train.0.dataset in ", "'dataset' is missing"),
        (
            {"splits": {"train": [{"name": "a", "dataset": "a/../../b"}]}},
            "splits.train.0.dataset in ",
            "inside the data",
        ),
        ({"splits": {"train": [{"name": "a", "dataset": "a", "weight": -1}]}}, "splits.train.0.weight in ", "greater"),
        ({"splits": {"train": [{"name": "a", "dataset": "a"}] * 2}}, "splits in ", "two parts called 'a'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: dict[str, Any], place: str, sentence: str) -> None:
    folder = write(tmp_path / "built", SOUND | changes)
    with pytest.raises(DataError, match=sentence) as caught:
        read_dataset(folder)
    assert str(caught.value.where).startswith(place)
    assert str(caught.value.where).endswith(str(folder / "dataset.json"))


@pytest.mark.parametrize("content", ["[]", "{", "1"])
def test_no_object(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError) as caught:
        read_dataset(write(tmp_path / "built", content))
    assert str(tmp_path / "built" / "dataset.json") in str(caught.value.where)
    with pytest.raises(DataError, match="no such file"):
        read_dataset(tmp_path)


def parts_of(*settings: tuple[float | None, float | None]) -> list[Part]:
    return [Part(str(number), Path("x"), *setting) for number, setting in enumerate(settings)]


def test_how_often_parts_are_passed() -> None:
    tokens = [100, 300]
    assert repeats_of_parts(parts_of((None, None), (None, None)), tokens) == [1.0, 1.0]
    assert repeats_of_parts(parts_of((None, 3), (None, None)), tokens) == [3.0, 1.0]
    # Twice as many tokens of the first as of the second, which counts 1: 100 of it once, 50 of the other's 300.
    assert repeats_of_parts(parts_of((2, None), (None, None)), tokens) == [1.0, 50 / 300]
    # Four passes of the first are 400 tokens, so 200 of the other.
    assert repeats_of_parts(parts_of((2, 4), (None, None)), tokens) == [4.0, 200 / 300]


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.5, 8), st.integers(1, 10**6)), min_size=1, max_size=5))
def test_shares_are_the_weights_and_no_part_is_passed_too_often(settings: list[tuple[float, float, int]]) -> None:
    tokens = [count for _, _, count in settings]
    parts = parts_of(*((weight, epochs) for weight, epochs, _ in settings))
    repeats = repeats_of_parts(parts, tokens)
    given_tokens = [repeat * count for repeat, count in zip(repeats, tokens, strict=True)]
    shares = [weight / sum(w for w, _, _ in settings) for weight, _, _ in settings]
    assert given_tokens == pytest.approx([share * sum(given_tokens) for share in shares])
    assert all(repeat <= epochs * (1 + 1e-9) for repeat, (_, epochs, _) in zip(repeats, settings, strict=True))
    assert any(repeat == pytest.approx(epochs) for repeat, (_, epochs, _) in zip(repeats, settings, strict=True))
