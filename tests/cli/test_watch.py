"""``ownlm watch --once``, ``ownlm eval --store`` and ``ownlm trend`` from the command line to the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TASK = """
name: words
kind: choice
data: words.jsonl
prompt: "{{ q }}"
choices: "{{ options }}"
answer: "{{ gold }}"
metrics: [accuracy]
"""
KEYS = {"task", "metric", "shots", "value", "low", "high", "n"}


@pytest.fixture
def task(tmp_path: Path) -> Path:
    rows = [{"q": f"the model {n}", "options": ["reads text", "has seen"], "gold": n % 2} for n in range(8)]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "words.yaml").write_text(TASK)
    return tmp_path / "words.yaml"


def test_once_evaluates_what_is_new_alarms_and_shows(
    ownlm: Callable[..., Any], corpus: Path, task: Path, tmp_path: Path
) -> None:
    watch = ("watch", corpus / "base", "--task", task, "--once", "--store", tmp_path / "s.db")
    done = ownlm(*watch, "--json")
    assert done.code == 0, done.err
    found = done.object
    assert found["evaluated"] and found["why"] == "first evaluation" and found["alerts"] == []
    assert set(found["scores"][0]) == KEYS and found["scores"][0]["n"] == 8
    done = ownlm(*watch, "--json")
    assert done.code == 0 and not done.object["evaluated"] and done.object["release"] == found["release"]
    done = ownlm(*watch, "--every", "6h", "--always")
    assert done.code == 0 and "it is due in" in done.err
    bands = tmp_path / "bands.yaml"
    bands.write_text("bands: [{task: words, metric: accuracy, low: 1.5}]")
    done = ownlm(*watch, "--always", "--bands", bands)
    assert done.code == 3 and "ALERT: words accuracy is" in done.err and "below the least that is allowed" in done.err
    shown = ownlm("trend", "--store", tmp_path / "s.db", "--bands", bands, "--out", tmp_path / "t.html", "--json")
    assert shown.code == 0, shown.err
    (series,) = shown.object["series"]
    assert (series["model"], series["task"], len(series["points"])) == (str(corpus / "base"), "words", 2)
    assert [point["release"] for point in series["points"]] == [found["release"]] * 2
    (alert,) = shown.object["alerts"]
    assert alert["current"] and alert["side"] == "below" and alert["band_high"] is None
    page = (tmp_path / "t.html").read_text()
    assert "1 score of 1 lies outside its band" in page and "<svg" in page and alert["words"] in page


def test_an_evaluation_is_kept_where_asked_and_nowhere_else(
    ownlm: Callable[..., Any], corpus: Path, task: Path, tmp_path: Path
) -> None:
    asked = ("eval", corpus / "base", "--task", task, "--shots", "0,1", "--out", tmp_path / "out")
    assert ownlm(*asked).code == 0
    empty = ownlm("trend", "--json")
    assert empty.code == 0 and empty.object["series"] == [] and "no evaluations" in ownlm("trend").err
    assert ownlm(*asked, "--store", tmp_path / "s.db").code == 0
    done = ownlm(
        "bias", corpus / "base", "--task", "crows_pairs", "--limit", "20", "--store", tmp_path / "s.db", "--out", "b"
    )
    assert done.code == 0, done.err
    found = ownlm("trend", "--store", tmp_path / "s.db", "--json").object
    assert found["models"] == [str(corpus / "base")]
    assert {(s["task"], s["shots"]) for s in found["series"]} >= {
        ("words", 0),
        ("words", 1),
        ("crows_pairs/overall", 0),
    }
    only = ownlm(
        "trend", "--store", tmp_path / "s.db", "--task", "crows_pairs", "--model", corpus / "base", "--json"
    ).object
    assert only["series"] and all(s["task"].startswith("crows_pairs/") for s in only["series"])
    # What was evaluated by hand is not evaluated again.
    watch = (
        "watch",
        corpus / "base",
        "--task",
        task,
        "--shots",
        "1,0",
        "--once",
        "--store",
        tmp_path / "s.db",
        "--json",
    )
    assert not ownlm(*watch).object["evaluated"]
    again = ("eval", corpus / "base", "--task", task, "--store", tmp_path / "s.db", "--name", "ours", "--out", "again")
    assert ownlm(*again).code == 0
    assert ownlm("trend", "--store", tmp_path / "s.db", "--model", "ours", "--json").object["models"] == ["ours"]
    assert ownlm("store", "show", "--store", tmp_path / "s.db", "--json").object["evaluations"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["watch", "mine", "--once"], "which tasks?"),
        (["watch", "mine", "--suite", "core"], "how often?"),
        (["watch", "mine", "--suite", "core", "--every", "often"], "'often' is no duration"),
        (["watch", "mine", "--suite", "cor", "--every", "6h"], "there is no suite 'cor'"),
        (["watch", "mine", "--suite", "core", "--once", "--webhook", "me"], "no address of HTTP"),
        (["watch", "mine", "--suite", "core", "--once", "--bands", "no.yaml"], "there is no such file"),
        (["watch", "mine", "--task", "crows_pairs", "--once"], "unknown model 'mine'"),
        (["eval", "mine", "--task", "crows_pairs", "--store", "mysql://x/y"], "unknown model 'mine'"),
        (["eval", "mine", "--task", "crows_pairs", "--name", "x"], "a name is for the store"),
        (["trend", "--model", "mine"], "no evaluation of 'mine' is in the store"),
        (["trend", "--task", "words"], "no score of 'words' is in the store"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(ownlm: Callable[..., Any], arguments: list[str], said: str) -> None:
    done = ownlm(*arguments)
    assert done.code == 2 and said in done.err and not done.out
