"""The third box: each token is worked on by itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .layers import Linear


def activate(x: Tensor, kind: str) -> Tensor:
    """The activation a ModelConfig names."""
    if kind == "gelu_tanh":
        return F.gelu(x, approximate="tanh")
    if kind == "gelu":
        return F.gelu(x)
    return F.silu(x) if kind == "silu" else F.relu(x)


class FeedForward(nn.Module):
    """Up, activation, down; gated families make the gate and the value in one product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation, self.gated = config.activation, config.gated
        inner = config.feedforward_width
        self.up = Linear(config.width, (inner, inner) if config.gated else inner, config.feedforward_bias)
        self.down = Linear(inner, config.width, config.feedforward_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        inner = self.up(x)
        if self.gated:
            gate, value = inner.chunk(2, dim=-1)
            return self.down(activate(gate, self.activation) * value)
        return self.down(activate(inner, self.activation))
