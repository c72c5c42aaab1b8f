"""The kernel of paged_attention.py: each sequence's pages are read once for all the heads that share them.

A program takes one sequence, one head of keys and one part of the tokens that the new token sees; it holds all query heads
that look at this head of keys, goes over its part block by block, and keeps a running maximum, sum and weighted sum (Milakov
and Gimelshein 2018). With few sequences there would be few programs, and most of the device would idle, so their tokens
are shared out to several, and a second kernel joins the parts ("flash decoding", Dao et al. 2023).

How many parts there are depends on the number of rows alone, so that it is the same whenever a recorded pass is replayed;
how long a part is follows on the device from the sequence's length.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .pages import PAGE

# Keys that a program looks at in one go, of heads up to so many bytes; of wider ones half as many. And the most parts
# that a sequence is shared out to.
BLOCK, WIDE_BYTES, MOST_PARTS = 64, 512, 32
# Programs that keep a device busy for each of its multiprocessors; what an unknown device is taken to have of these.
PROGRAMS, MULTIPROCESSORS = 2, 64
# log2(e): exponentials are powers of 2 here.
LOG2E = tl.constexpr(1.4426950408889634)


def by_kernel(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    table: Tensor,
    lengths: Tensor,
    *,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> Tensor:
    """See ``PagedAttention``; sums are in float32."""
    rows, heads, width = q.shape
    kv_heads = len(keys)
    assert q.stride(2) == keys.stride(2) == table.stride(1) == 1 and keys.stride() == values.stride()
    parts = parts_for(rows * kv_heads, len(table) * PAGE, q.device)
    out = torch.empty((rows, heads, width), dtype=q.dtype, device=q.device)
    # A part's weighted sum, divided by its sum, and the logarithm (to the base of 2) of its sum.
    shape = (rows, heads, parts) if parts > 1 else (1, 1, 1)
    sums = torch.empty((*shape, width), dtype=torch.float32, device=q.device)
    logs = torch.empty(shape, dtype=torch.float32, device=q.device)
    padded = max(16, triton.next_power_of_2(width))
    # What lies in the multiprocessor's own memory is a block of keys and one of values, each twice.
    block = BLOCK if padded * keys.dtype.itemsize <= WIDE_BYTES else BLOCK // 2
    _attend[(rows, kv_heads, parts)](
        q,
        keys,
        values,
        table,
        lengths,
        out,
        sums,
        logs,
        width**-0.5 if scale is None else scale,
        softcap or 1.0,
        window or 0,
        *q.stride()[:2],
        *keys.stride()[:2],
        table.stride(0),
        GROUP=heads // kv_heads,
        # A product of matrices has 16 rows at least.
        GROUP_PADDED=max(16, triton.next_power_of_2(heads // kv_heads)),
        WIDTH=width,
        WIDTH_PADDED=padded,
        PARTS=parts,
        PAGE=PAGE,
        BLOCK=block,
        WINDOWED=window is not None,
        CAPPED=softcap is not None,
        num_warps=4,
        num_stages=2,
    )
    if parts > 1:
        _join[(rows, heads)](
            sums, logs, out, PARTS=parts, PARTS_PADDED=triton.next_power_of_2(parts), WIDTH=width, WIDTH_PADDED=padded
        )
    return out


def parts_for(programs: int, room: int, device: torch.device) -> int:
    """To how many each sequence is shared out.

    Args:
        programs: how many there are without sharing.
        room: the most tokens that a sequence can have.
        device: that computes.
    """
    count = MULTIPROCESSORS
    if device.type == "cuda":
        count = torch.cuda.get_device_properties(device).multi_processor_count
    most = max(1, min(MOST_PARTS, PROGRAMS * count // programs, -(-room // BLOCK)))
    # A power of two, so that all numbers of rows share a few kernels.
    return 1 << (most.bit_length() - 1)


@triton.jit
def _attend(
    q_at,
    keys_at,
    values_at,
    table_at,
    lengths_at,
    out_at,
    sums_at,
    logs_at,
    scale,
    softcap,
    window,
    q_row,
    q_head,
    keys_head,
    keys_slot,
    table_page,
    GROUP: tl.constexpr,
    GROUP_PADDED: tl.constexpr,
    WIDTH: tl.constexpr,
    WIDTH_PADDED: tl.constexpr,
    PARTS: tl.constexpr,
    PAGE: tl.constexpr,
    BLOCK: tl.constexpr,
    WINDOWED: tl.constexpr,
    CAPPED: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    length = tl.load(lengths_at + row).to(tl.int32)
    start, end = _share(length, window, part, PARTS, BLOCK, WINDOWED)
    member = tl.arange(0, GROUP_PADDED)
    column = tl.arange(0, WIDTH_PADDED)
    inside = column < WIDTH
    ours = (member < GROUP)[:, None] & inside[None, :]
    head = kv_head * GROUP + member
    q = tl.load(q_at + row * q_row + head[:, None] * q_head + column[None, :], mask=ours, other=0.0)
    keys_at += kv_head * keys_head
    values_at += kv_head * keys_head

    most = tl.full([GROUP_PADDED], float("-inf"), tl.float32)
    total = tl.zeros([GROUP_PADDED], tl.float32)
    out = tl.zeros([GROUP_PADDED, WIDTH_PADDED], tl.float32)
    for at in range(start, end, BLOCK):
        place = at + tl.arange(0, BLOCK)
        seen = place < end
        page = tl.load(table_at + (place // PAGE).to(tl.int64) * table_page + row, mask=seen, other=0).to(tl.int64)
        where = (page * PAGE + place % PAGE)[:, None] * keys_slot + column[None, :]
        there = seen[:, None] & inside[None, :]
        key = tl.load(keys_at + where, mask=there, other=0.0)
        scores = _scores(q, key, seen, scale, softcap, CAPPED)
        # Every block of the loop has a key that is seen, so this is a number.
        above = tl.maximum(most, tl.max(scores, 1))
        weights = tl.exp2(scores - above[:, None])
        kept = tl.exp2(most - above)
        value = tl.load(values_at + where, mask=there, other=0.0)
        total = total * kept + tl.sum(weights, 1)
        out = out * kept[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        most = above
    # Without a key there is nothing to divide, and the sum is 0.
    out = out / tl.where(total > 0, total, 1.0)[:, None]
    if PARTS == 1:
        place_of = out_at + (row * tl.num_programs(1) * GROUP + head[:, None]) * WIDTH + column[None, :]
        tl.store(place_of, out.to(out_at.dtype.element_ty), mask=ours)
    else:
        place_of = (row * tl.num_programs(1) * GROUP + head) * PARTS + part
        tl.store(sums_at + place_of[:, None] * WIDTH + column[None, :], out, mask=ours)
        tl.store(logs_at + place_of, most + tl.log2(total), mask=member < GROUP)


@triton.jit
def _share(length, window, part, PARTS: tl.constexpr, BLOCK: tl.constexpr, WINDOWED: tl.constexpr):
    first = 0
    if WINDOWED:
        first = tl.maximum(length - window, 0)
    # Parts are whole blocks, so the last ones of a short sequence are empty.
    share = tl.cdiv(tl.cdiv(length - first, BLOCK), PARTS) * BLOCK
    start = first + part * share
    return start, tl.minimum(start + share, length)


@triton.jit
def _scores(q, key, seen, scale, softcap, CAPPED: tl.constexpr):
    # [GROUP, BLOCK], to the base of 2
    scores = tl.dot(q, tl.trans(key), input_precision="ieee") * scale
    if CAPPED:
        # tanh(x) = 2 sigmoid(2 x) - 1
        scores = softcap * (2.0 * tl.sigmoid(2.0 * scores / softcap) - 1.0)
    return tl.where(seen[None, :], scores * LOG2E, float("-inf"))


@triton.jit
def _join(
    sums_at,
    logs_at,
    out_at,
    PARTS: tl.constexpr,
    PARTS_PADDED: tl.constexpr,
    WIDTH: tl.constexpr,
    WIDTH_PADDED: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    part = tl.arange(0, PARTS_PADDED)
    column = tl.arange(0, WIDTH_PADDED)
    inside = column < WIDTH
    logs = tl.load(logs_at + place * PARTS + part, mask=part < PARTS, other=float("-inf"))
    most = tl.max(logs, 0)
    # Nobody's row has no part with a key.
    weights = tl.exp2(logs - tl.where(most == float("-inf"), 0.0, most))
    there = (part < PARTS)[:, None] & inside[None, :]
    sums = tl.load(sums_at + (place * PARTS + part)[:, None] * WIDTH + column[None, :], mask=there, other=0.0)
    total = tl.sum(weights, 0)
    out = tl.sum(sums * weights[:, None], 0) / tl.where(total > 0, total, 1.0)
    tl.store(out_at + place * WIDTH + column, out.to(out_at.dtype.element_ty), mask=inside)
