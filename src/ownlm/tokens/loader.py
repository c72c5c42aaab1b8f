"""The loader: a pure function from a seed, a step and a worker to a Batch.

It holds no position: any step can be asked for at any time, on any number of workers, and holds the same pieces. So
resuming is asking for the next step, and neither micro-batches nor workers can change what is trained.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import ConfigError
from .batch import Batch
from .epochs import EpochPlan, mix_repeats, pieces_of_epoch, plan_epoch, split_documents
from .packing import best_fit
from .shards import TokenDataset


@dataclass(frozen=True)
class Piece:
    """A document, or a part of one that is longer than the limit; or a group of documents that belong together.

    Attributes:
        index: its number among all pieces of all datasets.
        dataset, document: where it comes from; of a group, its first document.
        start, end: which of the document's tokens it holds; of a group, counted through all its documents.
    """

    index: int
    dataset: int
    document: int
    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start


class Loader:
    """Tokenized datasets as steps of packed batches.

    A document longer than ``length`` is split into pieces whose positions begin at 0 again; a piece's last token still
    predicts the document's next one, so no trained token is lost. Each epoch is its own random order of all pieces,
    packed into steps of at most ``batch_tokens``; no step spans two epochs.

    Args:
        datasets: one, or several to be mixed.
        batch_tokens: tokens of a step, over all workers.
        length: the longest piece.
        seed: decides the order.
        weights: the share of each dataset in an epoch's tokens; None takes every dataset whole.
        epochs: how often each dataset may be passed in one epoch of the mix (see ``epochs.mix_repeats``).
        repeats: how often each is passed in one epoch, where that is known already; in place of the two before.

    Raises:
        ConfigError: a number does not make sense, or a piece is longer than a batch.
    """

    def __init__(
        self,
        datasets: Sequence[TokenDataset],
        *,
        batch_tokens: int,
        length: int,
        seed: int,
        weights: Sequence[float] | None = None,
        epochs: Sequence[float] | None = None,
        repeats: Sequence[float] | None = None,
    ) -> None:
        if length < 2:
            raise ConfigError(f"a length of {length} leaves nothing to predict", where="data.length")
        if seed < 0:
            raise ConfigError(f"must not be negative (got {seed})", where="seed")
        self.datasets = list(datasets)
        self.batch_tokens, self.length, self.seed = batch_tokens, length, seed
        tables = [_pieces(dataset, length) for dataset in self.datasets]
        self._counts = [len(documents) for documents, _, _ in tables]
        self._first = np.cumsum([0, *self._counts])
        self._documents, self._starts, self._ends = (np.concatenate(column) for column in zip(*tables, strict=True))
        self._lengths = self._ends - self._starts
        # Tokens that count with each piece: its targets, and the document's first token where it has it.
        last = np.append(self._starts[1:] == 0, True)
        self._held = self._lengths - last + (self._starts == 0)
        longest = int(self._lengths.max())
        if longest > batch_tokens:
            raise ConfigError(
                f"a document of {longest:,} tokens does not fit into a batch of {batch_tokens:,}",
                where="batch_tokens",
                hint="raise batch_tokens, or lower data.length",
            )
        targets = [d.trained_targets(docs, starts) for d, (docs, starts, _) in zip(self.datasets, tables, strict=True)]
        self._trained = np.concatenate(targets)
        totals = [dataset.total_tokens for dataset in self.datasets]
        self.repeats = mix_repeats(totals, weights, epochs) if repeats is None else list(repeats)
        self._steps_until = [0]
        self._plan: tuple[int, EpochPlan] | None = None

    def __len__(self) -> int:
        """How many pieces there are."""
        return len(self._lengths)

    def steps_in_epoch(self, epoch: int) -> int:
        """How many steps an epoch has; epochs differ a little, as their pieces pack differently."""
        while (known := len(self._steps_until)) < epoch + 2:
            until = self._steps_until[known - 1] + len(self._epoch(known - 1))
            # At its own place: another thread may have put it there by now.
            self._steps_until[known : known + 1] = [until]
        return self._steps_until[epoch + 1] - self._steps_until[epoch]

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and its place in it."""
        if step < 0:
            raise ValueError(f"step {step} is before the first")
        while self._steps_until[-1] <= step:
            self.steps_in_epoch(len(self._steps_until) - 1)
        epoch = bisect.bisect_right(self._steps_until, step) - 1
        return epoch, step - self._steps_until[epoch]

    def pieces(self, step: int) -> list[Piece]:
        """Every piece of a step, of all workers, longest first."""
        return [self._piece(index) for index in self._sorted(step)]

    def tokens(self, step: int) -> int:
        """How many tokens a step has, over all workers."""
        return int(self._lengths[self._step(step)].sum())

    def trained_tokens(self, step: int) -> int:
        """How many tokens a step trains on, over all workers; known without reading a token."""
        return int(self._trained[self._step(step)].sum())

    def counts(self, pieces: Sequence[int] | np.ndarray, trained: np.ndarray | None = None) -> list[tuple[int, int]]:
        """For each dataset, how many tokens of these pieces are trained and how many are context only.

        A token counts where it is a target, so the first of a document, which is none, counts with its own piece.

        Args:
            pieces: by number; with ``trained``, one for each document, so that a group's stands several times in a row.
            trained: how many tokens of each were trained; None is every target that the dataset says is to be learned.
        """
        pieces = np.asarray(pieces, np.int64)
        learned = self._trained[pieces] if trained is None else trained
        held = self._held[pieces]
        if trained is not None:
            groups = np.array([dataset.group for dataset in self.datasets])
            held = held / groups[self._dataset_of(pieces)]
        dataset = self._dataset_of(pieces)
        sums = (np.bincount(dataset, values, len(self.datasets)) for values in (learned, held))
        return [(round(t), round(h) - round(t)) for t, h in zip(*sums, strict=True)]

    def _dataset_of(self, pieces: np.ndarray) -> np.ndarray:
        return np.searchsorted(self._first, pieces, side="right") - 1

    def epoch_pieces(self, epoch: int) -> np.ndarray:
        """Every piece of an epoch, in its order, by number."""
        return self._epoch(epoch).pieces

    def batch(self, step: int, worker: int = 0, workers: int = 1) -> Batch:
        """A worker's share of a step; empty where a step has fewer pieces than there are workers."""
        return self._batch(self._deal(step, worker, workers))

    def micro_batches(self, step: int, micro_batch_tokens: int, worker: int = 0, workers: int = 1) -> list[Batch]:
        """A worker's share of a step in batches of at most ``micro_batch_tokens``; a longer piece stands alone."""
        share = self._deal(step, worker, workers)
        return [self._batch(pieces) for pieces in self._bins(share, micro_batch_tokens)]

    def _bins(self, share: Sequence[int], micro_batch_tokens: int) -> list[list[int]]:
        """The pieces of each micro-batch."""
        alone = [[index] for index in share if self._lengths[index] > micro_batch_tokens]
        fitting = [index for index in share if self._lengths[index] <= micro_batch_tokens]
        bins = best_fit(self._lengths[fitting], micro_batch_tokens)
        return alone + [[fitting[i] for i in items] for items in bins]

    def idle_batch(self, step: int) -> Batch:
        """The step's shortest piece with nothing of it trained, for a worker who waits for the others."""
        return self._batch([self._sorted(step)[-1]]).untrained()

    def rounds(self, step: int, micro_batch_tokens: int, workers: int) -> int:
        """The most micro-batches that any worker has in a step; known to all of them without asking."""
        shares = (self._deal(step, worker, workers) for worker in range(workers))
        return max(len(self._bins(share, micro_batch_tokens)) for share in shares)

    def _epoch(self, epoch: int) -> EpochPlan:
        # In a variable: two threads may ask for two epochs.
        plan = self._plan
        if plan is None or plan[0] != epoch:
            pieces = pieces_of_epoch(self._counts, self.repeats, self.seed, epoch)
            plan = self._plan = epoch, plan_epoch(pieces, self._lengths, self.batch_tokens, self.seed, epoch)
        return plan[1]

    def _step(self, step: int) -> np.ndarray:
        epoch, index = self.locate(step)
        return self._epoch(epoch).step(index)

    def _sorted(self, step: int) -> list[int]:
        """A step's pieces, longest first, so that those of equal length stand side by side."""
        pieces = np.sort(self._step(step))
        return pieces[np.argsort(-self._lengths[pieces], kind="stable")].tolist()

    def _deal(self, step: int, worker: int, workers: int) -> list[int]:
        """A worker's pieces: longest first, each goes to the worker with the fewest tokens so far (Graham 1969)."""
        if not 0 <= worker < workers:
            raise ValueError(f"there is no worker {worker} of {workers}")
        pieces = self._sorted(step)
        if workers == 1:
            return pieces
        loads = [(0, number) for number in range(workers)]
        share = []
        for index in pieces:
            load, number = loads[0]
            heapq.heapreplace(loads, (load + int(self._lengths[index]), number))
            if number == worker:
                share.append(index)
        return share

    def _piece(self, index: int) -> Piece:
        dataset = int(np.searchsorted(self._first, index, side="right")) - 1
        place = int(self._documents[index]), int(self._starts[index]), int(self._ends[index])
        return Piece(index, dataset, *place)

    def _batch(self, indices: Sequence[int]) -> Batch:
        pieces = [part for index in indices for part in self._parts(self._piece(index))]
        starts = tuple(itertools.accumulate(map(len, pieces), initial=0))
        tokens = np.zeros(starts[-1], np.int64)
        positions = np.zeros(starts[-1], np.int64)
        targets = np.zeros(starts[-1], np.int64)
        weights = np.zeros(starts[-1], np.float32)
        for piece, start in zip(pieces, starts, strict=False):
            dataset = self.datasets[piece.dataset]
            # One token more where the document goes on: what the piece's last token predicts.
            end = min(piece.end + 1, int(dataset.lengths[piece.document]))
            ids, trained = dataset.read(piece.document, piece.start, end)
            tokens[start : start + len(piece)] = ids[: len(piece)]
            positions[start : start + len(piece)] = np.arange(len(piece))
            targets[start : start + len(ids) - 1] = ids[1:]
            weights[start : start + len(ids) - 1] = trained[1:]
        return Batch(
            tokens=torch.from_numpy(tokens),
            positions=torch.from_numpy(positions),
            document_starts=starts,
            targets=torch.from_numpy(targets),
            weights=torch.from_numpy(weights),
            documents=tuple(piece.index for piece in pieces),
            columns={name: self._column(name, pieces) for name in self.datasets[0].columns},
        )

    def _parts(self, piece: Piece) -> list[Piece]:
        """A group's documents; any other piece is itself."""
        dataset = self.datasets[piece.dataset]
        if dataset.group == 1:
            return [piece]
        members = range(piece.document, piece.document + dataset.group)
        return [Piece(piece.index, piece.dataset, number, 0, int(dataset.lengths[number])) for number in members]

    def _column(self, name: str, pieces: Sequence[Piece]) -> torch.Tensor:
        """A column's numbers of the pieces' documents: [pieces, width]."""
        width = self.datasets[0].columns[name].shape[1]
        rows = [self.datasets[piece.dataset].columns[name][piece.document] for piece in pieces]
        return torch.from_numpy(np.stack(rows) if rows else np.zeros((0, width)))


def _pieces(dataset: TokenDataset, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The document, start and end of each piece of a dataset; a group of documents is a piece and is never split."""
    if dataset.group == 1:
        return split_documents(dataset.lengths, length)
    lengths = np.add.reduceat(dataset.lengths, np.arange(0, len(dataset), dataset.group))
    return np.arange(len(lengths)) * dataset.group, np.zeros_like(lengths), lengths
