"""Promises 2 and 4 over several processes: real ones, over sockets, that train as one would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

# Float32 sums in another order, after some updates: relative to the loss.
TOLERANCE = 1e-5


def command(config: dict[str, Any], *arguments: str) -> list[str]:
    path = Path(config["out"]).with_suffix(".yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return [sys.executable, "-m", "ownlm", "train", str(path), *arguments, "--json"]


def trained(config: dict[str, Any], *arguments: str) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(config, *arguments), capture_output=True, text=True, check=False, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1, "one object, from one of the workers"
    return json.loads(done.stdout)


def losses(config: dict[str, Any]) -> list[float]:
    lines = (Path(config["out"]) / "metrics.jsonl").read_text().split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    return [row.get("loss", row.get("val_loss")) for row in rows]


def weights(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    return load_file(Path(config["out"]) / "model" / "model.safetensors")


@pytest.fixture
def alone(settings: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A run of one worker, whose schedule does not depend on how far it is to go."""
    config = settings | {"out": str(tmp_path / "alone"), "schedule": {"kind": "constant", "warmup": 2}}
    config |= {"micro_batch_tokens": 256}
    trained(config)
    return config


@pytest.mark.parametrize("shard", ["spread", pytest.param("whole", marks=pytest.mark.slow)])
def test_two_workers_train_what_one_does(alone: dict[str, Any], tmp_path: Path, shard: str) -> None:
    together = alone | {"out": str(tmp_path / "two"), "distributed": {"shard": 2 if shard == "spread" else 1}}
    answer = trained(together, "--workers", "2")
    assert losses(together) == pytest.approx(losses(alone), rel=TOLERANCE)
    assert answer["tokens"] == json.loads((Path(alone["out"]) / "run.json").read_text())["tokens"]
    found, expected = weights(together), weights(alone)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=2e-4)
    ledgers = [json.loads((Path(config["out"]) / "ledger.json").read_text()) for config in (alone, together)]
    assert ledgers[0] == ledgers[1]
    kept = sorted((tmp_path / "two" / "checkpoints").glob("step-*/*.safetensors"))
    assert any(path.name.startswith("part-") for path in kept) == (shard == "spread")


@pytest.mark.slow
def test_an_adapter_is_trained_by_two_workers(chat_settings: dict[str, Any], tmp_path: Path) -> None:
    one = chat_settings | {"out": str(tmp_path / "one")}
    two = chat_settings | {"out": str(tmp_path / "two")}
    spread = chat_settings | {"out": str(tmp_path / "spread"), "distributed": {"shard": 2}}
    trained(one)
    trained(two, "--workers", "2")
    trained(spread, "--workers", "2")
    for other in (two, spread):
        assert losses(other) == pytest.approx(losses(one), rel=TOLERANCE)
        adapters = [load_file(Path(c["out"]) / "adapter" / "adapter_model.safetensors") for c in (one, other)]
        for name, tensor in adapters[0].items():
            torch.testing.assert_close(adapters[1][name], tensor, rtol=0, atol=2e-4)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_a_run_goes_on_with_another_number_of_workers(
    alone: dict[str, Any], tmp_path: Path, before: int, after: int
) -> None:
    config = alone | {"out": str(tmp_path / "cut"), "distributed": {"shard": "auto"}}
    half = alone["steps"] // 2
    trained(config, f"steps={half}", "--workers", str(before), "distributed.shard=2" if before == 2 else "seed=0")
    trained(config, "--workers", str(after), "distributed.shard=2" if after == 2 else "seed=0")
    # A shorter run measures its held-out loss at other steps, so only the steps themselves are compared.
    steps = {row["step"]: row["loss"] for row in rows_of(config) if "loss" in row}
    expected = {row["step"]: row["loss"] for row in rows_of(alone) if "loss" in row}
    assert steps == pytest.approx(expected, rel=TOLERANCE) and len(steps) == alone["steps"]


def rows_of(config: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(config["out"]) / "metrics.jsonl").read_text().split("\n")[:-1]]


def test_a_step_that_is_skipped_is_saved_from_all_workers(settings: dict[str, Any]) -> None:
    """The first update makes the weights infinite; every worker then has nothing but such batches."""
    config = settings | {
        "non_finite": "skip",
        "distributed": {"shard": 2},
        "data": {"train": settings["data"]["train"]},
    }
    config |= {"steps": 4, "micro_batch_tokens": 64}
    config["optimizer"] = {"lr": 1e38, "clip": None}
    config["schedule"] = {"kind": "constant", "warmup": 0}
    assert trained(config, "--workers", "2")["steps"] == 4
    run = Path(config["out"])
    assert [row["loss"] is None for row in rows_of(config)] == [False, True, True, True]
    saved = load_file(run / "non-finite" / "step-2" / "batch.safetensors")
    read = rows_of(config)[1]["tokens"] - rows_of(config)[0]["tokens"]
    assert sum(len(tensor) for name, tensor in saved.items() if name.endswith(".tokens")) == read


@pytest.mark.slow
def test_killed_workers_go_on_with_the_same_bits(alone: dict[str, Any], tmp_path: Path) -> None:
    whole = alone | {"out": str(tmp_path / "whole"), "distributed": {"shard": 2}, "checkpoint": {"every": 2}}
    cut = whole | {"out": str(tmp_path / "cut")}
    trained(whole, "--workers", "2")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(cut, "--workers", "2"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 120
    while not (tmp_path / "cut" / "checkpoints" / "step-4").is_dir():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    # One worker dies as by a power cut; the other must not wait for it for ever.
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout.split()[1]), signal.SIGKILL)
    assert process.wait(timeout=60) != 0
    trained(cut, "--workers", "2")
    assert losses(cut) == losses(whole)
    assert all(torch.equal(tensor, weights(cut)[name]) for name, tensor in weights(whole).items())


@pytest.mark.slow
def test_sigterm_saves_the_run_of_all(alone: dict[str, Any], tmp_path: Path) -> None:
    config = alone | {"out": str(tmp_path / "ended"), "steps": 5000, "validate": {"every": 5000}}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command(config, "--workers", "2"), env=environment, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "ended" / "metrics.jsonl"
    end = time.monotonic() + 120
    while not metrics.is_file() or metrics.read_text().count("\n") < 5:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.count("finishing the step") == 1
    saved = [int(path.name[5:]) for path in (tmp_path / "ended" / "checkpoints").glob("step-*")]
    assert max(saved) == len([row for row in rows_of(config) if "loss" in row])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "2", "distributed.shard=3"), "2 workers do not divide into groups of 3"),
        (("--workers", "0"), "at least one worker is needed"),
        pytest.param(("--workers", "2", "data.train=no.jsonl"), "there is no such file", marks=pytest.mark.slow),
    ],
)
def test_what_is_wrong_is_said_once(settings: dict[str, Any], arguments: tuple[str, ...], message: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(settings, *arguments), capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 2
    assert message in json.loads(done.stdout)["error"]["message"]
    assert "Traceback" not in done.stderr and "unexpected" not in done.stderr
