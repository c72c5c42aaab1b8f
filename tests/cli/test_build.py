"""``ownlm data build``: what a person and a script are told, and what can be done with the result."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
WORDS = [a + b for a in ("bridge", "river", "stone", "letter", "garden", "window") for b in ("ing", "er", "ly", "ness")]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of a little of everything: kept, dropped, personal, contaminated, unreadable."""
    draw = random.Random(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(30):
        text = " ".join(draw.choices(WORDS, k=60))
        (folder / f"{number:02}.txt").write_text(f"{text} mail jo{number}@some-firm.com" if number % 3 == 0 else text)
    (folder / "copy.txt").write_bytes((folder / "01.txt").read_bytes())
    (folder / "empty.txt").write_text("")
    question = " ".join(draw.choices(WORDS, k=25))
    (folder / "leak.txt").write_text(f"{question} forty-two")
    (tmp_path / "quiz.json").write_text(json.dumps([{"question": question, "answer": "forty-two"}]))
    path = tmp_path / "recipe.yaml"
    values = {
        "sources": [{"name": "notes", "path": str(folder)}],
        "filters": {"preset": "none", "drop": {"short": "words < 5"}},
        "decontaminate": [{"name": "quiz", "path": str(tmp_path / "quiz.json")}],
        "split": {"validation": 0.2, "test": 0.1},
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
    }
    path.write_text(json.dumps(values))
    return path


def test_from_a_recipe_to_a_trained_model(ownlm: Run, recipe: Path, tmp_path: Path) -> None:
    done = ownlm("data", "build", recipe, "--out", "set", "--workers", "1", "--json")
    assert done.code == 0
    answer = done.object
    assert {"documents", "splits", "duplicates", "pii", "contamination", "manifest"} <= answer.keys()
    dropped = {"contaminated/quiz": 1, "duplicate/exact": 1, "unreadable/empty": 1}
    assert answer["documents"] == {"read": 33, "kept": 30, "dropped": dropped}
    assert Path(answer["manifest"]).is_file() and Path(answer["report"]).is_file()
    # The same command again, for a person: everything is there already.
    again = ownlm("data", "build", recipe, "--out", "set", "--workers", "1")
    assert again.code == 0 and again.out == ""
    lines = [" ".join(line.split()) for line in again.err.splitlines()]
    assert lines[0] == "32 documents read, 1 not readable"
    expected = ["30 of 33 documents kept, in set", "1 contaminated/quiz", "email 10 in 10 documents mask"]
    expected += ["quiz found 1 time 1 item, 0 unchecked", "Report: set/report.html", "Next: ownlm data show set"]
    expected += ["Not readable: 1, each named with the reason in set/failures.jsonl"]
    assert set(expected) <= set(lines)
    shown = ownlm("data", "show", "set", "--split", "validation", "--json").object
    assert shown["documents"]
    config = {"model": {"family": "gpt2", "layers": 1, "width": 16, "heads": 2, "max_positions": 64}, "steps": 2}
    config["model"] |= {
        "vocab_size": json.loads((tmp_path / "set" / "manifest.json").read_text())["tokenizer"]["vocab_size"]
    }
    config |= {"data": {"train": "set", "length": 32}, "batch_tokens": 128, "out": "run", "precision": "fp32"}
    (tmp_path / "train.yaml").write_text(json.dumps(config))
    trained = ownlm("train", "train.yaml", "--json")
    assert trained.code == 0, trained.err
    assert (tmp_path / "run" / "model" / "tokenizer.json").is_file()


def test_a_set_without_tokens_is_neither_shown_nor_trained_on(ownlm: Run, recipe: Path) -> None:
    assert ownlm("data", "build", recipe, "--out", "set", "--workers", "1", "tokenizer=null").code == 0
    error = ownlm("data", "show", "set", "--json").object["error"]
    assert error["message"] == "this data set was built without a tokenizer, so it has no tokens"


def test_what_is_missing_or_wrong_in_the_line(ownlm: Run, recipe: Path) -> None:
    def error(*arguments: str | Path) -> dict[str, str]:
        outcome = ownlm("data", "build", *arguments, "--json")
        assert outcome.code == 2
        return outcome.object["error"]

    assert error()["message"] == "there is no recipe"
    assert error(recipe)["message"] == "there is no folder to build into"
    for number in ("0", "-3"):
        assert "--workers" in error(recipe, "--out", "set", "--workers", number)["message"]
    assert error(recipe, "--out", "set", "splt.validation=0.3")["hint"] == "did you mean 'split'?"
    assert error(recipe, "--out", "set", "nonsense")["message"] == "'nonsense' is not an override"
    assert not Path("set").exists()


def test_every_key_of_a_recipe_is_described(ownlm: Run) -> None:
    keys = {row["key"]: row for row in ownlm("data", "build", "--help-recipe", "--json").object["keys"]}
    assert {
        "sources.path",
        "limits.seconds",
        "duplicates.near",
        "split.validation",
        "tokenizer.vocab_size",
    } <= keys.keys()
    assert all(row["description"] for row in keys.values())
    text = ownlm("data", "build", "--help-recipe")
    assert text.code == 0 and "duplicates.near: float" in text.out
