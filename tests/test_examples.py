"""The examples run as they stand, and the recipes are configs that read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ownlm.train.config import read_train_config

ROOT = Path(__file__).parents[1]


def test_five_steps_runs_offline_and_is_short(tmp_path: Path) -> None:
    script = ROOT / "examples" / "five_steps.py"
    code = script.read_text().split('"""', 2)[2]
    assert sum(1 for line in code.split("\n") if line.strip() and not line.startswith("#")) < 40
    article = "\n = Robot = \n \n" + " A robot is a machine that people built , and it can read and write . \n" * 40
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "wiki.train.tokens").write_text(article * 4)
    (tmp_path / "corpus" / "wiki.valid.tokens").write_text(article)
    command = [sys.executable, str(script), "--data", "corpus", "--base", "scratch", "--out", "out"]
    environment = os.environ | {"OWNLM_HOME": str(tmp_path / "home"), "OWNLM_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("In a distant future, humans and AI")
    assert (tmp_path / "out" / "run" / "report.html").is_file()


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_reads(recipe: Path) -> None:
    read_train_config(recipe)
