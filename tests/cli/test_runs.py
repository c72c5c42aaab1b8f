"""``ownlm runs``: two real runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ownlm.cli.main import main
from ownlm.config import merge
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training


def test_two_runs(settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = []
    for lr in (1e-3, 5e-3):
        folders.append(str(tmp_path / f"lr-{lr}"))
        changes = {"out": folders[-1], "steps": 4, "optimizer.lr": lr}
        run_training(read_train_config(merge(settings, changes)), say=lambda message: None)
    page = tmp_path / "runs.html"
    assert main(["runs", *folders, "--html", str(page), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"]
    assert first["differs"] == {"optimizer.lr": 1e-3} and second["differs"] == {"optimizer.lr": 5e-3}
    assert set(first) == {"run", "steps", "loss", "val_loss", "tokens_per_second", "peak_memory_bytes", "differs"}
    assert first["steps"] == 4 and "<svg" in page.read_text()
    assert main(["runs", *folders]) == 0
    assert "optimizer.lr" in capsys.readouterr().err
    assert main(["runs", str(tmp_path)]) == 2
