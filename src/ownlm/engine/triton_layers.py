"""What stands between a block's products, each as one kernel: the framework launches five to ten for each of these.

With few sequences a step is short, and most of it would be kernels that do almost nothing. Each computes in float32 what
model/layers.py, feedforward.py and embedding.py compute, and rounds to the stream's dtype once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Values of an activation that one program makes.
CHUNK = 1024
KINDS = ("silu", "gelu", "gelu_tanh", "relu")


def rms_norm(x: Tensor, weight: Tensor, eps: float, unit_offset: bool) -> Tensor:
    """Root mean square norm: [..., width], [width] -> [..., width]; ``unit_offset`` multiplies by 1 + weight."""
    rows = x.reshape(-1, x.shape[-1])
    rows = rows if rows.stride(1) == 1 else rows.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _norm_rows(rows, None, weight, None, out, eps, unit_offset)
    return out


def rms_norm_of_sum(x: Tensor, y: Tensor, weight: Tensor, eps: float, unit_offset: bool) -> tuple[Tensor, Tensor]:
    """The norm of x + y, and x + y: [tokens, width] each, whose rows lie side by side."""
    assert x.is_contiguous() and y.is_contiguous()
    out, both = torch.empty_like(x), torch.empty_like(x)
    _norm_rows(x, y, weight, both, out, eps, unit_offset)
    return out, both


def _norm_rows(
    rows: Tensor, more: Tensor | None, weight: Tensor, both: Tensor | None, out: Tensor, eps: float, unit_offset: bool
) -> None:
    count, width = rows.shape
    block = triton.next_power_of_2(width)
    adds = more is not None
    if count:
        _rms_norm[(count,)](
            rows,
            more if adds else rows,
            weight,
            both if adds else out,
            out,
            rows.stride(0),
            eps,
            WIDTH=width,
            BLOCK=block,
            UNIT_OFFSET=unit_offset,
            ADDS=adds,
            num_warps=8 if block > 2048 else 4,
        )


def gated(inner: Tensor, kind: str) -> Tensor:
    """activation(gate) * value: [tokens, gate and value], whose rows lie side by side -> [tokens, half of that]."""
    rows, width = inner.shape[0], inner.shape[1] // 2
    out = torch.empty((rows, width), dtype=inner.dtype, device=inner.device)
    if rows:
        assert inner.is_contiguous()
        _gated[(rows, triton.cdiv(width, CHUNK))](inner, out, KIND=KINDS.index(kind), WIDTH=width, CHUNK=CHUNK)
    return out


def turn_and_keep(
    qkv: Tensor, rotary: tuple[Tensor, Tensor] | None, keys: Tensor, values: Tensor, slots: Tensor, width: int
) -> Tensor:
    """Turns queries and keys, and puts keys and values where they are kept.

    Args:
        qkv: all queries, keys and values of a token side by side: [tokens, (heads + 2 kv_heads) * width].
        rotary: cosine and sine of every token's angles, as ``rotary_tables`` makes them; None turns nothing.
        keys: of one layer: [kv_heads, slots, width].
        values: alike.
        slots: where each token's go: [tokens].
        width: of a head.

    Returns:
        The queries: [tokens, heads, width].
    """
    tokens, kv_heads = len(qkv), len(keys)
    heads = qkv.shape[1] // width - 2 * kv_heads
    q = torch.empty((tokens, heads, width), dtype=qkv.dtype, device=qkv.device)
    assert qkv.is_contiguous() and keys.stride() == values.stride() and keys.stride(2) == 1
    half = 0 if rotary is None else rotary[0].shape[-1]
    # Without rotary nothing is read from them.
    cos, sin = (qkv, qkv) if rotary is None else (x.contiguous() for x in rotary)
    _turn_and_keep[(tokens, heads + 2 * kv_heads)](
        qkv,
        cos,
        sin,
        q,
        keys,
        values,
        slots,
        *keys.stride()[:2],
        HEADS=heads,
        KV_HEADS=kv_heads,
        WIDTH=width,
        HALF=half,
        HALF_PADDED=triton.next_power_of_2(max(half, 1)),
        REST=width - 2 * half,
        REST_PADDED=triton.next_power_of_2(max(width - 2 * half, 1)),
        WHOLE_PADDED=triton.next_power_of_2(width),
        num_warps=1,
    )
    return q


@triton.jit
def _rms_norm(
    x_at,
    more_at,
    weight_at,
    both_at,
    out_at,
    x_row,
    eps,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    UNIT_OFFSET: tl.constexpr,
    ADDS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    x = tl.load(x_at + row * x_row + column, mask=inside, other=0.0).to(tl.float32)
    if ADDS:
        more = tl.load(more_at + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
        both = (x + more).to(both_at.dtype.element_ty)
        tl.store(both_at + row * WIDTH + column, both, mask=inside)
        # What is normed is the sum as it goes on from here.
        x = both.to(tl.float32)
    weight = tl.load(weight_at + column, mask=inside, other=0.0).to(tl.float32)
    normed = x / tl.sqrt(tl.sum(x * x, 0) / WIDTH + eps)
    if UNIT_OFFSET:
        normed = normed * (1.0 + weight)
    else:
        # Rounded before it is multiplied, as the references do.
        normed = normed.to(out_at.dtype.element_ty).to(tl.float32) * weight
    tl.store(out_at + row * WIDTH + column, normed.to(out_at.dtype.element_ty), mask=inside)


@triton.jit
def _gated(inner_at, out_at, KIND: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * CHUNK + tl.arange(0, CHUNK)
    inside = column < WIDTH
    gate = tl.load(inner_at + row * 2 * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    value = tl.load(inner_at + (row * 2 + 1) * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    if KIND == 0:
        gate = gate * tl.sigmoid(gate)
    elif KIND == 1:
        gate = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    elif KIND == 2:
        # 0.5 (1 + tanh(x)) = sigmoid(2 x)
        gate = gate * tl.sigmoid(1.5957691216057308 * (gate + 0.044715 * gate * gate * gate))
    else:
        gate = tl.maximum(gate, 0.0)
    tl.store(out_at + row * WIDTH + column, (gate * value).to(out_at.dtype.element_ty), mask=inside)


@triton.jit
def _turn_and_keep(
    qkv_at,
    cos_at,
    sin_at,
    q_at,
    keys_at,
    values_at,
    slots_at,
    keys_head,
    keys_slot,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    HALF: tl.constexpr,
    HALF_PADDED: tl.constexpr,
    REST: tl.constexpr,
    REST_PADDED: tl.constexpr,
    WHOLE_PADDED: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    slot = tl.load(slots_at + token).to(tl.int64)
    source = qkv_at + (token * (HEADS + 2 * KV_HEADS) + head) * WIDTH
    if head >= HEADS + KV_HEADS:
        column = tl.arange(0, WHOLE_PADDED)
        target = values_at + (head - HEADS - KV_HEADS) * keys_head + slot * keys_slot
        value = tl.load(source + column, mask=column < WIDTH, other=0.0)
        tl.store(target + column, value, mask=column < WIDTH)
    else:
        if head < HEADS:
            target = q_at + (token * HEADS + head) * WIDTH
        else:
            target = keys_at + (head - HEADS) * keys_head + slot * keys_slot
        if HALF > 0:
            pair = tl.arange(0, HALF_PADDED)
            turns = pair < HALF
            cos = tl.load(cos_at + token * HALF + pair, mask=turns, other=0.0).to(tl.float32)
            sin = tl.load(sin_at + token * HALF + pair, mask=turns, other=0.0).to(tl.float32)
            first = tl.load(source + pair, mask=turns, other=0.0).to(tl.float32)
            second = tl.load(source + HALF + pair, mask=turns, other=0.0).to(tl.float32)
            tl.store(target + pair, (first * cos - second * sin).to(q_at.dtype.element_ty), mask=turns)
            tl.store(target + HALF + pair, (second * cos + first * sin).to(q_at.dtype.element_ty), mask=turns)
        if REST > 0:
            column = 2 * HALF + tl.arange(0, REST_PADDED)
            rest = tl.load(source + column, mask=column < WIDTH, other=0.0)
            tl.store(target + column, rest, mask=column < WIDTH)
