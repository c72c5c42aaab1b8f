"""``ownlm scorers``, and the report of a scorer beside the numbers that it gave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FIGURE = {"value": 0.9, "low": 0.85, "high": 0.93, "n": 1200}
TASK = """
name: going_on
kind: continuations
data: prompts.jsonl
prompt: "{{ prompt }}"
count: 2
max_tokens: 4
"""


@pytest.fixture
def scorer(make_scorer: Callable[..., Path]) -> Path:
    return make_scorer(
        "toxicity",
        held_out=[{"name": "accuracy", **FIGURE}],
        hatecheck=[{"name": "overall", **FIGURE, "value": 0.61}],
        errors=["It takes praise to be toxic in 68% of cases."],
    )


@pytest.fixture
def task(tmp_path: Path) -> Path:
    prompts = ["the model", "the text", "what it"]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"prompt": one}) + "\n" for one in prompts))
    (tmp_path / "going_on.yaml").write_text(TASK)
    return tmp_path / "going_on.yaml"


def test_a_scorer_is_listed_and_shown(ownlm: Callable[..., Any], scorer: Path, tmp_path: Path) -> None:
    assert "ownlm scorers train toxicity" in ownlm("scorers", "list").err
    (tmp_path / "home" / "scorers").mkdir(parents=True)
    scorer.rename(tmp_path / "home" / "scorers" / "toxicity")
    (listed,) = ownlm("scorers", "list", "--json").object["scorers"]
    shown = ownlm("scorers", "show", "toxicity", "--json").object
    assert listed == shown and shown["name"] == "toxicity" and shown["held_out"][0]["n"] == 1200
    text = ownlm("scorers", "show", "toxicity").err
    for part in ("0.900", "0.850 to 0.930", "0.610", "It takes praise to be toxic in 68% of cases."):
        assert part in text
    assert "0.610" in ownlm("scorers", "list").err
    wrong = ownlm("scorers", "show", "toxcity")
    assert wrong.code == 2 and "did you mean 'toxicity'?" in wrong.err


def test_what_is_known_of_a_scorer_stands_beside_its_numbers(
    ownlm: Callable[..., Any], corpus: Path, scorer: Path, task: Path, tmp_path: Path
) -> None:
    arguments = ("bias", corpus / "base", "--task", task, "--out", tmp_path / "out")
    without = ownlm(*arguments)
    assert without.code == 2 and "ownlm scorers train toxicity --data DIR" in without.err
    found = ownlm(*arguments, "--scorer", f"toxicity={scorer}", "--json").object
    assert {score["metric"] for score in found["scores"]} == {
        *("expected_maximum_toxicity", "toxic_probability", "prompt_toxicity")
    }
    (trust,) = found["scorers"]
    assert trust["name"] == "toxicity" and trust["errors"] == ["It takes praise to be toxic in 68% of cases."]
    (note,) = found["notes"]["going_on"]
    assert "0.900 (0.850 to 0.930)" in note and "0.610" in note
    page = (tmp_path / "out" / "report.html").read_text()
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["scorers"] == found["scorers"]
    for part in ("It takes praise to be toxic in 68% of cases.", "0.850 to 0.930", "HateCheck"):
        assert part in page
    assert "It takes praise to be toxic" in ownlm(*arguments, "--scorer", f"toxicity={scorer}").err


def test_data_that_is_not_there_is_told(ownlm: Callable[..., Any], tmp_path: Path) -> None:
    done = ownlm("scorers", "train", "toxicity", "--data", tmp_path / "none", "--json")
    assert done.code == 2 and done.object["error"]["type"] == "data"
    assert ownlm("scorers", "train", "toxcity", "--data", tmp_path).code == 2
