"""Runs that go on: to more steps under each schedule, with averaged weights, after a step that could not be used."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ownlm import native
from ownlm.errors import OwnlmError
from ownlm.train.allocator import allocator_library
from ownlm.train.loop import Loop
from ownlm.train.objectives.language import Causal

Train = Callable[..., Any]


def rates(done: Any) -> list[float]:
    return [row["lr"] for row in done.steps]


def test_a_wsd_run_goes_on_from_before_its_decay_as_if_planned_so(settings: dict[str, Any], train: Train) -> None:
    schedule = {"schedule__kind": "wsd", "schedule__warmup": 2, "schedule__decay": 0.25, "checkpoint__every": 3}
    planned = train(settings, out=settings["out"] + "-planned", steps=20, **schedule)
    train(settings, steps=12, **schedule)
    went_on = train(settings, steps=20, **schedule)
    assert "going back to step 9, before the learning rate began to fall, to go on to 20 steps" in went_on.said
    assert [row["loss"] for row in went_on.steps] == [row["loss"] for row in planned.steps]
    assert rates(went_on) == rates(planned)


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_decayed_run_rewarms_without_a_jump(settings: dict[str, Any], train: Train, kind: str) -> None:
    schedule = {"schedule__kind": kind, "schedule__warmup": 2, "schedule__rewarm": 4}
    first = rates(train(settings, steps=12, **schedule))
    done = train(settings, steps=24, **schedule)
    assert rates(done)[:12] == first
    steps = [abs(b - a) for a, b in zip(rates(done), rates(done)[1:], strict=False)]
    assert max(steps) <= 3e-3 / 2 and rates(done)[-1] == pytest.approx(0.1 * 3e-3)
    assert any("the learning rate goes from where it stands" in line for line in done.said)


def test_averaged_weights_are_what_is_validated_and_what_results(settings: dict[str, Any], train: Train) -> None:
    plain = train(settings, out=settings["out"] + "-plain")
    done = train(settings, ema={"decay": 0.9, "warmup": False})
    assert [row["loss"] for row in done.steps] == [row["loss"] for row in plain.steps]
    assert done.validations[-1] != plain.validations[-1]
    out = Path(settings["out"])
    saved = load_file(out / "checkpoints" / "step-12" / "ema.safetensors")
    result = load_file(out / "model" / "model.safetensors")
    assert torch.equal(result["transformer.h.0.mlp.c_fc.weight"].t(), saved["layers.0.feedforward.up.weight"])


def test_a_step_with_no_finite_loss_is_skipped_saved_and_left_out_of_the_ledger(
    settings: dict[str, Any], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Causal.loss

    def loss(self: Causal, model: Any, batch: Any, share: float) -> torch.Tensor:
        value = honest(self, model, batch, share)
        return value * math.nan if model.training and len(calls) == 3 else value

    calls: list[int] = []
    step = Loop._step

    def counted(self: Loop, *arguments: Any) -> float:
        calls.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(Causal, "loss", loss)
    monkeypatch.setattr(Loop, "_step", counted)
    done = train(settings, non_finite="skip")
    assert done.steps[2]["loss"] is None and len(done.steps) == 12
    folder = Path(settings["out"]) / "non-finite" / "step-3"
    rows = [json.loads(line) for line in (folder / "documents.jsonl").read_text().split("\n")[:-1]]
    tensors = load_file(folder / "batch.safetensors")
    assert sum(row["tokens"] for row in rows) == sum(len(v) for k, v in tensors.items() if k.endswith(".tokens"))
    assert all(row["text"] for row in rows)
    total = done.run.summary["ledger"]["total"]
    lost = total["dropped"]["the step's loss was not a finite number"]["tokens"]
    assert lost > 0
    assert total["tokens"] == total["trained"] + total["masked"] + lost + total["unseen"]
    calls.clear()
    with pytest.raises(OwnlmError, match=r"its batch is in .*step-3"):
        train(settings, out=settings["out"] + "-stopped")


def test_too_many_steps_in_a_row_that_cannot_be_used_stop_the_run(
    settings: dict[str, Any], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Causal.loss
    monkeypatch.setattr(Causal, "loss", lambda *a: honest(*a) * (math.nan if a[1].training else 1))
    with pytest.raises(OwnlmError, match="for the 11th time in a row"):
        train(settings, non_finite="skip", steps=20)


def fails_above_100_tokens(monkeypatch: pytest.MonkeyPatch, *, training: bool) -> None:
    """Larger micro-batches meet the framework's own error for a failed allocation, in training or in validation."""
    honest = Causal.loss

    def loss(self: Causal, model: Any, batch: Any, share: float) -> torch.Tensor:
        if model.training == training and len(batch) > 100:
            torch.empty(2**55)
        return honest(self, model, batch, share)

    monkeypatch.setattr(Causal, "loss", loss)


