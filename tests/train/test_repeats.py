"""How often a run passes over its sources, held against counting what its steps read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ownlm.config import merge
from ownlm.report.training import training_report
from ownlm.train.config import read_train_config
from ownlm.train.data import prepare_data
from ownlm.train.repeats import passes, repeats
from ownlm.train.setup import set_up

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize("steps", [1, 7, 30, 83])
def test_passes_are_what_the_steps_read(settings: dict[str, Any], corpus: Any, steps: int) -> None:
    mix = [
        {"dataset": str(corpus / "train.jsonl"), "weight": 3},
        {"dataset": str(corpus / "held.jsonl"), "weight": 1, "epochs": 3},
    ]
    config = read_train_config(merge(settings, {"data": {"mix": mix}}))
    data = prepare_data(config, set_up(config), lambda message: None)
    read = np.zeros(2)
    for step in range(steps):
        for piece in data.loader.pieces(step):
            read[piece.dataset] += len(piece)
    held = np.array([dataset.total_tokens for dataset in data.loader.datasets])
    # Of an epoch not read to its end, a source's share may differ a little from the steps' share.
    assert list(passes(data, steps).values()) == pytest.approx((read / held).tolist(), rel=0.12, abs=0.35)


def test_more_than_four_passes_are_told_before_the_first_step(
    train: Callable[..., Any], settings: dict[str, Any]
) -> None:
    trained = train(settings, steps=None, epochs=5)
    told = [line for line in trained.said if "passed 5.0 times" in line]
    assert len(told) == 1 and trained.said.index(told[0]) < trained.said.index(
        next(s for s in trained.said if "step" in s)
    )
    assert trained.run.summary["passes"] == {settings["data"]["train"]: 5.0}
    page = training_report(trained.run.folder).html()
    assert "is passed 5.0 times in this run" in page and "Passes over each source" in page


def test_four_passes_are_nearly_as_good_as_new(settings: dict[str, Any]) -> None:
    config = read_train_config(merge(settings, {"steps": None, "epochs": 4}))
    data = prepare_data(config, set_up(config), lambda message: None)
    assert passes(data, data.steps(config)) == {settings["data"]["train"]: 4.0}
    assert repeats(data, data.steps(config)) == []


def test_a_run_on_four_texts_overfits(
    train: Callable[..., Any], settings: dict[str, Any], tmp_path: Path, corpus: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join((corpus / "train.jsonl").read_text().splitlines(keepends=True)[:4]))
    run = train(settings, data__train=str(few), steps=80, optimizer__lr=2e-2, validate__every=8).run
    page = training_report(run.folder).html()
    assert "Overfitting from step" in page and 'role="note"' in page and "<strong>Gap</strong>" in page
