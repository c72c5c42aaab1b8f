"""``ownlm eval --seen-in`` and ``ownlm data seen``: items in training data, from the command line to the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.tokens.content import content_hash

TASK = """
name: riddles
kind: choice
data: riddles.jsonl
prompt: "Question: {{ q }}\\nAnswer:"
choices: "{{ options }}"
answer: "{{ gold }}"
metrics: [accuracy]
"""
WORDS = [
    "walrus",
    "harbour",
    "lantern",
    "copper",
    "violet",
    "thunder",
    "marble",
    "saddle",
    "cactus",
    "glacier",
    "pepper",
    "anchor",
    "velvet",
    "tunnel",
    "beacon",
]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Twelve questions."""
    rows = [
        {
            "q": f"Which {' '.join((WORDS + WORDS)[n : n + 5])} came {n}?",
            "options": [f"the {WORDS[n]}", "none"],
            "gold": 0,
        }
        for n in range(12)
    ]
    (tmp_path / "riddles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "riddles.yaml").write_text(TASK)
    planted = [f"{row['q']} It was {row['options'][0]}." for row in rows[:3]] + [rows[3]["q"]]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in [*planted, "Nothing."]))
    return tmp_path / "riddles.yaml"


@pytest.fixture
def model(corpus: Path, tmp_path: Path) -> Path:
    """The tiny model, with a lineage that names the training data."""
    folder = tmp_path / "mine"
    shutil.copytree(corpus / "base", folder)
    return folder


def name_data(model: Path, sha256: str) -> None:
    lineage = {"parents": ["nowhere"], "sources": {"train.jsonl": sha256}}
    (model / "ownlm.json").write_text(json.dumps({"lineage": lineage}))


def test_scores_without_the_items_seen(ownlm: Callable[..., Any], model: Path, task: Path, tmp_path: Path) -> None:
    done = ownlm(
        "eval", model, "--task", task, "--shots", "0,2", "--seen-in", "train.jsonl", "--out", tmp_path / "out", "--json"
    )
    assert done.code == 0, done.err
    found = done.object["contamination"]
    assert found["datasets"] == [{"name": "train.jsonl", "documents": 5}] and found["not_checked"] == []
    assert found["tasks"] == {
        "riddles": {"items": 12, "in_full": 3, "in_part": 1, "common_text": 0, "not_found": 8, "cannot_be_judged": 0}
    }
    first = found["scores"][0]
    assert (first["all"]["n"], first["clean"]["n"], first["seen"]["n"]) == (12, 8, 4)
    assert first["all"]["value"] == done.object["scores"][0]["value"] and first["verdict"] and first["words"]
    total = 4 * first["seen"]["value"] + 8 * first["clean"]["value"]
    assert total == pytest.approx(12 * first["all"]["value"])
    (seen, *_) = found["seen"]
    assert seen["how"] == "in full" and seen["where"].endswith("riddles.jsonl:1") and len(found["seen"]) == 4
    assert seen["places"][0]["where"] == "train.jsonl:1" and "walrus harbour" in seen["places"][0]["text"]
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert [item["seen"] for item in items[:5]] == ["in full"] * 3 + ["in part", "not found"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Items in the training data" in page and "train.jsonl:1" in page
    kept = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert kept["contamination"] == found and len(kept["weights"]) == 64
    done = ownlm("eval", model, "--task", task, "--seen-in", "train.jsonl", "--out", tmp_path / "out")
    assert "Seen in training, riddles: 3 in full and 1 in part of 12 items" in done.err


def test_what_the_model_names_is_looked_into_without_being_asked(
    ownlm: Callable[..., Any], model: Path, task: Path, tmp_path: Path
) -> None:
    def run(*more: str) -> Any:
        return ownlm("eval", model, "--task", task, "--out", tmp_path / "out", "--json", *more).object["contamination"]

    unknown = {"what": "model", "name": "nowhere", "reason": "what it was trained on is not known"}
    name_data(model, content_hash(tmp_path / "train.jsonl"))
    found = run()
    assert found["tasks"]["riddles"]["in_full"] == 3 and found["not_checked"] == [unknown]
    name_data(model, "0" * 64)
    found = run()
    assert found["tasks"] == {} and [one["reason"] for one in found["not_checked"]] == [
        "what stands there now is not what the model was trained on",
        unknown["reason"],
    ]
    (tmp_path / "train.jsonl").unlink()
    assert "not here any more" in run()["not_checked"][0]["reason"]
    assert run("--seen-in", "none")["not_checked"] == []


def test_of_items_in_training_data_without_a_model(ownlm: Callable[..., Any], task: Path, tmp_path: Path) -> None:
    done = ownlm("data", "seen", "train.jsonl", "--task", task, "--out", "page.html", "--json")
    assert done.code == 0, done.err
    assert done.object["tasks"]["riddles"]["in_part"] == 1 and done.object["scores"] == []
    assert "4 of 12 items of riddles" in (tmp_path / "page.html").read_text()
    done = ownlm("data", "seen", "train.jsonl", "--task", task)
    assert "train.jsonl: 5 documents" in done.err and "riddles.jsonl:1, in full:" in done.err


def test_what_cannot_be_looked_into_is_told_in_a_line(
    ownlm: Callable[..., Any], model: Path, task: Path, tmp_path: Path
) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / "dataset.json").write_text('{"format": 1}')
    (model / "ownlm.json").write_text("{")
    for arguments, code, message in (
        (["--seen-in", "nothing.jsonl"], 2, "there is no such data set"),
        (["--seen-in", "built"], 2, "no manifest.json"),
        (["--seen-in", "mine"], 1, "lineage is damaged"),
        ([], 1, "lineage is damaged"),
    ):
        done = ownlm("eval", model, "--task", task, *arguments)
        assert done.code == code and message in done.err and "Traceback" not in done.err
    done = ownlm("data", "seen", "train.jsonl")
    assert done.code == 2 and "which tasks?" in done.err
    (tmp_path / "empty.jsonl").write_text('{"n": 1}\n')
    done = ownlm("data", "seen", "empty.jsonl", "--task", task)
    assert done.code == 2 and "no documents to train on" in done.err
