"""Many documents through a model's stack, a few packed passes; what it says of one does not depend on the others.

Matrix libraries choose how to add up by the shape of a product, so the same row may differ in its last bit between a
small batch and a large one. On a CPU every pass is therefore filled up to a number of rows that depends on nothing but
the document's own length and the batch's size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..model.packed import Packed
from ..model.transformer import Transformer
from ..tokens.packing import best_fit

# Tokens of a pass: enough to keep the device busy.
CPU_TOKENS, DEVICE_TOKENS = 512, 16384
# A longer document's pass has a multiple of this many rows.
STEP = 256
# A head sees this many rows at once.
HEAD_ROWS = 64


@dataclass(frozen=True)
class Document:
    """What the model reads at once.

    Attributes:
        tokens: its ids.
        second: where the second text begins; its length where there is none.
    """

    tokens: Sequence[int]
    second: int

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class Pass:
    """Some documents as the model read them.

    Attributes:
        documents: which ones, by their place in the list.
        starts: where each begins in the stream, and the end of the last: [documents + 1].
        hidden: the stream: [at least tokens, width].
    """

    documents: list[int]
    starts: list[int]
    hidden: Tensor


def passes(model: Transformer, documents: Sequence[Document], batch_tokens: int | None = None) -> Iterator[Pass]:
    """The stream of every document, some at a time.

    Args:
        model: any.
        documents: at least a token each, none longer than the model reads.
        batch_tokens: tokens of a pass, about; a longer document is a pass of its own.

    Raises:
        UserError: a batch of no token.
    """
    if batch_tokens is not None and batch_tokens < 1:
        raise UserError(f"must be at least 1 (got {batch_tokens})", where="batch_tokens")
    on_cpu = model.device.type == "cpu"
    size = _rounded(batch_tokens or (CPU_TOKENS if on_cpu else DEVICE_TOKENS))
    by_rows: dict[int, list[int]] = {}
    for place, document in enumerate(documents):
        by_rows.setdefault(max(size, _rounded(len(document))), []).append(place)
    for rows, places in by_rows.items():
        for members in best_fit([len(documents[place]) for place in places], rows):
            chosen = [places[member] for member in members]
            yield _read(model, [documents[place] for place in chosen], chosen, rows if on_cpu else 0)


def in_rows(rows: Tensor, count: int = HEAD_ROWS) -> Iterator[tuple[slice, Tensor]]:
    """Rows in parts of one shape, the last filled up with zeros: the part's place, and [count, width]."""
    for start in range(0, len(rows), count):
        part = rows[start : start + count]
        yield slice(start, start + len(part)), F.pad(part, (0, 0, 0, count - len(part)))


def _read(model: Transformer, documents: Sequence[Document], places: list[int], rows: int) -> Pass:
    starts = list(itertools.accumulate(map(len, documents), initial=0))
    more = max(rows - starts[-1], 0)

    def filled(values: Iterator[int]) -> Tensor:
        return F.pad(torch.tensor(list(values), device=model.device), (0, more))

    tokens = filled(token for document in documents for token in document.tokens)
    positions = filled(place for document in documents for place in range(len(document)))
    segments = None
    if model.config.segments > 1:
        segments = filled(int(place >= document.second) for document in documents for place in range(len(document)))
    context = Packed(starts, len(tokens), causal=model.config.causal)
    return Pass(places, starts, model(tokens, positions, context, segments))


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP
