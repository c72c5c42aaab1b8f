"""From documents to a folder that is ready to train on: tokens accounted for, and folders that are left alone."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.data.recipe import Recipe
from ownlm.errors import ConfigError, DataError, ModelError, StorageError, UserError
from ownlm.tokens.build import STAGES, build_dataset
from ownlm.tokens.dataset import is_dataset, read_dataset
from ownlm.tokens.tokenizer import load_tokenizer

WORDS = [
    a + b
    for a in ["bridge", "river", "stone", "letter", "garden", "window"]
    for b in ["ing", "er", "ly", "ness", "ful", "dom"]
]


def prose(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=count))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Texts and conversations, of which some are long."""
    draw = random.Random(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.txt").write_text(prose(draw, 30))
    with (folder / "chats.jsonl").open("w") as file:
        for number in range(20):
            answer = prose(draw, 150 if number % 4 == 0 else 8)
            messages = [{"role": "user", "content": prose(draw, 5)}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return folder


def recipe(*sources: dict[str, Any], **changes: Any) -> Recipe:
    plain: dict[str, Any] = {"sources": list(sources), "filters": {"preset": "none"}, "duplicates": {"near": None}}
    plain |= {"split": {"validation": 0.2, "test": 0}, "tokenizer": {"kind": "bpe", "vocab_size": 400}}
    return Recipe.model_validate(plain | changes)


def test_what_tokenizing_drops_leaves_every_count(mixed: Path, tmp_path: Path, accounts: Callable[[Path], Any]) -> None:
    out = tmp_path / "out"
    chats = {"name": "chats", "path": str(mixed / "chats.jsonl")}
    manifest = build_dataset(recipe(chats, tokens={"max_length": 150}), out)
    built = accounts(out)
    assert manifest["documents"]["dropped"] == {"tokens/too-long": 5}
    assert read_dataset(out).kind == "chat"
    kept = [row["text"] for row in built.rows if row["reason"] is None]
    tokens = sum(split["tokens"] for split in manifest["splits"].values())
    assert manifest["tokenizer"]["bytes_per_token"] == round(sum(len(t.encode()) for t in kept) / tokens, 4)
    assert manifest["sources"]["chats"]["lengths"]["kept"] == manifest["lengths"]["kept"]
    # Nothing is left: an error, and what was built before stays as it was.
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(DataError, match="no document is left: 20 tokens/too-long"):
        build_dataset(recipe(chats, tokens={"max_length": 3}), out)
    assert (out / "manifest.json").read_bytes() == before
    accounts(out)


def test_texts_and_conversations_together(mixed: Path, tmp_path: Path, accounts: Callable[[Path], Any]) -> None:
    out = tmp_path / "out"
    sources: list[dict[str, Any]] = [
        {"name": "talk to us", "path": str(mixed), "include": ["*.jsonl"], "weight": 3, "epochs": 2},
        {"name": "texts", "path": str(mixed), "include": ["*.txt"]},
    ]
    build_dataset(recipe(*sources), out)
    accounts(out)
    built = read_dataset(out)
    assert built.kind == "text"
    parts = {part.name: (part.weight, part.epochs) for part in built.parts("train")}
    assert parts == {"talk to us": (3.0, 2.0), "texts": (1.0, None)}
    assert all((part.weight, part.epochs) == (None, None) for part in built.parts("validation"))
    with pytest.raises(DataError, match="12 of 32 documents are no conversations"):
        build_dataset(recipe(*sources, tokens={"kind": "chat"}), out)


def test_sources_that_would_share_a_folder_are_refused() -> None:
    for pair in (("a b", "a-b"), ("Mail", "mail")):
        with pytest.raises(ValueError, match=f"would share a folder: '{pair[0]}' and '{pair[1]}'"):
            recipe(*({"name": name, "path": "x"} for name in pair))
    with pytest.raises(ValueError, match="two sources are named 'a'"):
        recipe({"name": "a", "path": "x"}, {"name": "a", "path": "y"})
    with pytest.raises(ValueError, match="more than 100 bytes"):
        recipe({"name": "ن" * 60, "path": "x"})


def test_a_tokenizer_that_cannot_be_is_noticed_before_anything_is_read(mixed: Path, tmp_path: Path) -> None:
    source = {"name": "a", "path": str(mixed)}
    with pytest.raises(ConfigError, match="a vocabulary of 258 is too small") as raised:
        build_dataset(recipe(source, tokenizer={"vocab_size": 258}), tmp_path / "out")
    assert raised.value.where == "tokenizer.vocab_size" and "at least 259" in str(raised.value.hint)
    with pytest.raises(ModelError, match="no tokenizer"):
        build_dataset(recipe(source, tokenizer="mine"), tmp_path / "out", tokenizer=mixed)
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_is_trained_on_training_documents_and_at_least_one(mixed: Path, tmp_path: Path) -> None:
    source = {"name": "a", "path": str(mixed)}
    with pytest.raises(DataError, match="no document fell into train"):
        build_dataset(recipe(source, split={"validation": 0.999, "test": 0}), tmp_path / "out")
    build_dataset(recipe(source, tokenizer={"vocab_size": 400, "bytes": 1}), tmp_path / "out")
    assert 259 < load_tokenizer(tmp_path / "out" / "tokenizer").vocab_size < 400


def test_a_folder_of_something_else_is_left_alone(mixed: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "test").mkdir(parents=True)
    (project / "test" / "mine.py").write_text("precious")
    (project / "manifest.json").write_text('["of a web page"]')
    with pytest.raises(UserError, match="this folder has a 'test' that no build of a data set made"):
        build_dataset(recipe({"name": "a", "path": str(mixed)}), project)
    assert (project / "test" / "mine.py").read_text() == "precious"
    assert sorted(path.name for path in project.iterdir()) == ["manifest.json", "test"]
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="this is a file, a folder was expected"):
            build_dataset(recipe({"name": "a", "path": str(mixed)}), out)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a place where no folder can be made")
def test_a_place_that_cannot_be_written_to(mixed: Path) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        build_dataset(recipe({"name": "a", "path": str(mixed)}), Path("/proc/nowhere/out"))


def test_an_unfinished_build_is_not_taken_for_texts_to_train_on(tmp_path: Path) -> None:
    assert not is_dataset(tmp_path)
    (tmp_path / STAGES).mkdir()
    with pytest.raises(DataError, match="not built to its end"):
        is_dataset(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="built without a tokenizer"):
        is_dataset(tmp_path)


def test_a_query_is_asked_once_and_again_with_refresh_and_prune_keeps_what_is_used(
    tmp_path: Path, accounts: Callable[[Path], Any]
) -> None:
    draw = random.Random(0)
    database = tmp_path / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE notes (body TEXT)")
        connection.executemany("INSERT INTO notes VALUES (?)", [(prose(draw, 9),) for _ in range(8)])
    source = {"name": "a", "sql": f"sqlite:///{database}", "query": "SELECT body AS text FROM notes"}
    plan, out, said = recipe(source, tokenizer=None), tmp_path / "out", list[str]()
    build_dataset(plan, out, say=said.append)
    assert not any("fetched before" in line for line in said)
    with sqlite3.connect(database) as connection:
        connection.execute("INSERT INTO notes VALUES (?)", (prose(draw, 9),))
    assert build_dataset(plan, out, say=said.append)["documents"]["read"] == 8
    assert any("fetched before" in line for line in said)
    results = {path for path in (out / STAGES).glob("*/*") if path.is_dir()}
    assert build_dataset(plan, out, refresh=True, prune=True)["documents"]["read"] == 9
    accounts(out)
    now = {path for path in (out / STAGES).glob("*/*") if path.is_dir()}
    assert now and not now & results
