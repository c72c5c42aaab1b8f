"""A step whose loss or gradient is no finite number, saved to be looked at.

RUN/non-finite/step-N/batch.safetensors     the tensors of every micro-batch, by "K.name"
RUN/non-finite/step-N/documents.jsonl       each document's text and the loss of the micro-batch it is in (null is no number)
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from ..errors import OwnlmError
from ..files import new_folder, write_text
from ..model.checkpoint import save_tensors
from ..model.transformer import Transformer
from ..tokens.batch import Batch
from ..tokens.tokenizer import Tokenizer
from .objectives import Objective

FOLDER = "non-finite"


def save_step(
    run: Path, step: int, batches: Sequence[Batch], model: Transformer, objective: Objective[Any], tokenizer: Tokenizer
) -> Path:
    """Saves a step's batches; step from 1, as users count. Returns the folder."""
    folder = run / FOLDER / f"step-{step}"
    with new_folder(folder) as new:
        tensors = {f"{k}.{name}": value for k, batch in enumerate(batches) for name, value in _tensors(batch)}
        save_tensors(tensors, new / "batch.safetensors")
        rows = [row for batch in batches for row in _documents(batch, model, objective, tokenizer)]
        write_text(new / "documents.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return folder


def _tensors(batch: Batch) -> Iterator[tuple[str, torch.Tensor]]:
    for name in ("tokens", "positions", "targets", "weights"):
        yield name, getattr(batch, name)
    yield "document_starts", torch.tensor(batch.document_starts)
    yield from batch.columns.items()


@torch.no_grad()
def _documents(
    batch: Batch, model: Transformer, objective: Objective[Any], tokenizer: Tokenizer
) -> Iterator[dict[str, Any]]:
    model.eval()
    try:
        loss = objective.loss(model, batch.to(model.device), 1.0).item()
    except (OwnlmError, RuntimeError):
        loss = math.nan
    for place, (start, end) in enumerate(itertools.pairwise(batch.document_starts)):
        text = tokenizer.decode(batch.tokens[start:end].tolist(), skip_special=False)
        shown = loss if math.isfinite(loss) else None
        yield {"piece": batch.documents[place], "tokens": end - start, "text": text, "loss_of_its_batch": shown}