def test_a_step_that_does_not_fit_is_halved_and_its_loss_stays(
    settings: dict[str, Any], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(settings, out=settings["out"] + "-whole")
    fails_above_100_tokens(monkeypatch, training=True)
    done = train(settings)
    assert [row["loss"] for row in done.steps] == pytest.approx([row["loss"] for row in expected.steps], rel=1e-5)
    said = [line for line in done.said if "does not fit into memory" in line]
    assert len(said) == 2 and "going on with 64" in said[-1]


def test_held_out_data_that_does_not_fit_is_halved_and_its_loss_stays(
    settings: dict[str, Any], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(settings, out=settings["out"] + "-whole")
    fails_above_100_tokens(monkeypatch, training=False)
    done = train(settings)
    assert [loss for _, loss in done.validations] == pytest.approx([loss for _, loss in expected.validations], rel=1e-5)
    assert any(line.startswith("the held-out data does not fit into memory") for line in done.said)


def test_what_cannot_be_halved_is_an_error(
    settings: dict[str, Any], train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Causal, "loss", lambda *a: torch.empty(2**55))
    with pytest.raises(RuntimeError, match="allocate memory"):
        train(settings, data__validation=[])


SCRIPT = """
import json, resource, sys
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training
config = json.loads(sys.argv[1])
limit = int(sys.argv[2])
if limit and sys.argv[3] == "ours":
    from ownlm.train import allocator
    allocator.available_memory_bytes = lambda: limit
elif limit:
    from ownlm.train.gradient import Gradients
    make = Gradients.make
    def limited(self, *arguments):
        used = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (used + limit, resource.RLIM_INFINITY))
        try:
            return make(self, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    Gradients.make = limited
run = run_training(read_train_config(config))
print(json.dumps([row["loss"] for row in run.metrics if "loss" in row]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS"), reason="the system has no limit on a process's memory")
@pytest.mark.parametrize("whose", ["the system's", "ours"])
def test_a_real_limit_of_memory_is_lived_with(settings: dict[str, Any], whose: str) -> None:
    """A process whose memory is limited: the same losses, in smaller micro-batches."""
    if whose == "ours" and allocator_library() is None:
        pytest.skip("no compiler is installed")
    environment = {**os.environ} | ({} if whose == "ours" else {native.SWITCH: "off"})
    shape = settings["model"] | {"width": 256, "layers": 6, "heads": 4, "max_positions": 256}
    config = settings | {"model": shape, "batch_tokens": 4096, "micro_batch_tokens": 4096, "steps": 2}
    config["data"] = {"train": settings["data"]["train"]}
    results = []
    for name, limit in (("free", 0), ("limited", 260 * 2**20)):
        command = [
            sys.executable,
            "-c",
            SCRIPT,
            json.dumps(config | {"out": settings["out"] + name}),
            str(limit),
            whose,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout.splitlines()[-1]))
        assert ("does not fit into memory" in done.stderr) == bool(limit), done.stderr
    assert results[1] == pytest.approx(results[0], rel=1e-4)
