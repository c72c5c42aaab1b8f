"""Training as the tests of this room do it: a config, dotted changes, and what the run said."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ownlm.config import merge
from ownlm.train.config import read_train_config
from ownlm.train.run import Run, run_training


@dataclass(frozen=True)
class Trained:
    """A run and everything that was said during it."""

    run: Run
    said: list[str]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl that are steps."""
        return [row for row in self.run.metrics if "loss" in row]

    @property
    def validations(self) -> list[tuple[int, float]]:
        """Step and held-out loss of every validation."""
        return [(row["step"], row["val_loss"]) for row in self.run.metrics if "val_loss" in row]


@pytest.fixture
def train() -> Callable[..., Trained]:
    """Trains a config with changes by dotted keys, written with double underscores: ``optimizer__lr=1``."""

    def run(config: dict[str, Any], **changes: Any) -> Trained:
        said: list[str] = []
        dotted = {key.replace("__", "."): value for key, value in changes.items()}
        return Trained(run_training(read_train_config(merge(config, dotted)), say=said.append), said)

    return run


@pytest.fixture
def curve() -> Callable[[Path], list[tuple[int, str, str]]]:
    """Every step's loss and gradient norm and every validation of a run's folder, as text so that each bit counts."""

    def read(run: Path) -> list[tuple[int, str, str]]:
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]]
        return [(r["step"], repr(r.get("loss", r.get("val_loss"))), repr(r.get("grad_norm"))) for r in rows]

    return read
