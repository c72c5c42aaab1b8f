"""``ownlm eval`` from the command line to the report, and the same from Python."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ownlm as library

TASK = """
name: words
kind: choice
about: the word that follows
data: words.jsonl
prompt: "{{ q }}"
choices: "{{ options }}"
answer: "{{ gold }}"
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task of nine items, one of which is too long for the tiny model."""
    rows = [{"q": f"the model {n}", "options": ["reads text", "has seen"], "gold": n % 2} for n in range(8)]
    rows.append({"q": "word " * 200, "options": ["a", "b"], "gold": 0})
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "words.yaml").write_text(TASK)
    return tmp_path / "words.yaml"


def test_scores_items_and_a_report(ownlm: Callable[..., Any], corpus: Path, task: Path, tmp_path: Path) -> None:
    done = ownlm("eval", corpus / "base", "--task", task, "--shots", "0,2", "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    found = done.object
    assert found["model"] == str(corpus / "base") and found["report"] == str(tmp_path / "out" / "report.html")
    assert [(s["task"], s["shots"], s["metric"], s["n"]) for s in found["scores"]] == [
        ("words", shots, metric, n) for shots, n in ((0, 8), (2, 6)) for metric in ("accuracy", "accuracy_norm")
    ]
    assert all(s["low"] <= s["value"] <= s["high"] for s in found["scores"])
    assert found["long"] == {"words, 0 shots": 1, "words, 2 shots": 1}
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert len(items) == 14 and set(items[0]) == {
        *("task", "shots", "where", "prompt", "choices", "logprobs", "right", "chosen")
    }
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["scores"] == found["scores"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "the word that follows" in page and "1 item of words (0 shots) did not fit" in page
    done = ownlm("eval", corpus / "base", "--task", task, "--limit", "4", "--out", tmp_path / "out")
    assert "accuracy_norm" in done.err and "Report:" in done.err
    model = library.load_model(corpus / "base")
    scores = library.evaluate(model, tasks=[str(task)], shots=[0, 2])
    assert [(s.value, s.low, s.high, s.n) for s in scores] == [
        (s["value"], s["low"], s["high"], s["n"]) for s in found["scores"]
    ]


def test_tasks_that_were_done_survive_ctrl_c(
    ownlm: Callable[..., Any], corpus: Path, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ownlm.evaluate import run

    measured = run.run_task

    def pressed(subject: Any, config: Any, *rest: Any) -> Any:
        if config.name == "second":
            raise KeyboardInterrupt
        return measured(subject, config, *rest)

    monkeypatch.setattr(run, "run_task", pressed)
    (tmp_path / "second.yaml").write_text(TASK.replace("name: words", "name: second"))
    arguments = ["--out", tmp_path / "out", "--store", f"sqlite:///{tmp_path / 's.db'}", "--json"]
    done = ownlm("eval", corpus / "base", "--task", task, "--task", tmp_path / "second.yaml", *arguments)
    assert done.code == 130 and "is saved: 1 task" in done.object["error"]["message"]
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {score["task"] for score in written["scores"]} == {"words"} and written["whole"] is False
    assert (tmp_path / "out" / "report.html").is_file() and (tmp_path / "out" / "items.jsonl").is_file()
    # With nothing done there is nothing to save.
    done = ownlm("eval", corpus / "base", "--task", tmp_path / "second.yaml", "--out", tmp_path / "none")
    assert done.code == 130 and not (tmp_path / "none").exists()


def test_without_a_name_it_lists_what_there_is(ownlm: Callable[..., Any], corpus: Path) -> None:
    done = ownlm("eval", corpus / "base")
    assert done.code == 0 and "hellaswag" in done.err and "core" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "arc_eazy"], "there is no task 'arc_eazy'"),
        (["--task", "piqa"], "the data of task 'piqa' is not here"),
        (["--task", "copa", "--shots", "x"], "'x' is no list of counts"),
        (["--task", "copa", "--shots", "-1"], "'-1' is no list of counts"),
        (["--suite", "cor"], "there is no suite 'cor'"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    ownlm: Callable[..., Any], corpus: Path, arguments: list[str], message: str
) -> None:
    done = ownlm("eval", corpus / "base", *arguments)
    assert done.code == 2 and message in done.err and not done.out


def test_more_examples_than_items_and_no_items(ownlm: Callable[..., Any], corpus: Path, task: Path) -> None:
    done = ownlm("eval", corpus / "base", "--task", task, "--shots", "9")
    assert done.code == 2 and "9 examples cannot be taken of 9 items" in done.err
    task.with_name("words.jsonl").write_text("")
    done = ownlm("eval", corpus / "base", "--task", task)
    assert done.code == 2 and "this file is empty" in done.err


def test_only_an_older_evaluation_is_replaced(
    ownlm: Callable[..., Any], corpus: Path, task: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    done = ownlm("eval", corpus / "base", "--task", task, "--out", tmp_path / "out")
    assert done.code == 2 and "something else stands here" in done.err


def test_a_masked_model_is_told_what_it_cannot_do(ownlm: Callable[..., Any], encoder: Path, task: Path) -> None:
    done = ownlm("eval", encoder, "--task", task)
    assert done.code == 2 and "writes no text" in done.err


def test_bias_of_ones_own_prompts(ownlm: Callable[..., Any], corpus: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "mine.txt"
    prompts.write_text("Where is her order?\nthe model reads\n" + "word " * 200 + "\n")
    arguments = ("bias", corpus / "base", "--prompts", prompts, "--swaps", "gender,age", "--out", tmp_path / "out")
    done = ownlm(*arguments, "--json")
    assert done.code == 0, done.err
    found = done.object
    assert {score["task"] for score in found["scores"]} == {"mine/gender:she-he", "mine/age:young-old"}
    assert {"likelihood_gap", "length_gap", "refusal_gap", "answers_differ"} <= {s["metric"] for s in found["scores"]}
    assert found["long"] == {"mine, 0 shots": 1}
    items = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert [item["pair"] for item in items] == ["gender:she-he", "age:young-old"] * 2
    assert items[0]["prompts"] == ["Where is her order?", "Where is his order?"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Swap of gender" in page and "the widest gaps" in page and "1 item of mine (0 shots) did not fit" in page
    done = ownlm(*arguments)
    assert "mine/gender:she-he" in done.err and "The first group's value less" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--swaps", "gender"], "there are no prompts to exchange anything in"),
        (["--prompts", "{file}", "--swaps", "gendr"], "there is no swap 'gendr'"),
        (["--prompts", "{file}x"], "there is no such file"),
    ],
)
def test_bias_that_cannot_be_measured_is_told(
    ownlm: Callable[..., Any], corpus: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "p.txt").write_text("Where is my order?\n")
    named = [part.replace("{file}", str(tmp_path / "p.txt")) for part in arguments]
    done = ownlm("bias", corpus / "base", *named)
    assert done.code == 2 and message in done.err and not done.out
