"""Packed attention against attention written out one query at a time, on every route it can take."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ownlm.model.packed import Packed, rounded_rows


def written_out(q: Tensor, k: Tensor, v: Tensor, starts: list[int], window: int | None) -> Tensor:
    """Each query of each head over the keys it may see; float64."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(q)
    group = q.shape[1] // k.shape[1]
    for start, end in pairwise(starts):
        for i in range(start, end):
            first = start if window is None else max(start, i + 1 - window)
            for head in range(q.shape[1]):
                scores = k[first : i + 1, head // group] @ q[i, head] / math.sqrt(q.shape[2])
                out[i, head] = scores.softmax(0) @ v[first : i + 1, head // group]
    return out


def drawn(rows: int, heads: int, kv_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return tuple(torch.randn(rows, n, 8, generator=generator) for n in (heads, kv_heads, kv_heads))  # type: ignore[return-value]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=5),
    extra=st.integers(0, 9),
    window=st.none() | st.integers(1, 80),
    group=st.sampled_from([1, 2]),
)
def test_every_packing_is_what_is_written_out(lengths: list[int], extra: int, window: int | None, group: int) -> None:
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    q, k, v = drawn(starts[-1] + extra, 2 * group, 2)
    out = Packed(starts, len(q)).attend(0, q, k, v, window)
    expected = written_out(q, k, v, starts, window)
    assert torch.allclose(out.double(), expected, atol=1e-5)
    assert not out[starts[-1] :].any()


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("extra", [0, 4])
def test_the_variable_length_kernel_is_asked_for_the_same(
    window: int | None, extra: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CUDA runs, with a stand-in that does what the framework's documentation says of its arguments."""

    def stand_in(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        window_size: tuple[int, int],
    ) -> Tensor:
        assert cu_seq_q.dtype == torch.int32 and cu_seq_q.tolist() == cu_seq_k.tolist()
        assert max_q == max_k == int(cu_seq_q.diff().max())
        left, right = window_size
        assert right == 0
        return written_out(q, k, v, cu_seq_q.tolist(), None if left < 0 else left + 1).float()

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", stand_in)
    starts = [0, 5, 6, 17]
    q, k, v = drawn(17 + extra, 4, 2)
    out: Any = Packed(starts, len(q))._variable_length(q, k, v, window)
    assert torch.allclose(out.double(), written_out(q, k, v, starts, window), atol=1e-5)


def test_rows_are_rounded_on_a_cpu_alone() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [rounded_rows(n, cpu) for n in (0, 1, 64, 65, 512, 513, 2048)] == [0, 64, 64, 128, 512, 768, 2048]
    assert rounded_rows(513, cuda) == 513
