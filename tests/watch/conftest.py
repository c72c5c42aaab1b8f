"""A tiny model that is watched, a task for it, and a history made by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ownlm.evaluate.measurement import Measurement, mean, of_values
from ownlm.evaluate.run import Ran
from ownlm.evaluate.task import Measured
from ownlm.model.checkpoint import random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.store import Evaluation
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.watch.history import stored

BEGAN = datetime(2031, 5, 4, 12, tzinfo=UTC)
TASK = """
name: words
kind: choice
data: words.jsonl
prompt: "{{ q }}"
choices: "{{ options }}"
answer: "{{ gold }}"
metrics: [accuracy]
"""


@pytest.fixture
def place(corpus: Path, tmp_path: Path) -> Path:
    """A folder with ``mine``, a model, and ``words.yaml``, a task of eight items."""
    rows = [{"q": f"the model {n}", "options": ["reads text", "has seen"], "gold": n % 2} for n in range(8)]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "words.yaml").write_text(TASK)
    put_model(corpus, tmp_path / "mine", 0)
    return tmp_path


def put_model(corpus: Path, folder: Path, seed: int) -> None:
    """A version of the model."""
    shape = {"family": "llama", "layers": 1, "width": 16, "heads": 2, "vocab_size": 320, "max_positions": 64}
    model = random_model(config_from_user({**shape, "initializer_range": 0.3}), seed)
    save_model_folder(model, folder, tokenizer=load_tokenizer(corpus / "tokenizer"))


@pytest.fixture
def started(place: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a real ``ownlm`` in that folder."""

    def start(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "OWNLM_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            [sys.executable, "-m", "ownlm", *arguments], cwd=place, env=environment, text=True, **pipes
        )

    return start


def evaluation(
    number: int,
    right: Sequence[Sequence[float]],
    *,
    release: str = "",
    model: str = "mine",
    content: str = "",
    higher: bool | None = True,
    kept: bool = True,
) -> Evaluation:
    """An evaluation of version ``number``, as many hours after the first, with one task for each list of right and wrong."""
    scores = []
    for place, one in enumerate(right):
        keys = [f"{content}{i:05}" for i in range(len(one))]
        measurement = Measurement(
            f"t{place}", mean("accuracy", higher_is_better=higher), of_values(np.asarray(one)), keys
        )
        score = stored(Ran(f"t{place}", 0, Measured([measurement], [])), measurement)
        scores.append(score if kept else type(score)(**{**vars(score), "influences": b""}))
    moment = BEGAN + timedelta(hours=number)
    return Evaluation(model, release or f"r{number}", scores, "asked", {}, moment, f"e{number}")
