"""The best validation by another measure than the loss: which way is better, early stopping, exact resume, refusals."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import ConfigError, Interrupted
from ownlm.model.checkpoint import load_model_folder
from ownlm.train.best import check_measured, enter_best
from ownlm.train.checkpoint import TrainingState
from ownlm.train.config import read_train_config
from ownlm.train.objectives import make_objective
from ownlm.train.run import run_training

Train = Callable[..., Any]
WORDS = ["the", "model", "reads", "text", "learns", "token", "by", "word", "and", "writes"]


@pytest.fixture
def labelled(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A run that learns a class from a word of the text."""
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    for name, count in (("train", 60), ("held", 20)):
        draw, rows = random.Random(name), []
        for _ in range(count):
            words = draw.choices(WORDS, k=6)
            rows.append({"text": " ".join(words), "label": "yes" if "the" in words else "no"})
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "out": str(tmp_path / "run"),
        "base": str(encoder),
        "objective": {"kind": "classify"},
        "data": {"train": str(tmp_path / "train.jsonl"), "validation": str(tmp_path / "held.jsonl")},
        "batch_tokens": 128,
        "steps": 8,
        "precision": "fp32",
        "optimizer": {"lr": 3e-2},
        "validate": {"every": 1, "best": "accuracy"},
        "checkpoint": {"every": 5},
    }


def entered(name: str, kind: dict[str, Any], values: list[tuple[float, float]]) -> tuple[list[bool], TrainingState]:
    """What each of several validations (loss, measure) comes to."""
    config = read_train_config({"base": "b", "data": {"train": "t"}, "objective": kind})
    objective, state, better = make_objective(config.objective, 0), TrainingState(), []
    for step, (loss, value) in enumerate(values, 1):
        state.step = step
        better.append(enter_best(state, name, objective, loss, {name: value}))
    return better, state


def test_each_measure_has_its_better_way() -> None:
    values = [(3.0, 0.5), (1.0, 0.4), (2.0, 0.6), (0.5, 0.6), (0.1, float("nan"))]
    better, state = entered("accuracy", {"kind": "classify"}, values)
    assert better == [True, False, True, False, False]
    assert (state.best_step, state.best_loss, state.best_value, state.since_best) == (3, 2.0, 0.6, 2)
    better, state = entered("mean_squared_error", {"kind": "classify", "problem": "regression"}, values)
    assert better == [True, True, False, False, False] and state.best_value == 0.4
    better, state = entered("loss", {"kind": "causal"}, values)
    assert better == [True, True, False, True, True] and (state.best_loss, state.best_value) == (0.1, None)


@pytest.mark.usefixtures("undrawn")
def test_the_result_is_the_best_by_the_measure(labelled: dict[str, Any], train: Train) -> None:
    trained = train(labelled)
    rows = [row for row in trained.run.metrics if "val_loss" in row and row["step"]]
    first = max(rows, key=lambda row: row["val_accuracy"])
    summary = trained.run.summary
    assert (summary["best_by"], summary["best_step"], summary["val_loss"]) == (
        "accuracy",
        first["step"],
        first["val_loss"],
    )
    assert first["step"] != min(rows, key=lambda row: row["val_loss"])["step"], "the loss would choose another"
    best = Path(labelled["out"]) / "checkpoints" / f"step-{first['step']}"
    expected = load_model_folder(best).state_dict()
    result = load_model_folder(trained.run.model).state_dict()
    assert all((expected[name] == value).all() for name, value in result.items())


@pytest.mark.usefixtures("undrawn")
def test_patience_follows_the_measure_and_a_resumed_run_is_the_same(
    labelled: dict[str, Any], train: Train, curve: Callable[[Path], Any], tmp_path: Path
) -> None:
    whole = train(labelled, validate__patience=3, steps=20)
    assert whole.run.summary["stopped"] == "no better held-out accuracy for 3 validations"

    def stop(message: str) -> None:
        if message.startswith(f"step {whole.run.summary['best_step'] + 1}:"):
            raise KeyboardInterrupt

    other = labelled | {"out": str(tmp_path / "other"), "steps": 20}
    other["validate"] = labelled["validate"] | {"patience": 3}
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        run_training(read_train_config(other), say=stop)
    resumed = train(other)
    assert curve(Path(other["out"])) == curve(whole.run.folder)
    kept = ("best_step", "val_loss", "steps", "stopped")
    assert [resumed.run.summary[key] for key in kept] == [whole.run.summary[key] for key in kept]
    with pytest.raises(ConfigError, match=r"validate\.best: accuracy, not loss"):
        train(other, validate__best="loss")


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"validate.best": "acuracy"}, "has no measure 'acuracy'", "did you mean 'accuracy'?"),
        ({"validate.best": "f1"}, "has no measure 'f1'", "known: accuracy, loss, macro_f1, matthews"),
        ({"data.validation": []}, "nothing is held out", "set data.validation"),
    ],
)
def test_a_measure_that_cannot_be_taken_is_refused(
    labelled: dict[str, Any], train: Train, changes: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        train(labelled, **{key.replace(".", "__"): value for key, value in changes.items()})
    assert (caught.value.where, caught.value.hint) == ("validate.best", hint)
    assert not (Path(labelled["out"]) / "metrics.jsonl").exists()


def test_held_out_data_that_says_too_little_is_refused() -> None:
    check_measured("loss", {})
    check_measured("f1", {"f1": 0.0})
    with pytest.raises(ConfigError, match="f1 cannot be measured"):
        check_measured("f1", {})
