"""Linear layers whose frozen weight is kept in 8 or 4 bits and widened for one product at a time (Dettmers et al. 2023).

    the weight, row by row, in blocks of 64     codes                           scales
    [ 0.011 -0.034 ... ]  block 0               a multiple of 1/127 (int8)      bfloat16, one a block, or
    [ 0.002  0.027 ... ]  block 1          ->   or one of 16 quantiles (nf4),   doubled: one byte a block and
      ...                                       two of these in a byte          one float32 for 256 blocks

A value is its code times its block's scale. Codes are chosen by the scale as it is stored, so that what rounding did to
it is no further error; and it has so few bits that with an int8 code it makes an exact float32.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .config import ModelConfig
from .layers import Linear
from .transformer import Transformer

Kind = Literal["int8", "nf4"]

BLOCK = 64
# Blocks whose scales share a scale.
GROUP = 256
# Weights handled at once on a CPU: codes, places in the table and values then fit in a core's own cache.
PART = 1 << 18


class QuantizedLinear(nn.Module):
    """A ``Linear`` that is never trained: what it computes is a product with its widened weight.

    Args:
        layer: what it stands for; its weight is not looked at, and may be on the meta device.
        weight: [outputs, inputs], of any floating-point dtype.
        kind: int8, or nf4 for 4 bits.
        double: whether the scales are kept in 8 bits too.

    Raises:
        ModelError: the weight holds a value that is not finite.
    """

    def __init__(self, layer: Linear, weight: Tensor, kind: Kind, double: bool = True) -> None:
        super().__init__()
        self.segments, self.inputs, self.outputs = layer.segments, layer.inputs, layer.outputs
        self.bias = layer.bias
        # Not part of the model's state: a frozen base is read from its own folder.
        for name, tensor in quantize(weight, kind, double)._asdict().items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def stored(self) -> Stored:
        """The weight as it is kept."""
        return Stored(*(self.get_buffer(name) for name in Stored._fields))

    @property
    def device(self) -> torch.device:
        """Where the weight is."""
        return self.stored.codes.device

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight that takes part in products of ``dtype``: [outputs, inputs]."""
        return dequantize(self.stored, (self.outputs, self.inputs), dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, inputs] -> [tokens, outputs]."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if not torch.is_grad_enabled():
            return F.linear(x, self.dense(x.dtype), bias)
        return _Product.apply(x, bias, (self.outputs, self.inputs), *self.stored)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> QuantizedLinear:
        """Moves with the model, but keeps its dtypes: a rounded scale is another scale."""
        before = self.stored
        super()._apply(fn, recurse)
        for name, tensor in before._asdict().items():
            setattr(self, name, tensor.to(self.get_buffer(name).device))
        return self


class _Product(torch.autograd.Function):
    """x times the widened weight; only the codes are kept, and the backward pass widens them again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, shape: tuple[int, int], *stored: Tensor) -> Tensor:
        ctx.save_for_backward(*stored)
        ctx.shape = shape
        return F.linear(x, dequantize(Stored(*stored), shape, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wants_x, wants_bias = ctx.needs_input_grad[:2]
        stored = Stored(*ctx.saved_tensors)
        grad_x = grad @ dequantize(stored, ctx.shape, grad.dtype) if wants_x else None
        return grad_x, grad.sum(0) if wants_bias else None, None, *[None] * len(stored)


def block_linears(model: nn.Module) -> dict[str, Linear]:
    """The linear layers under the blocks by name; the head's are not among them."""
    return {n: m for n, m in model.named_modules() if type(m) is Linear and "layers" in n.split(".")}


