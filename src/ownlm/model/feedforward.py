"""The third box: each token is worked on by itself."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from .config import ModelConfig
from .kernels import calls
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

    Attributes:
        spares: whether it does so; where its whole block is computed again, that would keep what the block does not.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation, self.gated, self.spares = config.activation, config.gated, True
        inner = config.feedforward_width
        self.up = Linear(config.width, (inner, inner) if config.gated else inner, config.feedforward_bias)
        self.down = Linear(inner, config.width, config.feedforward_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        inner = self.up(x)
        if isinstance(self.down, Linear) and self.down.weight.dtype == torch.float32 and calls.usable(inner):
            return _KernelDown.apply(inner, self.activation, self.gated, self.down.weight, self.down.bias)
        if not self.spares or not torch.is_grad_enabled() or torch.compiler.is_compiling():
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
        if calls.usable(inner):
            return _KernelActivation.apply(inner, self.activation, self.gated)
        if not self.gated:
            return activate(inner, self.activation)
        return _Gated.apply(inner, self.activation)


class _KernelDown(torch.autograd.Function):
    """Activation and down projection where kernels run: in the backward pass one kernel makes what is activated once more
    and the gradient of ``inner``.
    """

    @staticmethod
    def forward(ctx: Any, inner: Tensor, kind: str, gated: bool, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inner, weight)
        ctx.kind, ctx.gated, ctx.bias_dtype = kind, gated, None if bias is None else bias.dtype
        return calls.linear(calls.activation(kind, gated, inner), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inner, weight = ctx.saved_tensors
        wants_weight, wants_bias = ctx.needs_input_grad[3:]
        above = calls.input_gradient(grad, weight)
        grad_inner, activated = calls.activation_gradient(ctx.kind, ctx.gated, inner, above, again=True)
        del above
        assert activated is not None
        grad_weight = calls.weight_gradient(grad, activated) if wants_weight else None
        grad_bias = calls.column_sums(grad).to(ctx.bias_dtype) if wants_bias else None
        return grad_inner, None, None, grad_weight, grad_bias


class _KernelActivation(torch.autograd.Function):
    """Either kind of activation where kernels run (see kernels/); only the input is kept."""

    @staticmethod
    def forward(ctx: Any, inner: Tensor, kind: str, gated: bool) -> Tensor:
        ctx.save_for_backward(inner)
        ctx.kind, ctx.gated = kind, gated
        return calls.activation(kind, gated, inner)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (inner,) = ctx.saved_tensors
        return calls.activation_gradient(ctx.kind, ctx.gated, inner, grad)[0], None, None


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
