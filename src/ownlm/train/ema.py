"""A running average of the trained weights (Polyak and Juditsky 1992), kept in float32 beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import DamagedError
from .config import EmaConfig
from .optimizer import Named
from .sharding import fill, own_part


def share_kept(config: EmaConfig, step: int) -> float:
    """The share of the average that update ``step`` (from 1) keeps."""
    return min(config.decay, (1 + step) / (10 + step)) if config.warmup else config.decay


class Ema:
    """The average of each trained parameter, an adapter's own where only an adapter is trained.

    Args:
        named: the parameters to average; the average begins at their values.
        config: how fast it forgets.
    """

    def __init__(self, named: Named, config: EmaConfig) -> None:
        self.named, self.config = named, config
        self._averages = [parameter.detach().to(torch.float32, copy=True) for _, parameter in named]
        self._swapped = False

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes the weights in as they are after update ``step`` (from 1)."""
        assert not self._swapped, "the model holds the averages themselves"
        averages = [own_part(average) for average in self._averages]
        weights = [own_part(parameter.detach()).float() for _, parameter in self.named]
        torch._foreach_lerp_(averages, weights, 1 - share_kept(self.config, step))

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model with the averaged weights; afterwards its own are back, bit for bit."""
        assert not self._swapped, "the averages are in the model already"
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def take(self) -> None:
        """Puts the averages into the model for good."""
        for (_, parameter), average in zip(self.named, self._averages, strict=True):
            own_part(parameter.detach()).copy_(own_part(average))

    def state(self) -> dict[str, Tensor]:
        """The averages themselves by their parameters' names."""
        return {name: average for (name, _), average in zip(self.named, self._averages, strict=True)}

    def load(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Puts saved averages back, bit for bit.

        Raises:
            DamagedError: a parameter's average is missing or of another shape.
        """
        for name, average in self.state().items():
            found = tensors.get(name)
            if found is None:
                raise DamagedError(f"the average of '{name}' is missing", where=where)
            if (found.shape, found.dtype) != (average.shape, average.dtype):
                raise DamagedError(f"the average of '{name}' does not fit it", where=where)
            fill(average, found)

    @torch.no_grad()
    def _swap(self) -> None:
        # Values change places, not tensors: optimizer, compiled parts and shards go on pointing at the same memory.
        for (_, parameter), average in zip(self.named, self._averages, strict=True):
            own, other = own_part(parameter.detach()), own_part(average)
            held = own.clone()
            own.copy_(other)
            other.copy_(held)
        self._swapped = not self._swapped
