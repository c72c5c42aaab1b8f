"""``ownlm compare``: facts, scores, and what differences mean."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.model.checkpoint import load_model_folder

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
def task(tmp_path: Path) -> Path:
    rows = [{"q": f"the model {n}", "options": ["reads text", "has seen"], "gold": n % 2} for n in range(30)]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "words.yaml").write_text(TASK)
    return tmp_path / "words.yaml"


def test_a_copy_is_inside_the_noise_and_a_masked_model_cannot_write(
    ownlm: Callable[..., Any], corpus: Path, encoder: Path, task: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(corpus / "base", copy)
    arguments = ["--task", task, "--price-per-hour", "3.6", "--out", tmp_path / "out", "--dtype", "float32", "--json"]
    done = ownlm("compare", corpus / "base", copy, encoder, *arguments)
    assert done.code == 0, done.err
    found = done.object
    first, same, masked = found["models"]
    model = load_model_folder(corpus / "base")
    assert first["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert first["weight_bytes"] == 4 * first["parameters"] and first["context"] == 128 and first["dtype"] == "float32"
    # Keys and values of 2 layers, 2 heads of width 8, 4 bytes each.
    assert first["cache_token_bytes"] == 2 * 2 * 2 * 8 * 4 and masked["cache_token_bytes"] is None
    assert first["architecture"] == "llama, 2 layers, width 32, 4 heads over 2, 320 tokens"
    assert first["write_tokens_per_second"] > 0 and masked["write_tokens_per_second"] is None
    assert masked["read_tokens_per_second"] > 0 and "writes no text" in masked["limitations"]
    cost = 3.6 / 3600 / first["together_tokens_per_second"] * 1e6
    assert first["cost_per_million"] == pytest.approx(cost)
    assert first["scores"][0]["value"] == same["scores"][0]["value"] and masked["scores"] == []
    assert "writes no text" in masked["cannot"][0] and not first["cannot"]
    (difference,) = found["differences"]
    assert difference["task"] == "words" and difference["metric"] == "accuracy" and difference["n"] == 30
    assert difference["difference"] == 0 and difference["low"] <= 0 <= difference["high"]
    assert difference["verdict"] == "inside the noise"
    page = (tmp_path / "out" / "report.html").read_text()
    assert (
        "inside the noise" in page
        and "cannot do" in page
        and json.loads((tmp_path / "out" / "comparison.json").read_text())["differences"] == found["differences"]
    )
    done = ownlm("compare", corpus / "base", encoder, "--out", tmp_path / "out")
    assert done.code == 0 and "architecture" in done.err and "Report:" in done.err


@pytest.mark.parametrize(
    ("models", "message"),
    [(["one"], "two models at least"), (["one", "one"], "'one' is named twice"), ([], "MODEL")],
)
def test_what_cannot_be_compared_is_told(ownlm: Callable[..., Any], models: list[str], message: str) -> None:
    done = ownlm("compare", *models)
    assert done.code == 2 and message in done.err
