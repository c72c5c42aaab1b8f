"""The third box: each token is worked on by itself."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

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
    """Up, activation, down; gated families make the gate and the value in one product.

    For the backward pass only the up projection's output is kept, and the activation is computed from it again: its
    result is as large as everything attention keeps, and takes a few percent of a step to make.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation, self.gated = config.activation, config.gated
        inner = config.feedforward_width
        self.up = Linear(config.width, (inner, inner) if config.gated else inner, config.feedforward_bias)
        self.down = Linear(inner, config.width, config.feedforward_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        inner = self.up(x)
        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.down(self._activated(inner))
        # detach: what is kept for making it again must not keep the graph alive.
        activated, kept = self._activated(inner), inner.detach()
        place = activated.data_ptr()

        def pack(tensor: Tensor) -> Any:
            same = tensor.data_ptr() == place and tensor.shape == activated.shape
            return None if same else tensor

        def unpack(packed: Tensor | None) -> Tensor:
            return self._activated(kept) if packed is None else packed

        with saved_tensors_hooks(pack, unpack):
            return self.down(activated)

    def _activated(self, inner: Tensor) -> Tensor:
        if not self.gated:
            return activate(inner, self.activation)
        return _Gated.apply(inner, self.activation)


class _Gated(torch.autograd.Function):
    """activation(gate) * value, of which only the input is kept: autograd would keep the activated gate as well."""

    @staticmethod
    def forward(ctx: Any, inner: Tensor, kind: str) -> Tensor:
        ctx.save_for_backward(inner)
        ctx.kind = kind
        gate, value = inner.chunk(2, dim=-1)
        return activate(gate, kind).mul_(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (inner,) = ctx.saved_tensors
        gate, value = inner.chunk(2, dim=-1)
        with torch.enable_grad():
            leaf = gate.detach().requires_grad_()
            activated = activate(leaf, ctx.kind)
        (grad_gate,) = torch.autograd.grad(activated, leaf, grad * value)
        return torch.cat((grad_gate, grad * activated.detach()), dim=-1), None