def quantized_layers(model: nn.Module) -> dict[str, QuantizedLinear]:
    """Every quantized layer by its module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantizedLinear)}


def quantize_weight(model: Transformer, name: str, weight: Tensor, kind: Kind, double: bool = True) -> bool:
    """Puts a weight into its layer in few bits, on the device that the weight is on.

    Args:
        model: its layer's own weight is not looked at, and may be on the meta device.
        name: the weight's name in the model.
        weight: as the checkpoint has it.
        kind: int8, or nf4 for 4 bits.
        double: whether the scales are kept in 8 bits too.

    Returns:
        Whether it was done: what is no linear layer under the blocks is left to the caller.

    Raises:
        ModelError: the weight holds a value that is not finite.
    """
    module, _, leaf = name.rpartition(".")
    layer = model.get_submodule(module) if leaf == "weight" and "layers" in module.split(".") else None
    if type(layer) is not Linear:
        return False
    try:
        replace_layer(model, module, QuantizedLinear(layer, weight, kind, double))
    except ModelError as error:
        raise ModelError(error.message, where=name) from None
    return True


def quantize_model(model: Transformer, kind: Kind, double: bool = True) -> None:
    """Turns the linear layers under the blocks into few bits, one after another."""
    for name, layer in block_linears(model).items():
        quantize_weight(model, f"{name}.weight", layer.weight, kind, double)


def dequantize_model(model: Transformer) -> None:
    """Turns quantized layers into plain ones of the very weights that they compute with, in the model's own dtype.

    An adapter that was trained beside them then merges into what it was trained on.
    """
    for name, layer in quantized_layers(model).items():
        with torch.device("meta"):
            plain = Linear(layer.inputs, layer.segments, bias=False)
        plain.weight = nn.Parameter(layer.dense(model.compute_dtype), requires_grad=False)
        plain.bias = layer.bias
        replace_layer(model, name, plain)


def block_weights(config: ModelConfig) -> int:
    """How many weights the linear layers under the blocks have, biases not counted: what may be quantized."""
    with torch.device("meta"):
        return sum(layer.weight.numel() for layer in block_linears(Transformer(config)).values())


def quantized_bytes(config: ModelConfig, kind: Kind, double: bool = True) -> int:
    """What those weights take in few bits, to the byte."""
    with torch.device("meta"):
        layers = block_linears(Transformer(config))
    total = 0
    for layer in layers.values():
        blocks = -(-layer.weight.numel() // BLOCK)
        total += blocks * (BLOCK // 2 if kind == "nf4" else BLOCK)
        total += blocks + 4 * -(-blocks // GROUP) + 4 if double else 2 * blocks
    return total


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Puts another layer in the place of a module."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


class Stored(NamedTuple):
    """A weight in few bits.

    Attributes:
        codes: [blocks * 64] int8, or for nf4 [blocks * 32] uint8, the earlier value of two in the higher four bits.
        scales: [blocks] bfloat16, or int8 where they are doubled.
        steps: [groups] float32, what the scales of a group are multiples of; empty where not doubled.
        mean: [1] float32, what doubled scales are counted from; empty where not doubled.
        pairs: [256, 2] float32, the values that a byte of nf4 stands for; empty for int8.
    """

    codes: Tensor
    scales: Tensor
    steps: Tensor
    mean: Tensor
    pairs: Tensor

    @property
    def nbytes(self) -> int:
        """What it takes, without ``pairs``, whose 2 KB are the same for every weight."""
        return sum(part.nbytes for part in self[:4])


@functools.cache
def nf4_code() -> tuple[float, ...]:
    """The 16 values of NormalFloat4, rising from -1 to 1 (Dettmers et al. 2023, section 3 and appendix E).

    Quantiles of a normal distribution, on either side of an exact 0 equally far apart in probability: 7 below and 8
    above, the outermost as far inside the tails as half a bin's mean width.
    """
    quantile = statistics.NormalDist().inv_cdf
    outermost = 1 - (1 / 32 + 1 / 30) / 2
    below = [-quantile(outermost + (0.5 - outermost) * step / 7) for step in range(7)]
    above = [quantile(outermost + (0.5 - outermost) * step / 8) for step in range(8)]
    return tuple(value / above[0] for value in (*below, 0.0, *reversed(above)))


@torch.no_grad()
def quantize(weight: Tensor, kind: Kind, double: bool = True) -> Stored:
    """A weight in few bits; no more than a part of it is ever in float32.

    Raises:
        ModelError: a value is not finite.
    """
    flat = weight.detach().reshape(-1)
    if flat.numel() % BLOCK:
        flat = F.pad(flat, (0, -flat.numel() % BLOCK))
    parts = flat.view(-1, BLOCK).split(PART // BLOCK)
    largest = torch.cat([part.abs().amax(1).float() for part in parts])
    if not largest.isfinite().all():
        raise ModelError("a weight is not a finite number, so it cannot be quantized")
    kept = _kept_scales(largest / 127 if kind == "int8" else largest, double)
    code = torch.tensor(nf4_code(), device=weight.device)
    codes = []
    for part, scales in zip(parts, _scales(*kept).float().split(PART // BLOCK), strict=True):
        relative = _over(part.float(), scales)
        if kind == "int8":
            codes.append(relative.round_().clamp_(-127, 127).to(torch.int8).view(-1))
        else:
            codes.append(_nearest(relative, code))
    pairs = torch.cartesian_prod(code, code) if kind == "nf4" else code.new_empty(0)
    return Stored(torch.cat(codes), *kept, pairs)


def _nearest(values: Tensor, code: Tensor) -> Tensor:
    """The nearest values of a rising code, two a byte. Comparing with every middle takes half the time of a search."""
    places = torch.zeros_like(values, dtype=torch.uint8)
    for middle in ((code[1:] + code[:-1]) / 2).tolist():
        places += (values > middle).view(torch.uint8)
    pairs = places.view(-1, 2)
    return pairs[:, 0] << 4 | pairs[:, 1]


def dequantize(stored: Stored, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The weight, wide again: of ``shape`` and ``dtype``.

    On a CPU it is made in parts that stay in a core's cache, of nf4 as many values at a time as eight bytes hold. A
    product with 2,048 tokens takes five times as long where there are matrix instructions, and far longer elsewhere.
    """
    scales = _scales(stored.scales, stored.steps, stored.mean).to(dtype).unsqueeze(1)
    if stored.codes.is_cpu and dtype.itemsize in (2, 4) and not torch.compiler.is_compiling():
        dense = _by_parts(stored.codes, scales)
    else:
        int8 = stored.codes.dtype == torch.int8
        values = stored.codes.to(dtype) if int8 else F.embedding(stored.codes.int(), stored.pairs.to(dtype))
        dense = (values.view(-1, BLOCK) * scales).view(-1)
    return dense[: shape[0] * shape[1]].view(shape)


