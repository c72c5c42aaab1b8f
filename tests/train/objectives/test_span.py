"""Question answering: the public loss and gradients, the same for any split, and the official scores."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from ownlm.errors import ConfigError, DataError, UserError
from ownlm.model.checkpoint import load_model_folder, read_config, save_model_folder, state_to_hf
from ownlm.prediction.answers import AnswerOptions, answer
from ownlm.prediction.squad import squad_scores
from ownlm.tokens.questions import Question, read_questions, right_answers
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.objectives.span import Span, SpanConfig

WORDS = ["the", "model", "reads", "text", "learns", "token", "by", "word", "and", "writes", "what", "it", "has"]
SPAN = {"kind": "span", "stride": 8, "max_answer": 6}


def rows(count: int, seed: int, longest: int = 60, none: float = 0.0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    made = []
    for number in range(count):
        words = draw.choices(WORDS, k=draw.randint(6, longest))
        first = draw.randrange(len(words) - 3)
        text = " ".join(words[first : first + draw.randint(1, 3)])
        start = len(" ".join(words[:first])) + (first > 0)
        answers = [] if draw.random() < none else [{"text": text, "answer_start": start}]
        question = " ".join(draw.choices(WORDS, k=3))
        made.append({"id": str(number), "question": question, "context": " ".join(words), "answers": answers})
    return made


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_loss_and_the_gradients_are_the_public_ones(
    encoder: Path, ready: Callable[..., Any], equal: Callable[..., None], tmp_path: Path
) -> None:
    here = ready(write(tmp_path / "rows.jsonl", rows(20, 1)), **SPAN)
    found = here.step(here.loader.micro_batches(0, 300))
    save_model_folder(here.model, tmp_path / "model", tokenizer=load_tokenizer(encoder))
    reference = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "model").eval()
    batch = here.objective.batch(here.loader.batch(0), 0)
    documents = list(itertools.pairwise(batch.document_starts))
    assert len(documents) > 20
    assert any(span != [0, 0] for span in batch.columns["span"].tolist())
    total = 0.0
    # One at a time: the public loss gives padding a share of the probabilities.
    for (start, end), span in zip(documents, batch.columns["span"].tolist(), strict=True):
        inputs = {"input_ids": batch.tokens[None, start:end], "token_type_ids": batch.segments[None, start:end]}
        places = [torch.tensor([place]) for place in span]
        loss = reference(**inputs, start_positions=places[0], end_positions=places[1]).loss / len(documents)
        loss.backward()
        total += loss.item()
    expected = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    ours = state_to_hf(here.model.state_dict() | found[1], here.model.config)
    equal((found[0], {name: ours[name] for name in expected}), (total, expected))


def test_any_split_and_any_workers_give_one_step(
    ready: Callable[..., Any], equal: Callable[..., None], tmp_path: Path
) -> None:
    here = ready(write(tmp_path / "rows.jsonl", rows(20, 2, none=0.3)), **SPAN)
    whole = here.step([here.loader.batch(0)])
    for size in (1, 70, 200):
        equal(here.step(here.loader.micro_batches(0, size)), whole)
    for workers in (2, 5):
        equal(here.step([here.loader.batch(0, worker, workers) for worker in range(workers)]), whole)
    batch = here.objective.batch(here.loader.batch(0), 0)
    assert here.objective.units(batch) == len(batch.documents)
    assert here.objective.trained_tokens(batch).tolist() == np.diff(batch.document_starts).tolist()
    idle = batch.untrained()
    assert here.objective.units(idle) == 0 and here.objective.loss(here.model, idle, 1.0).item() == 0


def held(here: Any, path: Path, encoder: Path) -> list[Question]:
    """Makes the training data the validation data too, and gives its questions."""
    here.objective._ask(here.loader.datasets[0])
    return list(read_questions([path]))


@pytest.mark.parametrize("none", [0.0, 0.4])
def test_the_scores_are_those_of_the_answers_that_predict_gives(
    none: float, encoder: Path, ready: Callable[..., Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", rows(30, 3, none=none))
    here = ready(path, **SPAN)
    questions = held(here, path, encoder)
    batches = [here.objective.batch(batch, None) for batch in here.loader.micro_batches(0, 300)]
    measured = here.objective.validate(here.model, batches)
    assessed = here.objective.assess(here.model, batches)
    settings = assessed.pop("answers")
    expected_settings = {"max_answer": 6, "may_be_none": none > 0, "length": 64, "stride": 8}
    assert assessed == measured and settings == expected_settings
    threshold = measured.pop("null_threshold", float("inf"))
    options = AnswerOptions(max_answer=6, null_threshold=threshold, stride=8)
    found = answer(here.model, load_tokenizer(encoder), [(q.question, q.context) for q in questions], options)
    expected = squad_scores([one.answer or "" for one in found], [right_answers(q) for q in questions])
    assert {name: value for name, value in measured.items() if name != "loss"} == pytest.approx(expected)
    assert ("no_exact" in measured) == (none > 0)
    assert here.objective.validate(here.model, []) == {}


def test_questions_without_their_files_have_a_loss_alone(
    read: Callable[..., Any], ready: Callable[..., Any], tmp_path: Path
) -> None:
    made = read(Span(SpanConfig(stride=8), 0), write(tmp_path / "rows.jsonl", rows(10, 4)))
    here = ready(made.folder, **SPAN)
    here.objective._ask(here.loader.datasets[0])
    batches = [here.objective.batch(batch, None) for batch in here.loader.micro_batches(0, 300)]
    assert list(here.objective.validate(here.model, batches)) == ["loss"]
    # How it is to be asked is known even so.
    expected = {"max_answer": 6, "stride": 8, "may_be_none": False}
    assert here.objective.assess(here.model, []) == {"answers": expected}


def test_a_run_learns_what_can_be_learned(
    encoder: Path, tmp_path: Path, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is the word after 'writes'."""
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    draw = random.Random(5)
    made = []
    for number in range(300):
        words = draw.choices([word for word in WORDS if word != "writes"], k=draw.randint(4, 12))
        place = draw.randrange(len(words) - 1)
        words[place] = "writes"
        start = len(" ".join(words[: place + 1])) + 1
        answers = [{"text": words[place + 1], "answer_start": start}]
        made.append({"id": str(number), "question": "what", "context": " ".join(words), "answers": answers})
    config = {
        "out": str(tmp_path / "run"),
        "base": str(encoder),
        "objective": {"kind": "span"},
        "data": {
            "train": str(write(tmp_path / "train.jsonl", made[:250])),
            "validation": str(write(tmp_path / "held.jsonl", made[250:])),
        },
        "batch_tokens": 512,
        "steps": 100,
        "precision": "fp32",
        "optimizer": {"lr": 4e-3},
        "validate": {"every": 50},
    }
    done = train(config)
    last = [row for row in done.run.metrics if "val_loss" in row][-1]
    assert last["val_exact"] > 80 and last["val_f1"] > 80
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(done.run.model)
    assert model.config.num_labels == 2
    # The folder says how it answers, and so answers as it was measured.
    lineage = json.loads((done.run.model / "ownlm.json").read_text())["lineage"]["held_out"]
    assert lineage["answers"] == {"max_answer": 30, "may_be_none": False, "length": 64, "stride": 128}
    loaded = load_model_folder(done.run.model)
    loaded.source = done.run.model
    asked = [(row["question"], row["context"]) for row in made[250:]]
    found = answer(loaded, load_tokenizer(done.run.model), asked)
    right = [[row["answers"][0]["text"]] for row in made[250:]]
    assert squad_scores([one.answer or "" for one in found], right)["exact"] == pytest.approx(lineage["exact"])


