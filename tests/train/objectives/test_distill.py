"""Distillation against the public models, a document at a time."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from ownlm.errors import ConfigError, UserError
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.model.chosen_layers import take_layers
from ownlm.model.families import config_from_user
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.tokens.train_bpe import train_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.data import prepare_data
from ownlm.train.objectives.distill import Distill
from ownlm.train.setup import set_up

Shape = dict[str, Any]
TEACHER: Shape = {"family": "llama", "layers": 3, "width": 48, "heads": 4, "kv_heads": 2, "vocab_size": 320}
ENCODER: Shape = {"family": "bert", "layers": 2, "width": 32, "heads": 4, "head": "masked", "initializer_range": 0.15}


def saved(folder: Path, shape: Shape, tokenizer: Tokenizer, seed: int) -> Path:
    shape = {"initializer_range": 0.1, **shape, "max_positions": shape.get("max_positions", 128)}
    save_model_folder(random_model(config_from_user(shape), seed), folder, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another shape than the student, with its vocabulary."""
    return saved(tmp_path_factory.mktemp("teacher") / "model", TEACHER, load_tokenizer(corpus / "base"), 11)


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[float], list[Any], Any]]:
    """The losses and the embedding's gradients of a step, cut in several ways; and the objective's own batch."""
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))

    def run(base: Path, data: Path, **objective: Any) -> tuple[list[float], list[Any], Any]:
        values: dict[str, Any] = {"base": str(base), "data": {"train": str(data)}, "batch_tokens": 4096}
        config = read_train_config(values | {"objective": {"kind": "distill", **objective}})
        setup = set_up(config)
        assert isinstance(setup.objective, Distill)
        model = load_model_folder(base, config=setup.shape)
        ready = prepare_data(config, setup, lambda line: None)
        setup.objective.begin(model, ready, tmp_path)
        losses, gradients = [], []
        for size in (4096, 150):
            batches = [setup.objective.batch(batch, 0) for batch in ready.loader.micro_batches(0, size)]
            units = sum(setup.objective.units(batch) for batch in batches)
            model.zero_grad(set_to_none=True)
            total = 0.0
            for batch in batches:
                loss = setup.objective.loss(model, batch, 1.0 / units)
                loss.backward()
                total += loss.item()
            losses.append(total)
            gradients.append(model.embedding.token.weight.grad)
        assert setup.objective._teacher is not None
        assert not any(
            parameter.requires_grad or parameter.grad is not None for parameter in setup.objective._teacher.parameters()
        )
        with torch.no_grad():
            measured = setup.objective.validate(model, batches)
        assert measured["loss"] == pytest.approx(losses[1], rel=1e-5)
        return losses, gradients, (batches, measured)

    return run


