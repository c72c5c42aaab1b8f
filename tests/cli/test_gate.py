"""``ownlm gate``: from files and two tiny models to yes or no, and what is told where something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.engine.engine import Engine
from ownlm.engine.requests import SamplingOptions
from ownlm.evaluate.gate_config import NeverAgainConfig
from ownlm.evaluate.gate_facts import likeliest_answers, machine_facts

TASK = """
name: words
kind: choice
data: words.jsonl
prompt: "{{ q }}"
choices: "{{ options }}"
answer: "{{ gold }}"
metrics: [accuracy]
"""
TEXTS = """
name: texts
kind: perplexity
data: held.jsonl
text: "{{ text }}"
metrics: [word_perplexity]
"""


@pytest.fixture
def gates(tmp_path: Path, corpus: Path) -> Callable[[str], Path]:
    """Writes a file of gates beside two tasks."""
    rows = [{"q": f"the model {n}", "options": ["reads text", "has seen"], "gold": n % 2} for n in range(8)]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "words.yaml").write_text(TASK)
    (tmp_path / "texts.yaml").write_text(TEXTS)
    (tmp_path / "held.jsonl").write_text((corpus / "held.jsonl").read_text())

    def write(text: str) -> Path:
        path = tmp_path / "gates.yaml"
        path.write_text("tasks: [words.yaml, texts.yaml]\n" + text)
        return path

    return write


def test_a_copy_passes_what_it_can_and_the_page_says_why(
    ownlm: Callable[..., Any], corpus: Path, gates: Callable[[str], Path], tmp_path: Path
) -> None:
    path = gates("""
scores:
  - {task: words, metric: accuracy, min: 0.01}
  - {task: words, metric: accuracy, min: 0.01, shots: 2}
differences:
  - {task: texts, metric: word_perplexity, margin: 1%}
machine:
  - {fact: parameters, max: 1000000}
  - {fact: weight_bytes, max_ratio: 1}
  - {fact: tokens_per_second, min: 0.001}
never_again:
  - {prompt: the model, forbidden: [zebra], max_tokens: 5}
""")
    page = tmp_path / "page.html"
    done = ownlm("gate", corpus / "base", "--against", corpus / "base", "--gates", path, "--out", page, "--json")
    assert done.code == 0, done.err + done.out
    found = done.object
    assert found["passed"] and len(found["gates"]) == 7
    assert {"name", "passed", "value", "low", "high", "limit", "reason"} == set(found["gates"][0])
    copy = found["gates"][2]
    assert (copy["value"], copy["low"], copy["high"]) == (0, 0, 0)
    assert "not worse by 1%" in page.read_text() and found["report"] == str(page)


def test_a_no_is_exit_code_3_and_says_which(
    ownlm: Callable[..., Any], corpus: Path, gates: Callable[[str], Path]
) -> None:
    path = gates("scores: [{task: words, metric: accuracy, min: 0.99}, {task: texts, metric: word_perplexity, min: 1}]")
    done = ownlm("gate", corpus / "base", "--gates", path)
    assert done.code == 3 and "1 of 2 gates say no" in done.err
    assert "NO   words accuracy at least 0.99" in done.err and "is not at least 0.99" in done.err
    done = ownlm("gate", corpus / "base", "--gates", path, "--json")
    assert done.code == 3 and [one["passed"] for one in done.object["gates"]] == [False, True]


def test_a_misspelt_metric_fails_its_gate(
    ownlm: Callable[..., Any], corpus: Path, gates: Callable[[str], Path]
) -> None:
    path = gates("scores: [{task: words, metric: acuracy, min: 0.1}]")
    done = ownlm("gate", corpus / "base", "--gates", path, "--json")
    (one,) = done.object["gates"]
    assert done.code == 3 and one["value"] is None and "did you mean 'accuracy'?" in one["reason"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scores: [{task: arc_eazy, metric: accuracy, min: 0.1}]", "did you mean 'arc_easy'"),
        ("differences: [{task: words, metric: accuracy, margin: 0.1}]", "--against"),
        ("machine: [{fact: parameters, max_ratio: 1}]", "--against"),
        ("scors: []", "did you mean 'scores'"),
        ("suites: [coar]\nscores: [{task: words, metric: accuracy, min: 0.1}]", "there is no suite 'coar'"),
        ("never_again: [{prompt: '" + "word " * 200 + "', forbidden: [a]}]", "never_again.0"),
        ("", "there is no gate"),
    ],
)
def test_wrong_input(
    ownlm: Callable[..., Any], corpus: Path, gates: Callable[[str], Path], text: str, message: str
) -> None:
    done = ownlm("gate", corpus / "base", "--gates", gates(text))
    assert done.code == 2 and message in done.err, done.err


def test_facts_and_answers_are_the_models(corpus: Path) -> None:
    import ownlm as library
    from ownlm.evaluate.subject import Subject

    model = library.load_model(corpus / "base", dtype="float32")
    subject = Subject(model, library.load_tokenizer(corpus / "base"), hidden=True)
    count = model.config.parameters()
    assert machine_facts(subject, ["parameters", "weight_bytes"]) == {"parameters": count, "weight_bytes": 4 * count}
    assert machine_facts(subject, []) == {}
    asked = [NeverAgainConfig(prompt=prompt, forbidden="x", max_tokens=6) for prompt in ("the model", "a text")]
    options = {"max_tokens": 6, "temperature": 0}
    engine = Engine(model, subject.tokenizer)
    expected = [
        engine.chat([{"role": "user", "content": one.prompt}], SamplingOptions(**options)).text for one in asked
    ]
    assert subject.tokenizer.chat_template is not None and likeliest_answers(subject, asked) == expected
    subject.tokenizer.chat_template = None
    expected = library.generate(model, ["the model", "a text"], **options)
    assert likeliest_answers(subject, asked) == expected
