"""One function for each kernel: tensors in, tensors out. Callers ask ``usable`` first."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import library as compiled

ACTIVATIONS = ("gelu_tanh", "gelu", "silu", "relu")

_int, _float, _bool = ctypes.c_int64, ctypes.c_float, ctypes.c_bool


def usable(*tensors: Tensor) -> bool:
    """Whether kernels run on these: bfloat16, on a CPU that has them, and not nothing at all."""
    if torch.compiler.is_compiling():
        return False
    if any(x.device.type != "cpu" or x.dtype != torch.bfloat16 or not x.numel() for x in tensors):
        return False
    return compiled.library() is not None


def _call(name: str, *arguments: object) -> Any:
    library = compiled.library()
    assert library is not None
    return getattr(library, name)(*arguments, ctypes.c_int(torch.get_num_threads()))


def _at(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _rows(x: Tensor) -> Tensor:
    """x with the values of each row side by side; rows themselves may lie apart."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias: [tokens, inputs], [outputs, inputs] float32 or bfloat16, [outputs] -> [tokens, outputs]."""
    x, weight = _rows(x), weight.contiguous()
    bias = None if bias is None else bias.float().contiguous()
    (tokens, inputs), outputs = x.shape, len(weight)
    if out is None:
        out = x.new_empty(tokens, outputs)
    assert out.stride(1) == 1
    operands = (_at(x), _int(x.stride(0)), _at(weight), _bool(weight.dtype == torch.float32), _at(bias))
    _call("linear_forward", *operands, _at(out), _int(out.stride(0)), _int(tokens), _int(inputs), _int(outputs))
    return out


