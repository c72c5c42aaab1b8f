"""AdamW (Loshchilov and Hutter 2019), its moments in float32 or in eight bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ..sharding import own_part
from .eight_bit import chunks, dequantised, new_codes, quantise
from .rule import Rule, State


@dataclass(frozen=True)
class AdamW(Rule):
    """The framework's fused kernel: one pass over parameter, gradient and both moments."""

    betas: tuple[float, float]
    eps: float

    def new_state(self, parameter: Tensor) -> State:
        """step: a float32 scalar; exp_avg, exp_avg_sq: as the parameter."""
        return {
            # Where the fused kernel wants it, beside its parameter.
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float,
        decay: float,
    ) -> None:
        """One update of all parameters together."""
        adamw(
            [own_part(parameter) for parameter in parameters],
            [own_part(gradient) for gradient in gradients],
            [own_part(state["exp_avg"]) for state in states],
            [own_part(state["exp_avg_sq"]) for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=lr,
            weight_decay=decay,
            eps=self.eps,
            maximize=False,
        )


@dataclass(frozen=True)
class EightBitAdamW(Rule):
    """AdamW with both moments in eight bits (Dettmers et al. 2022): 2 bytes a parameter and 2 scales a block."""

    betas: tuple[float, float]
    eps: float

    def new_state(self, parameter: Tensor) -> State:
        """step: a float32 scalar on the CPU; exp_avg: int8, root_avg_sq: uint8, both with the scales of their blocks."""
        average, scale = new_codes(parameter, signed=True)
        root, root_scale = new_codes(parameter, signed=False)
        return {
            # Read in every update; on another device that would wait for all that is under way there.
            "step": torch.zeros((), dtype=torch.float32),
            "exp_avg": average,
            "exp_avg_scale": scale,
            "root_avg_sq": root,
            "root_avg_sq_scale": root_scale,
        }

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float,
        decay: float,
    ) -> None:
        """One update, a few blocks at a time: no more of the moments than that is ever held in float32."""
        for parameter, gradient, state in zip(parameters, gradients, states, strict=True):
            state["step"] += 1
            steps = state["step"].item()
            # Both moments' bias corrections, taken out of the numbers and into what is the same for all of them.
            unbiased = math.sqrt(1 - self.betas[1] ** steps)
            rate = lr * unbiased / (1 - self.betas[0] ** steps)
            moments = (state[key] for key in ("exp_avg_scale", "root_avg_sq_scale", "exp_avg", "root_avg_sq"))
            for scale, root_scale, average, root, x, g in chunks(*moments, parameter, gradient.contiguous()):
                first = self._first_moment(g, average, scale)
                second = self._root_of_second_moment(g, root, root_scale)
                x.mul_(1 - lr * decay).addcdiv_(first, second.add_(self.eps * unbiased), value=-rate)

    def _first_moment(self, gradient: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
        """The new one in float32, after storing it: [blocks, length]."""
        moment = dequantised(codes, scale * self.betas[0]).add_(gradient, alpha=1 - self.betas[0])
        quantise(moment, codes, scale)
        return moment

    def _root_of_second_moment(self, gradient: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
        """The same; the root is what is stored, since its numbers span half as many decades."""
        square = dequantised(codes, scale * math.sqrt(self.betas[1])).square_()
        root = square.addcmul_(gradient, gradient, value=1 - self.betas[1]).sqrt_()
        quantise(root, codes, scale)
        return root