def public_loss(
    student: Any, teacher: Any, batches: Any, objective: dict[str, Any], shifted: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """The mixed loss, cross-entropy and divergence, each a mean over the trained tokens."""
    temperature, alpha = objective.get("temperature", 1.0), objective.get("alpha", 0.5)
    ordinary, apart = [], []
    for batch in batches:
        for start, end in itertools.pairwise(batch.document_starts):
            ids = batch.tokens[start:end].unsqueeze(0)
            trained = batch.weights[start:end] != 0
            targets = batch.targets[start:end][trained]
            logits = student(input_ids=ids).logits[0][trained]
            with torch.no_grad():
                wanted = teacher(input_ids=ids).logits[0][trained]
            ordinary.append(F.cross_entropy(logits, targets, reduction="none"))
            q, p = ((x / temperature).log_softmax(-1) for x in (logits, wanted))
            pair = (p, q) if objective.get("divergence") == "reverse_kl" else (q, p)
            apart.append(F.kl_div(*pair, reduction="none", log_target=True).sum(-1))
    means = torch.cat(ordinary).mean(), torch.cat(apart).mean()
    return alpha * means[0] + (1 - alpha) * temperature**2 * means[1], *means


@pytest.mark.parametrize(
    "objective",
    [
        {},
        {"temperature": 2.0, "alpha": 0.2},
        {"divergence": "reverse_kl", "alpha": 0.0},
        {"data_kind": "chat", "temperature": 1.5},
    ],
    ids=str,
)
def test_a_step_is_that_of_the_public_models(
    objective: dict[str, Any], step: Callable[..., Any], corpus: Path, teacher: Path
) -> None:
    data = corpus / ("chats.jsonl" if objective.get("data_kind") == "chat" else "held.jsonl")
    losses, gradients, (batches, measured) = step(corpus / "base", data, teacher=str(teacher), **objective)
    models = (
        transformers.AutoModelForCausalLM.from_pretrained(x, dtype=torch.float32) for x in (corpus / "base", teacher)
    )
    student, wanted = models
    expected, ordinary, apart = public_loss(student, wanted, batches, objective)
    expected.backward()
    theirs = student.get_input_embeddings().weight.grad
    for loss, gradient in zip(losses, gradients, strict=True):
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(gradient, theirs, rtol=1e-3, atol=1e-6)
    assert measured["cross_entropy"] == pytest.approx(ordinary.item(), rel=1e-5)
    assert measured["divergence"] == pytest.approx(apart.item(), rel=1e-5)


def test_hidden_tokens(step: Callable[..., Any], encoder: Path, corpus: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(encoder)
    shape = ENCODER | {"vocab_size": tokenizer.vocab_size}
    base = saved(tmp_path / "student", shape, tokenizer, 1)
    teacher = saved(tmp_path / "teacher", shape | {"width": 64, "layers": 3}, tokenizer, 2)
    objective = {"data_kind": "masked", "temperature": 2.0}
    losses, gradients, (batches, _) = step(base, corpus / "held.jsonl", teacher=str(teacher), **objective)
    student, wanted = (
        transformers.AutoModelForMaskedLM.from_pretrained(x, dtype=torch.float32).eval() for x in (base, teacher)
    )
    expected, _, _ = public_loss(student, wanted, batches, objective)
    expected.backward()
    for loss, gradient in zip(losses, gradients, strict=True):
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(gradient, student.get_input_embeddings().weight.grad, rtol=1e-3, atol=1e-6)


def test_a_student_that_is_its_teacher(step: Callable[..., Any], corpus: Path) -> None:
    losses, gradients, (_, measured) = step(
        corpus / "base", corpus / "held.jsonl", teacher=str(corpus / "base"), alpha=0.0
    )
    assert losses == [0, 0] and measured["divergence"] == 0
    assert gradients[0].abs().max() < 1e-8


@pytest.fixture
def distill_settings(settings: dict[str, Any], teacher: Path) -> dict[str, Any]:
    objective = {"kind": "distill", "teacher": str(teacher), "alpha": 0.05}
    shape = {"family": "llama", "layers": 1, "width": 32, "heads": 2, "vocab_size": 320, "max_positions": 64}
    return settings | {"model": shape, "objective": objective, "data": {**settings["data"], "length": 64}}


@pytest.mark.usefixtures("undrawn")
def test_a_run_comes_nearer_to_its_teacher(
    train: Callable[..., Any], curve: Callable[[Path], Any], distill_settings: dict[str, Any], tmp_path: Path
) -> None:
    trained = train(distill_settings, steps=12)
    rows = [row for row in trained.run.metrics if "val_loss" in row]
    assert rows[-1]["val_divergence"] < rows[0]["val_divergence"]
    for row in rows:
        mixed = 0.05 * row["val_cross_entropy"] + 0.95 * row["val_divergence"]
        assert row["val_loss"] == pytest.approx(mixed, rel=1e-5)
    # The teacher is no part of the result.
    assert load_model_folder(trained.run.model).config.layers == 1
    # Stopped and resumed, it is the same run.
    again = {
        **distill_settings,
        "out": str(tmp_path / "again"),
        "checkpoint": {"every": 5},
        "schedule": {"kind": "constant"},
    }
    train(again, steps=6)
    train(again, steps=12)
    whole = train(again, out=str(tmp_path / "whole"), steps=12)
    ours, theirs = curve(tmp_path / "again"), curve(whole.run.folder)
    assert [row for row in ours if row in theirs] == theirs


def test_a_student_made_of_its_teachers_layers_begins_nearer(
    step: Callable[..., Any], corpus: Path, teacher: Path, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(teacher)
    save_model_folder(take_layers(load_model_folder(teacher), [0, 2]), tmp_path / "taken", tokenizer=tokenizer)
    drawn = saved(tmp_path / "drawn", TEACHER | {"layers": 2}, tokenizer, 5)
    both = [step(x, corpus / "held.jsonl", teacher=str(teacher), alpha=0.0)[0][0] for x in (tmp_path / "taken", drawn)]
    assert both[0] < both[1]


def test_what_cannot_be(
    train: Callable[..., Any], distill_settings: dict[str, Any], tmp_path: Path, encoder: Path, corpus: Path
) -> None:
    other = train_tokenizer([json.dumps(row) for row in range(300)], 290)
    strange = saved(tmp_path / "strange", TEACHER, other, 4)
    with pytest.raises(ConfigError, match="has another vocabulary than the model that is trained") as caught:
        train(distill_settings, objective__teacher=str(strange))
    assert caught.value.where == "objective.teacher" and "ownlm generate" in str(caught.value.hint)
    with pytest.raises(UserError, match="unknown model 'no-such'") as nowhere:
        train(distill_settings, objective__teacher="no-such")
    assert nowhere.value.where == "objective.teacher"
    short = saved(tmp_path / "short", TEACHER | {"max_positions": 32}, load_tokenizer(corpus / "base"), 4)
    with pytest.raises(ConfigError, match="the teacher reads at most 32 tokens, and documents may have 64"):
        train(distill_settings, objective__teacher=str(short))
    tokenizer = load_tokenizer(encoder)
    student = saved(tmp_path / "student", ENCODER | {"vocab_size": tokenizer.vocab_size}, tokenizer, 4)
    masked = {"kind": "distill", "teacher": str(encoder), "data_kind": "masked"}
    headless = {**distill_settings, "model": None, "tokenizer": None, "base": str(student), "objective": masked}
    with pytest.raises(ConfigError, match="cannot tell a hidden token"):
        train(headless)
    for key, value in (("temperature", 0), ("alpha", 1), ("divergence", "kl")):
        with pytest.raises(ConfigError):
            train(distill_settings, **{f"objective__{key}": value})