def input_gradient(grad: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """grad @ weight: [tokens, outputs], [outputs, inputs] float32 or bfloat16 -> [tokens, inputs]."""
    grad, weight = _rows(grad), weight.contiguous()
    (tokens, outputs), inputs = grad.shape, weight.shape[1]
    if out is None:
        out = grad.new_empty(tokens, inputs)
    assert out.stride(1) == 1
    operands = (_at(grad), _int(grad.stride(0)), _at(weight), _bool(weight.dtype == torch.float32))
    _call("linear_input_gradient", *operands, _at(out), _int(out.stride(0)), _int(tokens), _int(inputs), _int(outputs))
    return out


def weight_gradient(grad: Tensor, x: Tensor, out: Tensor | None = None) -> Tensor:
    """grad.T @ x in float32 throughout: [tokens, outputs], [tokens, inputs] -> [outputs, inputs]; added to ``out``."""
    grad, x = _rows(grad), _rows(x)
    (tokens, outputs), inputs, add = grad.shape, x.shape[1], out is not None
    if out is None:
        out = torch.empty(outputs, inputs)
    strides = (_at(grad), _int(grad.stride(0)), _at(x), _int(x.stride(0)))
    sizes = (_int(tokens), _int(inputs), _int(outputs))
    _call("linear_weight_gradient", *strides, _at(out), *sizes, _bool(add))
    return out


def column_sums(x: Tensor, out: Tensor | None = None) -> Tensor:
    """x.sum(0) in float32: [rows, columns] -> [columns]; added to ``out``."""
    x, add = _rows(x), out is not None
    if out is None:
        out = torch.empty(x.shape[1])
    _call("column_sums", _at(x), _int(x.stride(0)), _at(out), _int(x.shape[0]), _int(x.shape[1]), _bool(add))
    return out


def activation(kind: str, gated: bool, inner: Tensor) -> Tensor:
    """activation(inner), or activation(gate) * value: [rows, width or 2 x width] -> [rows, width]."""
    inner = inner.contiguous()
    rows, width = inner.shape[0], inner.shape[1] // (2 if gated else 1)
    out = inner.new_empty(rows, width)
    head = (ctypes.c_int(ACTIVATIONS.index(kind)), _bool(gated))
    _call("activation_forward", *head, _at(inner), _at(out), _int(rows), _int(width))
    return out


def activation_gradient(
    kind: str, gated: bool, inner: Tensor, grad: Tensor, again: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The gradient of ``inner`` from that of ``activation``'s result, and ``again`` that result itself."""
    inner, grad = inner.contiguous(), grad.contiguous()
    grad_inner, out = torch.empty_like(inner), torch.empty_like(grad) if again else None
    head = (ctypes.c_int(ACTIVATIONS.index(kind)), _bool(gated), _at(inner), _at(grad), _at(grad_inner), _at(out))
    _call("activation_backward", *head, _int(grad.shape[0]), _int(grad.shape[1]))
    return grad_inner, out


def norm(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, centred: bool, double_rounding: bool
) -> tuple[Tensor, Tensor]:
    """Layer norm (centred) or RMS norm over the last dimension; and each row's mean and 1 / deviation.

    x: [..., width]; weight, bias: [width] float32. double_rounding: the normed values and the weight are rounded before
    they meet.
    """
    x, weight, bias = x.contiguous(), weight.contiguous(), None if bias is None else bias.contiguous()
    width, out = x.shape[-1], torch.empty_like(x)
    rows = x.numel() // width
    statistics = torch.empty(rows, 2)
    head = (_bool(centred), _bool(double_rounding), _at(x), _at(weight), _at(bias), _at(out), _at(statistics))
    _call("norm_forward", *head, _int(rows), _int(width), _float(eps))
    return out, statistics


def norm_gradient(
    x: Tensor,
    grad: Tensor,
    weight: Tensor,
    statistics: Tensor,
    centred: bool,
    wanted: bool,
    beside: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of x, and where ``wanted`` of weight and bias (float32).

    beside: what else flows back into x, which is added to its gradient.
    """
    x, grad, weight = x.contiguous(), grad.contiguous(), weight.contiguous()
    beside = None if beside is None else beside.contiguous()
    width, grad_x = x.shape[-1], torch.empty_like(x)
    grad_weight = torch.empty(width) if wanted else None
    grad_bias = torch.empty(width) if wanted and centred else None
    head = (_bool(centred), _at(x), _at(grad), _at(weight), _at(statistics), _at(beside), _at(grad_x))
    _call("norm_backward", *head, _at(grad_weight), _at(grad_bias), _int(x.numel() // width), _int(width))
    return grad_x, grad_weight, grad_bias


def softmax_gradient(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Each row's loss; ``logits`` becomes its gradient times the row's weight. logits: [rows, vocab]."""
    assert logits.stride(1) == 1
    rows, vocab = logits.shape
    targets, weights = targets.contiguous(), weights.float().contiguous()
    losses = torch.empty(rows)
    tensors = (_at(targets), _at(weights), _at(losses))
    _call("softmax_gradient", _at(logits), _int(logits.stride(0)), *tensors, _int(rows), _int(vocab), _float(smoothing))
    return losses


def sum_of_squares(x: Tensor) -> float | None:
    """The sum of x's squares; None where no kernel makes it: x is float32 on a CPU, its values one after another."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or not x.is_contiguous() or compiled.library() is None:
        return None
    return _call("sum_of_squares", _at(x), _int(x.numel()))


class _Shape(ctypes.Structure):
    _fields_ = (
        ("query_starts", ctypes.c_void_p),
        ("key_starts", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("documents", "heads", "kv_heads", "width")),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("causal", ctypes.c_bool),
        ("window", ctypes.c_int64),
    )


class _Rows(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("ld", ctypes.c_int64))


class Attention:
    """Attention of packed documents over packed documents; see attention.cpp.

    Args:
        query_starts: where each document's queries begin and the last end.
        key_starts: the same of the keys.
        scale: what scores are multiplied by.
        softcap: None, or scores become softcap * tanh(scores / softcap).
        causal: whether a query sees only the keys up to its own place.
        window: None, or a query sees only keys fewer than this many places away.
    """

    def __init__(
        self,
        query_starts: Sequence[int],
        key_starts: Sequence[int],
        scale: float,
        softcap: float | None,
        causal: bool,
        window: int | None,
    ) -> None:
        self.starts = tuple((ctypes.c_int64 * len(starts))(*starts) for starts in (query_starts, key_starts))
        self.documents, self.last_query, self.last_key = len(query_starts) - 1, query_starts[-1], key_starts[-1]
        # Keys that nobody asks for have no gradient, and no kernel writes one.
        self.skips = any(start == end for start, end in itertools.pairwise(query_starts))
        self.scale, self.softcap, self.causal, self.window = scale, softcap or 0.0, causal, window or 0

    def _shape(self, q: Tensor, k: Tensor) -> object:
        starts = [ctypes.cast(x, ctypes.c_void_p).value for x in self.starts]
        sizes = (self.documents, q.shape[1], k.shape[1], q.shape[2])
        return ctypes.byref(_Shape(*starts, *sizes, self.scale, self.softcap, self.causal, self.window))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Attention's output, [rows, heads, width], and the log-sum-exp of every score row, [heads, rows] float32."""
        q, k, v = _heads(q), _heads(k), _heads(v)
        out, log_sums = q.new_empty(q.shape), torch.empty(q.shape[1], len(q))
        out[self.last_query :] = 0
        _call("attention_forward", self._shape(q, k), *map(_place, (q, k, v, out)), _at(log_sums), _int(len(q)))
        return out, log_sums

    def backward(
        self, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sums: Tensor, grad: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v, side by side in memory where all have as many rows, as one product made them."""
        q, k, v, grad = _heads(q), _heads(k), _heads(v), _heads(grad)
        if len(q) == len(k):
            widths = [x.shape[1] * x.shape[2] for x in (q, k, v)]
            joined = (q.new_zeros if self.skips else q.new_empty)(len(q), sum(widths))
            parts = zip(joined.split(widths, dim=1), (q, k, v), strict=True)
            grads = tuple(part.unflatten(1, x.shape[1:]) for part, x in parts)
        else:
            grads = tuple((x.new_zeros if self.skips else x.new_empty)(x.shape) for x in (q, k, v))
        for x, last in zip(grads, (self.last_query, self.last_key, self.last_key), strict=True):
            x[last:] = 0
        tensors = (*map(_place, (q, k, v, out, grad)), _at(log_sums), _int(len(q)))
        _call("attention_backward", self._shape(q, k), *tensors, *map(_place, grads))
        return grads[0], grads[1], grads[2]


def _heads(x: Tensor) -> Tensor:
    """x: [rows, heads, width] with each row's values side by side."""
    return x if x.stride(2) == 1 and x.stride(1) == x.shape[2] else x.contiguous()


def _place(x: Tensor) -> object:
    return ctypes.byref(_Rows(x.data_ptr(), x.stride(0)))
