"""The small parts every box is made of: a linear layer and two norms, each computing in its input's dtype.

Weights may be stored wider than they compute: a float32 weight meets a bfloat16 input as bfloat16, and its gradient
comes back as float32. That is all of "mixed precision" here; there is no autocast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .kernels import calls


class Linear(nn.Module):
    """``x @ weight.T + bias``, for one or several projections joined along the output.

    Args:
        inputs: size of the input.
        outputs: size of the output, or the sizes of the joined projections in order.
        bias: whether each projection has a bias.
    """

    def __init__(self, inputs: int, outputs: int | Sequence[int], bias: bool) -> None:
        super().__init__()
        self.segments = (outputs,) if isinstance(outputs, int) else tuple(outputs)
        self.inputs, self.outputs = inputs, sum(self.segments)
        self.weight = nn.Parameter(torch.empty(self.outputs, inputs))
        self.bias = nn.Parameter(torch.empty(self.outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, inputs] -> [tokens, outputs]."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` in x's dtype; wider weights get wider gradients. x: [tokens, inputs]."""
    if weight.dtype == x.dtype:
        return F.linear(x, weight, None if bias is None else bias.to(x.dtype))
    if torch.is_grad_enabled():
        return _NarrowedLinear.apply(x, weight, bias)
    return _narrowed_linear(x, weight, bias)


def _kernels_run(x: Tensor, weight: Tensor) -> bool:
    return x.dim() == 2 and weight.dtype == torch.float32 and calls.usable(x)


def _narrowed_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if _kernels_run(x, weight):
        return calls.linear(x, weight, bias)
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class _NarrowedLinear(torch.autograd.Function):
    """A product in x's dtype with a wider weight, keeping no narrow copy of the weight until the backward pass.

    Autograd would keep every layer's copy (half the model again); what casting a second time costs was too little to
    measure.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return _narrowed_linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        kernels = _kernels_run(grad, weight)
        grad_x = grad_weight = grad_bias = None
        if wants_x:
            grad_x = calls.input_gradient(grad, weight) if kernels else grad @ weight.to(grad.dtype)
        if wants_weight:
            grad_weight = calls.weight_gradient(grad, x) if kernels else (grad.t() @ x).to(weight.dtype)
        if wants_bias:
            grad_bias = calls.column_sums(grad) if kernels else grad.sum(0, dtype=torch.float32)
            grad_bias = grad_bias.to(ctx.bias_dtype)
        return grad_x, grad_weight, grad_bias


def split_columns(x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """x.split(sizes, -1); gradients that lie side by side already are not copied to do so. x: [tokens, sum of sizes]."""
    if torch.is_grad_enabled() and calls.usable(x):
        parts: tuple[Tensor, ...] = _SplitColumns.apply(x, tuple(sizes))
        return parts
    return x.split(tuple(sizes), dim=-1)


class _SplitColumns(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        return tuple(x.split(sizes, dim=-1))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        whole, columns = grads[0], sum(grad.shape[1] for grad in grads)
        place = whole.data_ptr()
        for grad in grads:
            if grad.data_ptr() != place or grad.stride() != (columns, 1):
                return torch.cat(grads, dim=1), None
            place += grad.shape[1] * grad.element_size()
        return whole.as_strided((len(whole), columns), (columns, 1)), None


class RMSNorm(nn.Module):
    """Root mean square norm (Zhang and Sennrich 2019): the statistics in float32, as the references do.

    Args:
        width: size of what is normed.
        eps: the small number added to the mean square.
        unit_offset: multiplies by 1 + weight, in float32, as Gemma does; without, by the weight in x's dtype.
    """

    def __init__(self, width: int, eps: float, unit_offset: bool = False) -> None:
        super().__init__()
        self.eps, self.unit_offset = eps, unit_offset
        self.weight = nn.Parameter(torch.zeros(width) if unit_offset else torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., width], same shape out."""
        if calls.usable(x):
            return self._kernel_norm(x)[0]
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        if self.unit_offset:
            return (normed * (1.0 + self.weight.float())).to(x.dtype)
        return normed.to(x.dtype) * self.weight.to(x.dtype)

    def _kernel_norm(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight.float() + 1.0 if self.unit_offset else self.weight.float()
        return _KernelNorm.apply(x, weight, None, self.eps, False, not self.unit_offset)


class LayerNorm(nn.Module):
    """Layer norm (Ba et al. 2016): the statistics in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., width], same shape out."""
        if calls.usable(x):
            return self._kernel_norm(x)[0]
        narrowed = self.weight.dtype == torch.float32 and x.dtype in (torch.bfloat16, torch.float16)
        if narrowed and x.device.type == "cpu" and torch.is_grad_enabled():
            return _NarrowedLayerNorm.apply(x, self.weight, self.bias, self.eps)
        return F.layer_norm(x, x.shape[-1:], self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)

    def _kernel_norm(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return _KernelNorm.apply(x, self.weight.float(), self.bias.float(), self.eps, True, False)


def norm_beside(norm: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The normed x, and x itself to be added to what is made of it.

    The same two tensors as without this; but what flows back through both is added where the norm's gradient is made, not
    in a pass of its own over all of the stream.
    """
    if isinstance(norm, LayerNorm | RMSNorm) and calls.usable(x):
        return norm._kernel_norm(x)
    return norm(x), x


class _KernelNorm(torch.autograd.Function):
    """Both norms where kernels run (see kernels/): statistics and sums over the tokens in float32.

    It gives x once more, so that the gradient of who uses that is added in the same pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, centred: bool, double_rounding: bool
    ) -> tuple[Tensor, Tensor]:
        out, statistics = calls.norm(x, weight, bias, eps, centred, double_rounding)
        ctx.save_for_backward(x, weight, statistics)
        ctx.set_materialize_grads(False)
        ctx.centred = centred
        return out, x

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, beside: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad is None:
            return beside, None, None, None, None, None
        x, weight, statistics = ctx.saved_tensors
        wanted = any(ctx.needs_input_grad[1:3])
        grads = calls.norm_gradient(x, grad, weight, statistics, ctx.centred, wanted, beside)
        return *grads, None, None, None


class _NarrowedLayerNorm(torch.autograd.Function):
    """Layer norm in x's dtype whose gradients are summed over the tokens in float32.

    On a CPU the framework's own backward pass sums them in bfloat16, which stops growing: over 8,192 tokens the bias's
    gradient is wrong by half of itself. CUDA's sums in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        out, mean, deviation = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, deviation)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, deviation = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        wide = torch.ops.aten.native_layer_norm_backward
        grads = wide(grad.float(), x.float(), x.shape[-1:], mean, deviation, weight, bias, wanted)
        grad_x, grad_weight, grad_bias = (g if wants else None for g, wants in zip(grads, wanted, strict=True))
        return None if grad_x is None else grad_x.to(x.dtype), grad_weight, grad_bias, None


def make_norm(kind: str, width: int, eps: float, unit_offset: bool = False) -> nn.Module:
    """The norm a ModelConfig names; ``unit_offset`` is RMSNorm's."""
    return LayerNorm(width, eps) if kind == "layernorm" else RMSNorm(width, eps, unit_offset)
