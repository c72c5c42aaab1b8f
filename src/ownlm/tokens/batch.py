"""Batch: the one shape that everything trained, scored or read travels in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Whole documents one after another, with no padding anywhere.

    Attributes:
        tokens: [N] int64.
        positions: [N] int64, each token's place in its own document.
        document_starts: where each document begins, and the end of the last: D + 1 numbers rising from 0 to N. They
            are plain integers since the host plans by them.
        targets: [N] int64, the token that follows each; where nothing follows, anything.
        weights: [N] float32, each target's share in the loss; 0 is not trained.
        documents: which piece of the loader each is, D numbers, for the ledger and for showing.
        segments: [N] int64, the kind of segment each token is in, where the model tells them apart.
        columns: numbers of each document, such as its label: [D, width] each.
        source: the D documents that an encoder reads and that these are made from, where the model has one.
        located: what ``rows`` gives, once ``with_rows`` has looked for them; whoever changes the weights, before that.
    """

    tokens: Tensor
    positions: Tensor
    document_starts: tuple[int, ...]
    targets: Tensor
    weights: Tensor
    documents: tuple[int, ...] = ()
    segments: Tensor | None = None
    columns: Mapping[str, Tensor] = field(default_factory=dict)
    source: Batch | None = None
    located: Tensor | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def read_tokens(self) -> int:
        """How many tokens the model reads, those of the sources included."""
        return len(self) + (0 if self.source is None else len(self.source))

    @property
    def trained_tokens(self) -> int:
        """How many targets have a share in the loss."""
        return int((self.weights != 0).sum())

    @property
    def rows(self) -> Tensor:
        """Which targets have a share in the loss: [trained tokens] int64, rising."""
        return self.weights.nonzero().squeeze(1) if self.located is None else self.located

    def with_rows(self) -> Batch:
        """The same batch that knows its ``rows``: a GPU that was asked for them later would have to be waited for."""
        return replace(self, located=self.rows)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return self._mapped(lambda x: x.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same batch in page-locked memory, from where a GPU takes it while the CPU goes on."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            tokens=change(self.tokens),
            positions=change(self.positions),
            targets=change(self.targets),
            weights=change(self.weights),
            segments=None if self.segments is None else change(self.segments),
            columns={name: change(values) for name, values in self.columns.items()},
            source=None if self.source is None else self.source._mapped(change),
            located=None if self.located is None else change(self.located),
        )

    def split_pairs(self) -> Batch:
        """Of documents that stand in pairs, a source and its target, the targets with their sources beside them."""
        starts = torch.tensor(self.document_starts)
        lengths = starts.diff()
        is_target = torch.arange(len(lengths)) % 2 == 1
        of_target = is_target.repeat_interleave(lengths)
        return replace(
            self._chosen(of_target, lengths[is_target], 1), source=self._chosen(~of_target, lengths[~is_target], 0)
        )

    def _chosen(self, tokens: Tensor, lengths: Tensor, first: int) -> Batch:
        """Every second document from ``first``; tokens: [N] bool, theirs; lengths: theirs."""
        starts = tuple(itertools.accumulate(lengths.tolist(), initial=0))
        return Batch(
            tokens=self.tokens[tokens],
            positions=self.positions[tokens],
            document_starts=starts,
            targets=self.targets[tokens],
            weights=self.weights[tokens],
            documents=self.documents[first::2],
        )

    def untrained(self) -> Batch:
        """The same documents with no target to learn; it counts nowhere."""
        return replace(self, weights=torch.zeros_like(self.weights), documents=(), located=None)
