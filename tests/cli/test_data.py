"""``ownlm data show`` of a built data set: its own tokenizer, its splits, a single part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ownlm.tokens.dataset import Part, write_dataset
from ownlm.tokens.shards import ShardWriter
from ownlm.tokens.tokenizer import load_tokenizer

Run = Callable[..., object]


@pytest.fixture
def built(corpus: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "built"
    shutil.copytree(corpus / "tokenizer", folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer")
    rows = {name: (corpus / f"{name}.jsonl").read_text().split("\n") for name in ("train", "held")}
    for split, lines in (("train", rows["train"][:9]), ("validation", rows["held"][:5]), ("test", rows["held"][5:8])):
        with ShardWriter(folder / split / "a", tokenizer.vocab_size, {"tokenizer": tokenizer.fingerprint}) as writer:
            for line in lines:
                writer.add([*tokenizer.encode(json.loads(line)["text"]), tokenizer.eos_id])
    write_dataset(folder, {s: [Part("a", folder / s / "a")] for s in ("train", "validation", "test")}, kind="text")  # type: ignore[misc]
    return folder


def test_each_split_is_shown_with_the_data_sets_own_tokenizer(ownlm: Run, built: Path, corpus: Path):
    tokenizer = load_tokenizer(corpus / "tokenizer")
    ends = tokenizer.decode([tokenizer.eos_id], skip_special=False)
    texts = {
        name: [json.loads(row)["text"] for row in (corpus / f"{name}.jsonl").read_text().split("\n") if row]
        for name in ("train", "held")
    }
    expected = {"train": texts["train"][:9], "validation": texts["held"][:5], "test": texts["held"][5:8]}
    for split, documents in expected.items():
        shown = ownlm("data", "show", built, "--split", split, "--json").object
        assert sorted(d["text"] for d in shown["documents"]) == sorted(text + ends for text in documents)
    part = ownlm("data", "show", built / "test" / "a", "--json").object
    assert sorted(d["text"] for d in part["documents"]) == sorted(text + ends for text in expected["test"])


def test_what_cannot_be_shown(ownlm: Run, built: Path, corpus: Path, tmp_path: Path):
    def error(*arguments: str | Path) -> dict[str, str]:
        outcome = ownlm("data", "show", *arguments, "--json")
        assert outcome.code == 2
        return outcome.object["error"]

    write_dataset(built, {"train": [Part("a", built / "train" / "a")]}, kind="text")
    assert error(built, "--split", "test")["message"] == "this data set has no test split"
    shutil.copytree(built / "train" / "a", tmp_path / "alone")
    assert error(tmp_path / "alone")["hint"] == "add --model NAME"
    assert ownlm("data", "show", tmp_path / "alone", "--model", corpus / "base").code == 0
    assert ownlm("data", "show", built, "--model", corpus / "base").code == 0
    other = tmp_path / "other"
    with ShardWriter(other, 320, {"tokenizer": "another"}) as writer:
        writer.add([1, 2])
    assert error(other, "--model", corpus / "base")["message"] == "this dataset was made with another tokenizer"
    info = {"tokenizer": load_tokenizer(built / "tokenizer").fingerprint}
    with ShardWriter(built / "train" / "a", 320, info, may_be_empty=True):
        pass
    for place in (built, built / "train" / "a"):
        assert error(place)["message"] == "this dataset has no document"
