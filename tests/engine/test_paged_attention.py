"""Attention over pages: the framework's against one written out, and the kernel's, interpreted, against the framework's.

Triton's interpreter is chosen before Triton is imported, so the kernel is run by a process of its own: this file.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from ownlm.engine.paged_attention import PagedAttention, by_framework, kernel_for
from ownlm.engine.pages import PAGE

LENGTHS = (1, 0, 32, 33, 150, 5)
# Heads, heads of keys, width; then a window, a softcap, a scale.
SHAPES = [(1, 1, 8), (6, 2, 64), (2, 2, 80), (8, 1, 128), (20, 1, 16)]
KINDS: list[dict[str, Any]] = [{}, {"window": 40}, {"softcap": 1.5}, {"window": 7, "softcap": 2.0, "scale": 0.3}]


def case(
    shape: tuple[int, int, int], dtype: torch.dtype, lengths: tuple[int, ...] = LENGTHS, seed: int = 0
) -> tuple[torch.Tensor, ...]:
    """q, keys, values, table, lengths; pages lie anywhere, and what nobody wrote is no number."""
    heads, kv_heads, width = shape
    random = torch.Generator().manual_seed(seed)
    most = max(-(-length // PAGE) for length in lengths)
    pages = 1 + sum(-(-length // PAGE) for length in lengths)
    free = (1 + torch.randperm(pages - 1, generator=random)).tolist()
    table = torch.zeros(most + 1, len(lengths), dtype=torch.int64)
    keys, values = (torch.full((kv_heads, pages * PAGE, width), float("nan"), dtype=dtype) for _ in range(2))
    for row, length in enumerate(lengths):
        for place in range(-(-length // PAGE)):
            table[place, row] = free.pop()
        for place in range(length):
            slot = int(table[place // PAGE, row]) * PAGE + place % PAGE
            for x in (keys, values):
                x[:, slot] = torch.randn(kv_heads, width, generator=random).to(dtype)
    q = 2 * torch.randn(len(lengths), heads, width, generator=random)
    return q.to(dtype), keys, values, table, torch.tensor(lengths)


def written_out(
    q: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """One head of one sequence after the other, in float64."""
    out = torch.zeros(q.shape, dtype=torch.float64)
    group = q.shape[1] // len(keys)
    for row, head in itertools.product(range(len(q)), range(q.shape[1])):
        length = int(lengths[row])
        seen = range(max(0, length - window) if window else 0, length)
        slots = [int(table[place // PAGE, row]) * PAGE + place % PAGE for place in seen]
        if slots:
            own_keys, own_values = (x[head // group, slots].double() for x in (keys, values))
            scores = own_keys @ q[row, head].double() * (scale or 1 / math.sqrt(q.shape[2]))
            if softcap:
                scores = softcap * torch.tanh(scores / softcap)
            out[row, head] = scores.softmax(0) @ own_values
    return out


def check(attention: PagedAttention, dtype: torch.dtype, tolerance: float, device: str = "cpu") -> None:
    for seed, (shape, kind) in enumerate(itertools.product(SHAPES, KINDS)):
        inputs = case(shape, dtype, seed=seed)
        ours = attention(*(x.to(device) for x in inputs), **kind)
        assert ours.dtype == dtype and ours.shape == inputs[0].shape
        torch.testing.assert_close(ours.cpu().double(), written_out(*inputs, **kind), atol=tolerance, rtol=tolerance)


def test_the_frameworks_is_what_is_written_out() -> None:
    check(by_framework, torch.float32, 1e-5)
    check(by_framework, torch.bfloat16, 1e-2)


def test_a_cpu_has_no_kernel() -> None:
    assert kernel_for(torch.device("cpu")) is None


# The interpreter multiplies no bfloat16.
@pytest.mark.parametrize(("dtype", "parts"), [("float32", 1), ("float32", 4), ("float16", 2)])
def test_the_kernel_is_what_is_written_out(interpreted: Callable[..., None], dtype: str, parts: int) -> None:
    interpreted(__file__, dtype, str(parts))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_kernel_on_a_gpu_is_what_is_written_out() -> None:
    attention = kernel_for(torch.device("cuda"))
    assert attention is not None
    check(attention, torch.float32, 1e-5, "cuda")
    check(attention, torch.bfloat16, 1e-2, "cuda")


def test_few_rows_are_shared_out_to_more_programs() -> None:
    pytest.importorskip("triton")
    from ownlm.engine.triton_attention import MULTIPROCESSORS, parts_for

    device = torch.device("cpu")
    assert [parts_for(rows * 8, 1 << 20, device) for rows in (1, 2, 4, 8, 16, 256)] == [16, 8, 4, 2, 1, 1]
    # No more than a sequence can have blocks.
    assert parts_for(1, 100, device) == 2
    assert parts_for(1, 1 << 20, device) == 32 <= 2 * MULTIPROCESSORS


if __name__ == "__main__":
    from ownlm.engine import triton_attention

    kind, count = sys.argv[1:]
    triton_attention.parts_for = lambda *_: int(count)
    check(triton_attention.by_kernel, getattr(torch, kind), 1e-5 if kind == "float32" else 2e-3)
