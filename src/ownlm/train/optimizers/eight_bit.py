"""Numbers in eight bits, a scale for each block of at most 256 of one row (Dettmers et al. 2022).

The code's values are fourth powers: code q stands for ``scale * (q / top)**4``, with the block's largest number at
``top``. So a number x has an error of at most about ``2 / top * x**0.75`` (both as shares of the largest): 2% at the
top, and still 9% (signed) or 4% (unsigned) a thousand times below it. The paper's own dynamic code rounds a second
moment to zero where a block spans four decades or more, and its update is then divided by nothing; it also needs a
search for every number, where two square roots do here.

| code | dtype | top | values |
|---|---|---|---|
| signed | int8 | 127 | -1 to 1, and 0 |
| unsigned | uint8 | 255 | above 0 to 1: no 0, since the update is divided by it |

A block never crosses rows, so a tensor that is spread over workers by rows has the same blocks everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from ..sharding import own_part

LARGEST_BLOCK = 256

# Below it the scales begin to cost what the codes save.
SMALLEST_BLOCK = 64

# Numbers worked on at once. On a CPU the few temporaries then stay in a core's second-level cache; on a GPU they are
# 64 MiB each, and few enough launches.
CPU_CHUNK = 1 << 16
GPU_CHUNK = 1 << 24


def block_length(x: Tensor) -> int | None:
    """The numbers in a block of x: the largest divisor of its row length up to 256, or None if that is below 64."""
    row = x.shape[-1] if x.ndim > 1 else 0
    divisors = (length for length in range(min(row, LARGEST_BLOCK), SMALLEST_BLOCK - 1, -1) if row % length == 0)
    return next(divisors, None)


def new_codes(x: Tensor, signed: bool) -> tuple[Tensor, Tensor]:
    """Codes and scales of as many zeros as x has: x's shape in int8 or uint8, and [rows, blocks of a row] float32."""
    length = block_length(x)
    assert length is not None and x.ndim == 2
    codes = _zeros(x, x.shape[1], torch.int8 if signed else torch.uint8)
    return codes, _zeros(x, x.shape[1] // length, torch.float32)


def quantise(x: Tensor, codes: Tensor, scale: Tensor) -> None:
    """Stores x: [blocks, length] float32, at least 0 where the codes are unsigned; scale: [blocks, 1]."""
    signed = codes.dtype == torch.int8
    top = 127 if signed else 255
    share = x.abs() if signed else x.clone()
    torch.amax(share, dim=-1, keepdim=True, out=scale)
    # Below 1e-28 the factor would overflow; what is smaller is rounded to 0 (unsigned: to the least value).
    share.mul_(top**4 / scale.clamp(min=1e-28)).sqrt_().sqrt_().round_()
    codes.copy_(share.copysign_(x) if signed else share.clamp_(min=1))


def dequantised(codes: Tensor, scale: Tensor) -> Tensor:
    """What the codes stand for: [blocks, length] float32."""
    x = codes.float()
    if codes.dtype == torch.int8:
        return (x * x).square_().copysign_(x).mul_(scale / 127**4)
    return x.square_().square_().mul_(scale / 255**4)


def chunks(scale: Tensor, *tensors: Tensor) -> Iterator[list[Tensor]]:
    """The same few blocks of every tensor at a time, as views: scale and its like [blocks, 1], the rest [blocks, length].

    Of tensors that are spread over workers, what this worker holds.
    """
    blocks = own_part(scale).numel()
    flat = [own_part(tensor).view(blocks, -1) for tensor in (scale, *tensors)] if blocks else []
    length = max((tensor.shape[1] for tensor in flat), default=1)
    chunk = max(1, (CPU_CHUNK if scale.device.type == "cpu" else GPU_CHUNK) // length)
    for begin in range(0, blocks, chunk):
        yield [tensor[begin : begin + chunk] for tensor in flat]


def _zeros(x: Tensor, columns: int, dtype: torch.dtype) -> Tensor:
    """[rows of x, columns], spread over workers as x is."""
    own = torch.zeros(len(own_part(x)), columns, dtype=dtype, device=x.device)
    if not isinstance(x, DTensor):
        return own
    return DTensor.from_local(
        own, x.device_mesh, x.placements, shape=torch.Size((len(x), columns)), stride=(columns, 1)
    )