def test_a_run_without_validation_says_how_its_model_answers(
    encoder: Path, tmp_path: Path, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    config = {
        "out": str(tmp_path / "run"),
        "base": str(encoder),
        "objective": SPAN,
        "data": {"train": str(write(tmp_path / "train.jsonl", rows(10, 8, none=0.5))), "length": 40},
        "batch_tokens": 512,
        "steps": 2,
    }
    done = train(config)
    lineage = json.loads((done.run.model / "ownlm.json").read_text())["lineage"]["held_out"]
    assert lineage == {"answers": {"max_answer": 6, "stride": 8, "may_be_none": True, "length": 40}}
    assert "On the held-out data" not in (done.run.folder / "report.html").read_text()


def test_what_is_wrong_is_found_before_the_first_step(
    encoder: Path, ready: Callable[..., Any], read: Callable[..., Any], tmp_path: Path
) -> None:
    wrong = [
        *rows(5, 6),
        {"id": "x", "question": "q", "context": "the model", "answers": [{"text": "cat", "answer_start": 0}]},
    ]
    path = write(tmp_path / "wrong.jsonl", wrong)
    with pytest.raises(DataError, match="'cat' is not in its context"):
        ready(path, **SPAN)
    assert len(ready(path, on_bad="drop", **SPAN).loader.datasets[0]) >= 5
    with pytest.raises(DataError, match="no 'question' here"):
        ready(write(tmp_path / "texts.jsonl", [{"text": "the model", "label": 1}]), **SPAN)
    with pytest.raises(DataError, match="this file is empty"):
        ready(write(tmp_path / "empty.jsonl", []), **SPAN)
    made = read(Span(SpanConfig(stride=8), 0), write(tmp_path / "rows.jsonl", rows(10, 7)))
    with pytest.raises(UserError, match="was made for questions, and the objective learns labels"):
        ready(made.folder, kind="classify", labels=["a", "b"])
    with pytest.raises(ConfigError, match="none may be split"):
        ready(made.folder, batch_tokens=int(made.lengths.max()) - 1, **SPAN)
    with pytest.raises(ConfigError, match="unknown key 'max_answers'") as caught:
        read_train_config({"base": "x", "data": {"train": "y"}, "objective": {"kind": "span", "max_answers": 3}})
    assert "max_answer" in (caught.value.hint or "")


def test_the_head_of_an_answering_base_is_kept(encoder: Path) -> None:
    base = read_config(encoder)
    shape = Span(SpanConfig(), 0).shape(base, [])
    assert shape.head == "span" and shape.model_copy(update={"head": base.head}) == base
    assert Span(SpanConfig(), 0).shape(shape, []) is shape
