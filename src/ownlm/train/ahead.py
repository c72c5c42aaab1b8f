"""The next step's batches, made in the background while the present step computes.

A step's batches are a pure function of its number, so making them early changes nothing.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ..tokens.batch import Batch
from ..tokens.loader import Loader
from .objectives import Objective
from .workers import Workers

Batches = tuple[list[Batch], list[Batch]]


class Ahead:
    """Batches of any step, the next one's made before they are asked for.

    Args:
        objective: what is learned.
        loader: the training data.
        workers: who trains together.
        pinned: whether they are to be in page-locked memory, from where a GPU takes them without the CPU's help.
        steps: updates in the whole run.
    """

    def __init__(
        self, objective: Objective[Any], loader: Loader, workers: Workers, *, pinned: bool, steps: int | None = None
    ) -> None:
        self._objective, self._loader, self._workers = objective, loader, workers
        self._pinned, self._steps = pinned, steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._next: tuple[tuple[int, int], Future[Batches]] | None = None

    def get(self, step: int, micro_batch_tokens: int) -> Batches:
        """This worker's batches of a step, and empty ones for as long as another still works."""
        key = step, micro_batch_tokens
        waiting = self._next
        if waiting is not None and waiting[0] == key:
            batches = waiting[1].result()
        else:
            batches = self._pool.submit(self._make, *key).result()
        self._next = None
        if self._steps is None or step + 1 < self._steps:
            later = step + 1, micro_batch_tokens
            self._next = later, self._pool.submit(self._make, *later)
        return batches

    def close(self) -> None:
        """Ends the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, step: int, micro_batch_tokens: int) -> Batches:
        rank, count = self._workers.rank, self._workers.count
        loaded = self._loader.micro_batches(step, micro_batch_tokens, rank, count)
        batches = [self._placed(self._objective.batch(batch, step)) for batch in loaded]
        if count == 1:
            return batches, []
        missing = self._loader.rounds(step, micro_batch_tokens, count) - len(batches)
        idle = [self._placed(self._objective.batch(self._loader.idle_batch(step), step).untrained())] * missing
        return batches, idle

    def _placed(self, batch: Batch) -> Batch:
        batch = batch.with_rows()
        return batch.pinned() if self._pinned else batch
