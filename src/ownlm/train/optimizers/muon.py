"""Muon (Jordan 2024): momentum whose every direction is made equally long, for the hidden matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..sharding import own_part, own_rows
from .eight_bit import chunks, dequantised, new_codes, quantise
from .rule import Rule, State

# Jordan's quintic: singular values come to lie between about 0.7 and 1.2, and the small ones grow fastest.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5

# An update of AdamW is seldom longer than this, root mean square; Liu et al. 2025 bring Muon's to it, so that one
# learning rate and one weight decay serve both.
ADAMW_ROOT_MEAN_SQUARE = 0.2


def orthogonalised(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Five Newton-Schulz steps towards the nearest matrix with orthonormal rows or columns.

    x: [outputs, inputs] -> the same in ``dtype``.
    """
    a, b, c = COEFFICIENTS
    # The products are of the shorter side's size.
    tall = x.size(0) > x.size(1)
    y = x.to(dtype, copy=True)
    y = y.t() if tall else y
    y.div_(y.norm().clamp(min=1e-7))
    for _ in range(ITERATIONS):
        gram = y @ y.t()
        y = torch.addmm(y, torch.addmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y.t() if tall else y


@dataclass(frozen=True)
class Muon(Rule):
    """Nesterov momentum, made orthogonal, with the decoupled decay of AdamW.

    Attributes:
        momentum: the share of the momentum that an update keeps.
        dtype: what Newton-Schulz computes in.
        segments: rows of each projection joined in the matrix: each is made orthogonal by itself. None is the whole.
        eight_bit: keep the momentum in eight bits: 1 byte a parameter and a scale a block, in place of 4.
    """

    momentum: float
    dtype: torch.dtype
    segments: tuple[int, ...] | None
    eight_bit: bool

    def new_state(self, parameter: Tensor) -> State:
        """momentum: the parameter's shape, float32; or int8 with a float32 scale a block."""
        if not self.eight_bit:
            return {"momentum": torch.zeros_like(parameter)}
        codes, scale = new_codes(parameter, signed=True)
        return {"momentum": codes, "momentum_scale": scale}

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float,
        decay: float,
    ) -> None:
        """One update, matrix by matrix."""
        for parameter, gradient, state in zip(parameters, gradients, states, strict=True):
            direction = _whole(self._direction(own_part(gradient), state), parameter, self.dtype)
            own, (first, last) = own_part(parameter), own_rows(parameter) or (0, len(parameter))
            own.mul_(1 - lr * decay)
            begin = 0
            for part in direction.split(self.segments or (len(parameter),)):
                low, high = max(first, begin), min(last, begin + len(part))
                if low < high:
                    update = orthogonalised(part, self.dtype)[low - begin : high - begin]
                    length = ADAMW_ROOT_MEAN_SQUARE * math.sqrt(max(part.shape))
                    own[low - first : high - first].add_(update, alpha=-lr * length)
                begin += len(part)

    def _direction(self, gradient: Tensor, state: State) -> Tensor:
        """Nesterov's: the gradient on top of the momentum that already holds it. [own rows, inputs]."""
        momentum = own_part(state["momentum"])
        if not self.eight_bit:
            return gradient.lerp(momentum.lerp_(gradient, 1 - self.momentum), self.momentum)
        direction = torch.empty(gradient.shape, dtype=self.dtype, device=gradient.device)
        for scale, codes, g, out in chunks(state["momentum_scale"], momentum, gradient.contiguous(), direction):
            wide = dequantised(codes, scale * self.momentum).add_(g, alpha=1 - self.momentum)
            quantise(wide, codes, scale)
            out.copy_(wide.lerp_(g, 1 - self.momentum))
        return direction


def _whole(own: Tensor, parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """All rows of what each worker has its own rows of, as it has the parameter's; they travel in ``dtype``."""
    if not isinstance(parameter, DTensor):
        return own
    mesh, placements = parameter.device_mesh, parameter.placements
    spread = DTensor.from_local(own.to(dtype), mesh, placements, shape=parameter.shape, stride=parameter.stride())
    return spread.full_tensor()
