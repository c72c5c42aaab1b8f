"""Promise 4: killed with SIGKILL at any step, the same command continues and ends with the same loss, bit for bit."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ownlm.train.config import read_train_config
from ownlm.train.run import run_training

SCRIPT = Path(__file__).parents[1] / "train" / "train_and_die.py"


def curve(run: Path) -> list[tuple[int, str, str]]:
    """Every step's loss and gradient norm and every validation, as text so that each bit counts."""
    rows = []
    for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]:
        row = json.loads(line)
        rows.append((row["step"], repr(row.get("loss", row.get("val_loss"))), repr(row.get("grad_norm"))))
    return rows


def killed_and_continued(config: dict[str, Any], folder: Path, deaths: list[tuple[str, int]]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    for how, step in deaths:
        done = subprocess.run([sys.executable, str(SCRIPT), str(path), how, str(step)], check=False)
        assert done.returncode == -signal.SIGKILL, f"it should have died at {how} {step}"
    subprocess.run([sys.executable, str(SCRIPT), str(path), "never"], check=True)


@pytest.mark.parametrize("kind", ["whole model, dropout", "adapter, chats"])
def test_a_killed_run_ends_as_the_uninterrupted_one(
    kind: str,
    settings: dict[str, Any],
    chat_settings: dict[str, Any],
    tmp_path: Path,
) -> None:
    config = chat_settings if "adapter" in kind else settings | {"dropout": 0.1}
    whole, cut = config | {"out": str(tmp_path / "whole")}, config | {"out": str(tmp_path / "cut")}
    run_training(read_train_config(whole), say=lambda message: None)
    steps = sorted(random.Random(0).sample(range(1, 12), 3))
    deaths = [("step", steps[0]), ("checkpoint", 4), ("step", steps[1]), ("checkpoint", 8), ("step", steps[2])]
    deaths.sort(key=lambda death: death[1])
    killed_and_continued(cut, tmp_path, deaths)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert len(curve(tmp_path / "cut")) >= 12
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]
    ledgers = [json.loads((tmp_path / name / "ledger.json").read_text()) for name in ("whole", "cut")]
    assert ledgers[0] == ledgers[1]
