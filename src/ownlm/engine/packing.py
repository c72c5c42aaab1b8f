"""Weights as the engine's kernels read them: in bfloat16, in 8 bits or in 4 (layouts: kernels/matrix.h, codes.h).

In few bits a value is its code times the scale of its block of 32 inputs; with 4 bits every block has an offset too, as
llama.cpp's Q8_0 and Q4_1 have. What such weights meet is brought to 8 bits in the same way, by the kernels in each pass.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["bf16", "int8", "int4"]
KINDS: tuple[Kind, ...] = ("bf16", "int8", "int4")

PANEL = BLOCK = 32
# Outputs packed at a time, so that a vocabulary's float32 copy is never there as a whole.
PART = 4096


def padded(count: int) -> int:
    """Filled up to whole panels, or blocks."""
    return -(-count // BLOCK) * BLOCK


def interleaved(values: Tensor) -> Tensor:
    """Gates and values by turns, 16 of each, as one panel has them: [2 x inner, ...] -> [2 x padded inner, ...]."""
    gate, value = values.detach().chunk(2)
    more = padded(len(gate)) - len(gate)
    if more:
        gate, value = (torch.cat((x, x.new_zeros(more, *x.shape[1:]))) for x in (gate, value))
    half = BLOCK // 2
    return torch.stack((gate.unflatten(0, (-1, half)), value.unflatten(0, (-1, half))), dim=1).flatten(0, 2)


def pack(weight: Tensor, kind: Kind) -> Tensor:
    """A weight in the kernels' layout: [panels, blocks, bytes of a block] uint8.

    weight: [outputs, inputs] on the CPU, of any floating-point dtype.
    """
    return torch.cat([_packed(part, kind) for part in weight.detach().split(PART)])


def _packed(weight: Tensor, kind: Kind) -> Tensor:
    outputs, inputs = weight.shape
    weight = F.pad(weight, (0, padded(inputs) - inputs, 0, padded(outputs) - outputs))
    # [panels, outputs of a panel, blocks, inputs of a block]
    blocks = weight.unflatten(0, (-1, PANEL)).unflatten(2, (-1, BLOCK))
    if kind == "bf16":
        return _bytes(_side_by_side(blocks.to(torch.bfloat16), 2))
    if kind == "int8":
        codes, scales = quantize_int8(blocks.float())
        # Stored as numbers without a sign, 128 too great.
        stored = _side_by_side(codes, 4).view(torch.uint8) ^ 128
        return torch.cat((stored, _bytes(scales.transpose(1, 2))), dim=-1)
    codes, scales, offsets = quantize_int4(blocks.float())
    fours = _side_by_side(codes, 4).unflatten(-1, (4, 2, -1))
    joined = (fours[..., 0, :] | fours[..., 1, :] << 4).flatten(-2)
    return torch.cat((_bytes(joined), *(_bytes(x.transpose(1, 2)) for x in (scales, offsets))), dim=-1)


def quantize_int8(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """[..., 32] float32 -> codes from -127 to 127, int8, and scales [...] float16."""
    scales = (blocks.abs().amax(-1) / 127).half()
    codes = (blocks / _divisor(scales)).round_().clamp_(-127, 127)
    return codes.to(torch.int8), scales


def quantize_int4(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[..., 32] float32 -> codes from 0 to 15, uint8, scales and offsets [...] float16: scale * (code - 8) + offset.

    The grid spans a block from its least to its greatest value, so that weights which were on such a grid before stay
    what they are.
    """
    least, most = blocks.aminmax(dim=-1)
    scales = ((most - least) / 15).half()
    offsets = (least + 8 * scales.float()).half()
    codes = ((blocks - offsets.float().unsqueeze(-1)) / _divisor(scales)).round_().add_(8).clamp_(0, 15)
    return codes.to(torch.uint8), scales, offsets


def _divisor(scales: Tensor) -> Tensor:
    return torch.where(scales > 0, scales.float(), torch.inf).unsqueeze(-1)


def _side_by_side(blocks: Tensor, count: int) -> Tensor:
    """[panels, 32 outputs, blocks, 32 inputs] -> [panels, blocks, values]: so many inputs of each output by turns."""
    return blocks.unflatten(-1, (-1, count)).permute(0, 2, 3, 1, 4).flatten(2).contiguous()


def _bytes(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.uint8)
