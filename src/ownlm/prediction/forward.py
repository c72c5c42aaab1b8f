"""The heads over packed documents; they compute in float32 whatever the stream is in, which costs next to nothing."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from ..devices import on_device
from ..model.head import ClassifyHead, SpanHead
from ..model.transformer import Transformer
from ..tokens.batch import Batch


def label_logits(model: Transformer, batch: Batch) -> Tensor:
    """A classification model's float32 logits of each document: [documents, labels]."""
    assert isinstance(model.head, ClassifyHead), "the model classifies"
    hidden = model.read(batch.tokens, batch.positions, batch.document_starts, batch.segments)
    rows = on_device(model.head.rows(batch.document_starts), hidden.device)
    return model.head(hidden.index_select(0, rows).float())


def span_logits(model: Transformer, batch: Batch) -> Tensor:
    """How well an answer begins and ends at each token, float32: [tokens, 2]."""
    assert isinstance(model.head, SpanHead), "the model finds answers"
    hidden = model.read(batch.tokens, batch.positions, batch.document_starts, batch.segments)
    return model.head(hidden[: len(batch)].float())


def by_document(values: Tensor, starts: tuple[int, ...], empty: float) -> Tensor:
    """Numbers of each token as a row for each document: [tokens, ...] -> [documents, longest, ...].

    Args:
        values: of the tokens of packed documents.
        starts: where each begins, and the end of the last.
        empty: what stands after the end of a shorter document.
    """
    begins = on_device(starts, values.device)
    lengths = begins[1:] - begins[:-1]
    longest = max((end - begin for begin, end in itertools.pairwise(starts)), default=0)
    place = torch.arange(longest, device=values.device)
    inside = place < lengths[:, None]
    rows = values[torch.where(inside, begins[:-1, None] + place, 0)]
    shape = inside.shape + (1,) * (values.ndim - 1)
    return rows.masked_fill(~inside.view(shape), empty)


def label_scores(logits: Tensor, problem: str) -> Tensor:
    """What logits mean: probabilities of the classes, each on its own where there may be several, or the numbers."""
    if problem == "single":
        return F.softmax(logits, -1)
    return torch.sigmoid(logits) if problem == "multi" else logits
