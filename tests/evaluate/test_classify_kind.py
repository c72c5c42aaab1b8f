"""The kind 'classify' against the public library, a text at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ownlm.config import validate
from ownlm.errors import ConfigError, DataError, ModelError
from ownlm.evaluate.kinds.classify import ClassifyTask
from ownlm.evaluate.run import run_tasks
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item
from ownlm.model.checkpoint import load_model_folder
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import load_tokenizer

WORDS = ["the", "model", "reads", "text", "learns", "token", "by", "word", "and", "writes", "what", "it", "has", "seen"]
TASK = {"name": "rude", "kind": "classify", "data": "a.jsonl", "text": "{{ text }}", "answer": "{{ label }}"}


@pytest.fixture
def folder(make_scorer: Callable[..., Path]) -> Path:
    return make_scorer("toxicity")


@pytest.fixture
def subject(folder: Path) -> Subject:
    return Subject(load_model_folder(folder), load_tokenizer(folder), "tiny", hidden=True)


def items(labels: tuple[str, str]) -> list[Item]:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 20))) for _ in range(40)]
    return [
        Item({"text": text, "label": labels[n % 2], "kind": "abc"[n % 3] if n % 5 else "d"}, f"a.jsonl:{n}")
        for n, text in enumerate(texts)
    ]


def task(**changes: Any) -> ClassifyTask:
    return validate(ClassifyTask, TASK | changes)


def test_answers_are_those_of_the_public_library(folder: Path, subject: Subject) -> None:
    rows = items(("harmless", "toxic"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    public = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        texts = [str(item.values["text"]) for item in rows]
        found = [public(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].tolist() for text in texts]
    measured = task(by="{{ kind }}", metrics=["accuracy", "macro_f1", "auroc"]).measure(subject, rows, ())
    assert [one["probability"] for one in measured.records] == pytest.approx([max(row) for row in found], abs=1e-6)
    hits = np.array([int(np.argmax(row)) == n % 2 for n, row in enumerate(found)])
    groups = np.array([item.values["kind"] for item in rows])
    values = {(one.task, one.metric.name): one.value for one in measured.measurements}
    assert values["rude", "accuracy"] == pytest.approx(hits.mean())
    for group in "abcd":
        assert values[f"rude/{group}", "accuracy"] == pytest.approx(hits[groups == group].mean())
    up, down = [row[1] for row in found[1::2]], [row[1] for row in found[::2]]
    assert values["rude", "auroc"] == pytest.approx(np.mean([a > b for a in up for b in down]))


def test_a_class_may_have_other_names_and_several(subject: Subject) -> None:
    rows = items(("fine", "hateful"))
    named = task(classes={"hateful": ["toxic", "hate"], "fine": ["harmless"]}, positive="hateful", metrics=["auroc"])
    plain = task(metrics=["auroc"]).measure(subject, items(("harmless", "toxic")), ())
    assert named.measure(subject, rows, ()).measurements[0].value == plain.measurements[0].value
    whole = task(classes={"hateful": ["toxic", "harmless"], "fine": []}).measure(subject, rows, ())
    assert all(one["chosen"] == "hateful" and one["probability"] == pytest.approx(1) for one in whole.records)


def test_a_group_of_one_class_has_no_f1(subject: Subject) -> None:
    found = task(by="{{ label }}").measure(subject, items(("harmless", "toxic")), ()).measurements
    assert {one.metric.name for one in found if one.task == "rude/toxic"} == {"accuracy", "calibration_error"}


def test_what_is_too_long_is_counted(subject: Subject) -> None:
    rows = [*items(("harmless", "toxic"))[:4], Item({"text": "the " * 100, "label": "toxic"}, "a.jsonl:5")]
    skipped, cut = (task(long=long).measure(subject, rows, ()) for long in ("skip", "cut"))
    assert skipped.long == cut.long == 1
    assert len(skipped.records) == 4 and len(cut.records) == 5


@pytest.mark.parametrize(
    ("changes", "values", "kind", "message"),
    [
        ({}, {"label": "rude"}, DataError, "'rude' is not among the classes: harmless, toxic"),
        ({}, {"text": " "}, DataError, "empty"),
        ({"classes": {"a": ["toxic"]}}, {}, ModelError, "'harmless' is none of this task's"),
        ({"positive": "toxc"}, {}, ConfigError, "'toxc' is no class"),
    ],
)
def test_what_does_not_fit_is_told(
    subject: Subject, changes: dict[str, Any], values: dict[str, str], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        task(**changes).measure(subject, [Item({"text": "a", "label": "toxic"} | values, "a.jsonl:1")], ())


def test_a_model_that_writes_tells_no_class(make_model: Callable[..., Transformer], subject: Subject) -> None:
    writer = Subject(make_model("llama", vocab_size=320), subject.tokenizer, "writer", hidden=True)
    with pytest.raises(ModelError, match="continues texts"):
        task().measure(writer, items(("harmless", "toxic")), ())


def test_hatecheck_runs_by_name(subject: Subject) -> None:
    (ran,) = run_tasks(subject, ["hatecheck"], limit=58)
    # Kinds of cases come in turn, so that the first few are some of nearly all.
    found = {one.task: one for one in ran.measured.measurements if one.metric.name == "accuracy"}
    assert len(found) > 25 and len(found["hatecheck"]) == 58 - ran.measured.long
    records = ran.measured.records
    assert found["hatecheck"].value == np.mean([one["right"] == one["chosen"] for one in records])
    assert found["hatecheck"].clusters is not None
