"""What every update rule is, and the optimizer that runs several side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


class Rule(ABC):
    """How gradients change parameters; it holds settings, and no state."""

    @abstractmethod
    def new_state(self, parameter: Tensor) -> State:
        """What is remembered of a parameter, before its first update."""

    @abstractmethod
    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float,
        decay: float,
    ) -> None:
        """One update in place, of the parameters and of their states.

        Where a parameter is spread over workers, so are its gradient and its state.
        """


class RuleOptimizer(torch.optim.Optimizer):
    """Groups of parameters, each with its rule, as one optimizer.

    Args:
        groups: each with ``params``, ``rule`` and ``weight_decay``.
        lr: the learning rate of all of them.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr})
        for group in self.param_groups:
            for parameter in group["params"]:
                # Before any activation: taken between two steps, these would scatter them.
                self.state[parameter] = group["rule"].new_state(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                states = [self.state[p] for p in parameters]
                gradients = [p.grad for p in parameters]
                group["rule"].update(parameters, gradients, states, group["lr"], group["weight_decay"])
