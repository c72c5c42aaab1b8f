"""A micro-batch never makes the host wait for the device: it runs where no value can be read back.

Tensors of the device "meta" have shapes and no values. Whatever asks for one (a number, a truth value, which rows are not
zero) is an error there, and on a GPU would end the queue of work.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.tokens.batch import Batch
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.objectives import Objective

TEXTS = [{"text": "the model reads text. " * (1 + i % 4)} for i in range(20)]
PAIRS = [{"prompt": "the model", "chosen": f"reads {i}", "rejected": "a token"} for i in range(8)]
ASKED = [
    {"question": "what", "context": "the model reads text", "answers": [{"text": "text", "answer_start": 16}]}
    for _ in range(8)
]
CASES: dict[str, tuple[str, list[dict[str, Any]], dict[str, Any]]] = {
    "causal": ("base", TEXTS, {"kind": "causal"}),
    "chat": ("base", [{"prompt": "what", "response": f"text {i}"} for i in range(9)], {"kind": "chat"}),
    "dpo": ("base", PAIRS, {"kind": "preference"}),
    "orpo": ("base", PAIRS, {"kind": "preference", "method": "orpo"}),
    "masked": ("encoder", TEXTS, {"kind": "masked"}),
    "next sentences": (
        "encoder",
        [{"text": "the model reads. it writes a token. what it has."} for _ in range(9)],
        {"kind": "masked", "next_sentence": True},
    ),
    "classify": (
        "encoder",
        [{"text": "the model", "label": "ab"[i % 2]} for i in range(9)],
        {"kind": "classify", "weights": "balanced"},
    ),
    "span": ("encoder", ASKED, {"kind": "span", "stride": 4, "max_answer": 6}),
    "seq2seq": ("marian", [{"source": "the model", "target": f"model {i}"} for i in range(9)], {"kind": "seq2seq"}),
}


@pytest.fixture
def bases(corpus: Path, encoder: Path, tmp_path: Path) -> dict[str, Path]:
    shape = {"family": "marian", "layers": 1, "width": 32, "heads": 4, "vocab_size": 320, "max_positions": 64}
    tokenizer = load_tokenizer(corpus / "tokenizer")
    save_model_folder(random_model(config_from_user(shape), 1), tmp_path / "marian", tokenizer=tokenizer)
    return {"base": corpus / "base", "encoder": encoder, "marian": tmp_path / "marian"}


def on_no_device(objective: Objective[Any], batch: Batch) -> Batch:
    """A batch as the loop has it ready, without its values."""
    return objective.batch(batch, 0).with_rows().to("meta")


def check(here: Any) -> None:
    here.model.to("meta").train()
    here.model.compute_dtype = torch.bfloat16
    batches = here.loader.micro_batches(0, 30)
    assert len(batches) > 1
    for batch in batches:
        here.objective.loss(here.model, on_no_device(here.objective, batch), *[0.5] * here.objective.parts).backward()
    trained = [parameter for parameter in here.model.parameters() if parameter.requires_grad]
    assert sum(parameter.grad is not None for parameter in trained) > len(trained) / 2


@pytest.mark.parametrize("case", CASES)
def test_no_objective_waits(case: str, bases: dict[str, Path], ready_for: Callable[..., Any], tmp_path: Path) -> None:
    base, rows, objective = CASES[case]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    check(ready_for(bases[base], data, 4096, **objective))


def test_distilling_does_not_wait(corpus: Path, ready_for: Callable[..., Any], tmp_path: Path) -> None:
    here = ready_for(corpus / "base", corpus / "train.jsonl", 4096, kind="distill", teacher=str(corpus / "base"))
    teacher = load_model_folder(corpus / "base").requires_grad_(False).to("meta")
    teacher.compute_dtype = torch.bfloat16
    here.objective._teacher = teacher
    check(here)


def test_a_batch_that_does_not_know_its_rows_would_wait(corpus: Path, ready_for: Callable[..., Any]) -> None:
    here = ready_for(corpus / "base", corpus / "train.jsonl", 4096, kind="causal")
    here.model.to("meta")
    with pytest.raises((NotImplementedError, RuntimeError)):
        here.objective.loss(here.model, here.loader.batch(0).to("meta"), 1.0)
