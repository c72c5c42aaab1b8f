"""The gradient of one step, a micro-batch at a time; one that does not fit into memory is halved.

The loss is a sum over the objective's units divided by the units of the whole step, over all workers, so how the step is
cut changes nothing but rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import OwnlmError
from ..model.transformer import Transformer
from ..tokens.batch import Batch
from ..tokens.loader import Loader
from .ahead import Ahead
from .objectives import Objective
from .sharding import is_spread
from .workers import Workers

# What a failed allocation says, where it is no class of its own.
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


class Gradients:
    """Makes the gradient of any step.

    Args:
        objective: what is learned.
        model: what learns it.
        parameters: those that are trained.
        loader: the training data.
        workers: who trains together.
        micro_batch_tokens: tokens in memory at once; halved for good when a step does not fit.
        steps: updates in the whole run.
        say: tells the user something.
    """

    def __init__(
        self,
        objective: Objective[Any],
        model: Transformer,
        parameters: list[nn.Parameter],
        loader: Loader,
        workers: Workers,
        micro_batch_tokens: int,
        steps: int,
        say: Callable[[str], None],
    ) -> None:
        self.objective, self.model, self.loader, self.workers = objective, model, loader, workers
        self.micro_batch_tokens = micro_batch_tokens
        self._parameters, self._say = parameters, say
        self._losses: list[Tensor] = []
        pinned = model.device.type == "cuda"
        self._ahead = Ahead(objective, loader, workers, pinned=pinned, steps=steps)

    @property
    def losses(self) -> list[float]:
        """What each of the last step's batches, of this worker, had in its loss; their sum is its part of it."""
        return [loss.item() for loss in self._losses]

    def close(self) -> None:
        """Ends what works in the background."""
        self._ahead.close()

    def make(self, step: int, seed: int | None) -> tuple[Tensor, list[Batch]]:
        """Leaves the step's gradient in the parameters.

        Args:
            step: its number, from 0.
            seed: of its dropout; None where there is none.

        Returns:
            This worker's part of the step's loss, a scalar on the model's device, and its batches.

        Raises:
            OwnlmError: the step has nothing to train on.
        """
        while True:
            try:
                return self._make(step, seed)
            except (RuntimeError, MemoryError) as error:
                if not self.may_halve(error, self.loader, [step]):
                    raise
            # Out here the error is gone, and with it the frames that held what did not fit.
            self.halve(f"step {step + 1}", self.loader, [step])

    def _make(self, step: int, seed: int | None) -> tuple[Tensor, list[Batch]]:
        batches, idle = self._ahead.get(step, self.micro_batch_tokens)
        counted = [self.objective.all_units(batch) for batch in batches]
        units = self.workers.total([sum(row[part] for row in counted) for part in range(self.objective.parts)])
        if not units[0]:
            what = f"step {step + 1} has no {self.objective.unit} to train on"
            raise OwnlmError(what, hint="raise batch_tokens, or see what the data holds with 'ownlm data show'")
        self.objective.begin_step(self.model, [*batches, *idle], self.workers.total)
        if seed is not None:
            torch.manual_seed(seed)
        self.model.train()
        shares = [1.0 / part if part else 0.0 for part in units]
        total, losses = torch.zeros((), device=self.model.device), []
        for batch in [*batches, *idle]:
            loss = self.objective.loss(self.model, batch.to(self.model.device), *shares)
            loss.backward()
            total += loss.detach()
            losses.append(loss.detach())
        self._losses = losses[: len(batches)]
        if not is_spread(self._parameters[0]):
            self.workers.sum_gradients(self._parameters)
        return total, batches

    def may_halve(self, error: BaseException, loader: Loader, steps: Sequence[int]) -> bool:
        """Whether some of a loader's steps failed for want of memory, and smaller micro-batches may mend that."""
        text = str(error).lower()
        if not (isinstance(error, MemoryError) or any(sign in text for sign in _NO_MEMORY)):
            return False
        # The others are in the middle of an exchange, and would wait for ever.
        return self.workers.count == 1 and self._largest(loader, steps) > _longest(loader, steps)

    def halve(self, what: str, loader: Loader, steps: Sequence[int]) -> None:
        """Halves the micro-batches for good, since ``what``, these steps of a loader, did not fit."""
        # Twice the longest document is at least half of it again, once each stands alone.
        size = max(math.ceil(self._largest(loader, steps) / 2), _longest(loader, steps))
        self._say(
            f"{what} does not fit into memory in micro-batches of {self.micro_batch_tokens:,} tokens; "
            f"going on with {size:,}"
        )
        self.micro_batch_tokens = size
        for parameter in self._parameters:
            parameter.grad = None
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    def _largest(self, loader: Loader, steps: Sequence[int]) -> int:
        """The tokens of the largest micro-batch."""
        return max(len(batch) for step in steps for batch in loader.micro_batches(step, self.micro_batch_tokens))


def _longest(loader: Loader, steps: Sequence[int]) -> int:
    """The tokens of the longest piece, which is never parted."""
    return max(len(piece) for step in steps for piece in loader.pieces(step))
