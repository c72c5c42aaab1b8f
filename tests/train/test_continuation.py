"""Runs that go on past their plan, runs with averaged weights, and every optimizer stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ownlm.errors import ConfigError
from ownlm.train.config import ScheduleConfig
from ownlm.train.schedule import rate

pytestmark = pytest.mark.usefixtures("undrawn")

Train = Callable[..., Any]
Curve = Callable[[Path], list[tuple[int, str, str]]]
LR = 3e-3


def rates(trained: Any) -> list[float]:
    return [row["lr"] / LR for row in trained.steps]


def test_more_steps_of_wsd_are_the_longer_run(train: Train, settings: dict[str, Any], curve: Curve) -> None:
    """From the checkpoint made before the decay, bit for bit what the longer run does."""
    wsd = {"schedule__kind": "wsd", "schedule__warmup": 2, "schedule__decay": 0.25, "schedule__shape": "sqrt"}
    whole = train(settings, out=settings["out"] + "-whole", steps=20, **wsd)
    first = train(settings, **wsd)
    assert [step for step in rates(first) if step == 1] == [1] * 8, "two steps of warm-up end at the top, three decay"
    more = train(settings, steps=20, **wsd)
    assert any("going back to step 9, before the learning rate began to fall" in line for line in more.said)
    assert curve(more.run.folder) == curve(whole.run.folder)
    assert (more.run.model / "model.safetensors").read_bytes() == (whole.run.model / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["cosine", "linear", "wsd"])
def test_where_nothing_stable_is_kept_the_rate_never_jumps(train: Train, settings: dict[str, Any], kind: str) -> None:
    schedule = {"schedule__kind": kind, "schedule__warmup": 3, "schedule__rewarm": 4, "schedule__decay": 1.0}
    train(settings, **schedule)
    more = train(settings, steps=32, **schedule)
    found = rates(more)
    assert len(found) == 32 and found[11] == pytest.approx(0.1) and found[-1] == pytest.approx(0.1)
    config = ScheduleConfig(kind=kind, warmup=3, decay=1.0)
    assert found[15:] == pytest.approx([rate(config, step, 32) for step in range(15, 32)])
    assert all(abs(b - a) <= 1 / 3 + 1e-9 for a, b in pairwise(found))
    assert found[11] < found[12] < found[13] < found[14]
    assert any("to the new plan's in 4 steps" in line for line in more.said)


OPTIMIZERS = [
    {"optimizer__kind": kind, "optimizer__states": states, "ema": ema}
    for kind, states, ema in [
        ("adamw", "eight_bit", None),
        ("muon", "float32", {"decay": 0.9}),
        ("muon", "eight_bit", {"decay": 0.9}),
    ]
]


@pytest.mark.parametrize("changes", OPTIMIZERS)
def test_a_stopped_run_ends_as_one_that_was_not(
    train: Train, settings: dict[str, Any], curve: Curve, changes: dict[str, Any]
) -> None:
    changes = {**changes, "schedule__kind": "constant", "model__width": 64}
    whole = train(settings, out=settings["out"] + "-whole", **changes)
    train(settings, steps=4, **changes)
    again = train(settings, **changes)
    assert any("resuming at step 4" in line for line in again.said)
    assert [row for row in curve(again.run.folder) if row[0] > 6] == [
        row for row in curve(whole.run.folder) if row[0] > 6
    ]
    assert (again.run.model / "model.safetensors").read_bytes() == (whole.run.model / "model.safetensors").read_bytes()


def test_the_result_is_the_average_by_hand(train: Train, settings: dict[str, Any]) -> None:
    """Of the checkpoints of every step, the average written out; the held-out loss is the average's."""
    changes = {"checkpoint__every": 1, "checkpoint__keep": 20, "steps": 5, "validate__every": 5}
    plain = train(settings, out=settings["out"] + "-plain", **changes)
    run = train(settings, **changes, ema={"decay": 0.25}).run
    steps = [load_file(plain.run.folder / "checkpoints" / f"step-{n}" / "model.safetensors") for n in range(1, 6)]
    kept = [2 / 11, *[0.25] * 4]
    result = load_file(run.folder / "model" / "model.safetensors")
    averages = load_file(run.folder / "checkpoints" / "step-5" / "ema.safetensors")
    assert len(averages) == len(result)
    # The first step's share is of the initial weights, which the second checkpoint's average tells.
    first = load_file(run.folder / "checkpoints" / "step-1" / "ema.safetensors")
    for name in ("transformer.h.0.attn.c_attn.weight", "transformer.wte.weight"):
        ours = {"transformer.h.0.attn.c_attn.weight": "layers.0.attention.qkv.weight"}.get(
            name, "embedding.token.weight"
        )
        average = first[ours]
        average = average.t() if "c_attn" in name else average
        for share, weights in zip(kept[1:], steps[1:], strict=True):
            average = share * average + (1 - share) * weights[name]
        assert torch.allclose(result[name], average, rtol=0, atol=1e-6), name
        assert not torch.equal(result[name], steps[-1][name])
    assert run.summary["val_loss"] != plain.run.summary["val_loss"]
    assert [r["loss"] for r in run.metrics if "loss" in r] == [r["loss"] for r in plain.steps], (
        "training sees none of it"
    )


def test_muon_with_an_adapter_is_refused_before_the_first_step(train: Train, chat_settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="muon is for a model's own matrices"):
        train(chat_settings, optimizer__kind="muon")
    assert not (Path(chat_settings["out"]) / "checkpoints").exists()