def _by_parts(codes: Tensor, scales: Tensor) -> Tensor:
    dense = torch.empty(len(scales) * BLOCK, dtype=scales.dtype)
    table = None
    if codes.dtype == torch.uint8:
        table = _words(scales.dtype)
        words, places = dense.view(torch.int64), codes if len(table) == 256 else codes.view(torch.uint16)
    for start in range(0, len(dense), PART):
        part = dense[start : start + PART]
        if table is None:
            part.copy_(codes[start : start + PART])
        else:
            here = slice(start * dense.itemsize // 8, (start + len(part)) * dense.itemsize // 8)
            torch.index_select(table, 0, places[here].to(torch.int32), out=words[here])
        part.view(-1, BLOCK).mul_(scales[start // BLOCK : (start + PART) // BLOCK])
    return dense


@functools.cache
def _words(dtype: torch.dtype) -> Tensor:
    """Eight bytes of values for every run of codes they take: [256] int64 in float32, [65,536] in 16 bits."""
    code = torch.tensor(nf4_code()).to(dtype)
    # As the machine itself reads such a run of bytes as one number.
    runs = torch.arange(256, dtype=torch.uint8) if dtype.itemsize == 4 else torch.arange(1 << 16).to(torch.uint16)
    runs = runs.view(torch.uint8)
    return code[torch.stack((runs >> 4, runs & 15), dim=1).int()].view(-1).view(torch.int64)


def _over(rows: Tensor, scales: Tensor) -> Tensor:
    """Each row over its scale; where that is 0, so is the row."""
    return rows / torch.where(scales > 0, scales, torch.inf).unsqueeze(1)


def _kept_scales(scales: Tensor, double: bool) -> tuple[Tensor, Tensor, Tensor]:
    """scales: [blocks] float32, none negative -> what is kept of them, as in ``Stored``."""
    if not double:
        nothing = scales.new_empty(0)
        return scales.to(torch.bfloat16), nothing, nothing
    # None is negative: only what they differ by from their mean is worth the bits.
    mean = scales.mean(0, keepdim=True)
    groups = F.pad(scales - mean, (0, -len(scales) % GROUP)).view(-1, GROUP)
    steps = groups.abs().amax(1) / 127
    codes = _over(groups, steps).round_().clamp_(-127, 127).to(torch.int8)
    return codes.view(-1)[: len(scales)].contiguous(), steps, mean


def _scales(kept: Tensor, steps: Tensor, mean: Tensor) -> Tensor:
    """What codes are multiplied by: [blocks] bfloat16."""
    if kept.dtype == torch.bfloat16:
        return kept
    groups = F.pad(kept, (0, -len(kept) % GROUP)).view(-1, GROUP)
    return torch.addcmul(mean, groups.float(), steps.unsqueeze(1)).clamp_min(0).view(-1)[: len(kept)].to(torch.bfloat16)
