"""A step whose loss or gradient is no finite number, saved to be looked at.

RUN/non-finite/step-N/batch.safetensors     the tensors of every micro-batch, by "K.name"
RUN/non-finite/step-N/documents.jsonl       each document's text, and what its micro-batch had in the step's loss (null is
                                            no finite number)
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..files import new_folder, write_text
from ..model.checkpoint import save_tensors
from ..tokens.batch import Batch
from ..tokens.tokenizer import Tokenizer

FOLDER = "non-finite"


def save_step(run: Path, step: int, batches: Sequence[tuple[Batch, float]], tokenizer: Tokenizer) -> Path:
    """Saves a step's batches, each with its part of the loss; step from 1, as users count. Returns the folder."""
    folder = run / FOLDER / f"step-{step}"
    with new_folder(folder) as new:
        tensors = {f"{k}.{name}": value for k, (batch, _) in enumerate(batches) for name, value in _tensors(batch)}
        save_tensors(tensors, new / "batch.safetensors")
        rows = [row for batch, loss in batches for row in _documents(batch, loss, tokenizer)]
        write_text(new / "documents.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def _tensors(batch: Batch) -> Iterator[tuple[str, torch.Tensor]]:
    for name in ("tokens", "positions", "targets", "weights"):
        yield name, getattr(batch, name)
    yield "document_starts", torch.tensor(batch.document_starts)
    yield from batch.columns.items()


def _documents(batch: Batch, loss: float, tokenizer: Tokenizer) -> Iterator[dict[str, Any]]:
    shown = loss if math.isfinite(loss) else None
    for place, (start, end) in enumerate(itertools.pairwise(batch.document_starts)):
        text = tokenizer.decode(batch.tokens[start:end].tolist(), skip_special=False)
        yield {"piece": batch.documents[place], "tokens": end - start, "text": text, "loss_of_its_batch": shown}
