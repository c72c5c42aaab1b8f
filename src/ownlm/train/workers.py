"""The processes that train together: who is who, and the little that they tell each other.

Any launcher that sets RANK and WORLD_SIZE (torchrun, a cluster's own) makes them; alone is the usual case, in which
nothing here costs anything.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, LostWorker

# Gradients exchanged at once.
BUCKET_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Workers:
    """One process among those of a run.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that speaks and writes."""
        return self.rank == 0

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all workers, in float64, so that counts stay exact."""
        if self.count == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def agreed(self, value: Any) -> Any:
        """The first worker's value, on all of them."""
        if self.count == 1:
            return value
        held = [value]
        torch.distributed.broadcast_object_list(held, src=0)
        return held[0]

    def gathered(self, values: Sequence[Any]) -> list[Any]:
        """Everybody's values, by rank."""
        if self.count == 1:
            return list(values)
        held: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(held, list(values))
        return [value for each in held for value in each]

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Adds up the gradients of weights that every worker holds whole, a few large exchanges at a time."""
        if self.count == 1:
            return
        with torch.no_grad():
            gradients = []
            for parameter in parameters:
                # A worker whose batches never came to a weight has none for it, and must still take part.
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
            for bucket in _buckets(gradients):
                flat = torch.cat([gradient.flatten() for gradient in bucket])
                torch.distributed.all_reduce(flat)
                parts = flat.split([gradient.numel() for gradient in bucket])
                for gradient, part in zip(bucket, parts, strict=True):
                    gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    @contextlib.contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The block is run by the first worker, and only then by the others, who find what it left on the disk."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()


# The usual case.
ALONE = Workers()


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one dtype, in order, in lists of at most about ``BUCKET_BYTES``."""
    for _, group in itertools.groupby(gradients, key=lambda gradient: gradient.dtype):
        bucket: list[Tensor] = []
        size = 0
        for gradient in group:
            bucket.append(gradient)
            size += gradient.nbytes
            if size >= BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket


@contextlib.contextmanager
def joined_workers() -> Iterator[Workers]:
    """This process among the workers that its launcher started, connected until the block ends.

    Raises:
        ConfigError: the launcher's variables do not fit together.
    """
    count, rank = _variable("WORLD_SIZE", 1), _variable("RANK", 0)
    if count == 1:
        yield Workers()
        return
    if not 0 <= rank < count:
        raise ConfigError(f"there is no worker {rank} of {count}", where="RANK", hint="let torchrun set it")
    # Numbers and names go through the CPU's back end, gradients through their device's.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend)
    try:
        yield Workers(rank, count)
    except RuntimeError as error:
        # The back ends have no class for it.
        if any(sign in str(error) for sign in ("Connection closed by peer", "Connection reset by peer", "NCCL error")):
            raise LostWorker("another worker has ended", hint="what it said stands above") from None
        raise
    finally:
        torch.distributed.destroy_process_group()


def own_device(name: str, workers: Workers) -> str:
    """The device of one worker: each process of a machine has its own GPU."""
    if workers.count > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{_variable('LOCAL_RANK', workers.rank)}"
    return name


def _variable(name: str, usual: int) -> int:
    value = os.environ.get(name, "")
    if value and not value.isdigit():
        raise ConfigError(f"a whole number is needed here (got {value!r})", where=name, hint="let torchrun set it")
    return int(value) if value else usual
