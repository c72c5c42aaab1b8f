"""Packed attention against attention written out one query at a time, on every route it can take."""

from __future__ import annotations

import math
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ownlm.model.packed import Cross, Packed, rounded_rows


def written_out(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    starts: list[int],
    window: int | None,
    *,
    key_starts: list[int] | None = None,
    causal: bool = True,
    softcap: float | None = None,
    scale: float | None = None,
) -> Tensor:
    """Each query of each head over the keys it may see; float64."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(q)
    group = q.shape[1] // k.shape[1]
    for (start, end), (key_start, key_end) in zip(pairwise(starts), pairwise(key_starts or starts), strict=True):
        for i in range(end - start):
            seen = [
                key_start + j
                for j in range(key_end - key_start)
                if (not causal or j <= i) and (window is None or abs(i - j) < window)
            ]
            for head in range(q.shape[1]):
                scores = k[seen, head // group] @ q[start + i, head] * (scale or 1 / math.sqrt(q.shape[2]))
                if softcap is not None:
                    scores = softcap * (scores / softcap).tanh()
                out[start + i, head] = scores.softmax(0) @ v[seen, head // group]
    return out


def drawn(rows: int, heads: int, kv_heads: int, keys: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    shapes = ((rows, heads), (keys or rows, kv_heads), (keys or rows, kv_heads))
    return tuple(torch.randn(*shape, 8, generator=generator) for shape in shapes)  # type: ignore[return-value]


def started(lengths: list[int]) -> list[int]:
    return list(accumulate(lengths, initial=0))


LENGTHS = st.lists(st.integers(1, 70), min_size=1, max_size=5)
OPTIONS = st.fixed_dictionaries({"softcap": st.sampled_from([None, 2.0]), "scale": st.sampled_from([None, 0.7])})


@settings(max_examples=60, deadline=None)
@given(
    lengths=LENGTHS,
    extra=st.integers(0, 9),
    window=st.none() | st.integers(1, 80),
    group=st.sampled_from([1, 2]),
    causal=st.booleans(),
    options=OPTIONS,
)
def test_every_packing_is_what_is_written_out(
    lengths: list[int], extra: int, window: int | None, group: int, causal: bool, options: dict[str, float | None]
) -> None:
    starts = started(lengths)
    q, k, v = drawn(starts[-1] + extra, 2 * group, 2)
    out = Packed(starts, len(q), causal=causal).attend(0, q, k, v, window, **options)
    expected = written_out(q, k, v, starts, window, causal=causal, **options)
    assert torch.allclose(out.double(), expected, atol=1e-5)
    assert not out[starts[-1] :].any()


@settings(max_examples=30, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 70), st.integers(1, 70)), min_size=1, max_size=4),
    extra=st.integers(0, 9),
    options=OPTIONS,
)
def test_a_target_sees_the_whole_of_its_own_source(
    pairs: list[tuple[int, int]], extra: int, options: dict[str, float | None]
) -> None:
    starts, key_starts = (started(list(lengths)) for lengths in zip(*pairs, strict=True))
    q, k, v = drawn(starts[-1] + extra, 4, 2, key_starts[-1] + 3)
    out = Cross(starts, key_starts).attend(0, q, k, v, None, **options)
    expected = written_out(q, k, v, starts, None, key_starts=key_starts, causal=False, **options)
    assert out.shape == q.shape
    assert torch.allclose(out.double(), expected, atol=1e-5)


def written_gradients(q: Tensor, k: Tensor, v: Tensor, above: Tensor, *arguments: Any, **options: Any) -> list[Tensor]:
    leaves = [x.detach().double().requires_grad_() for x in (q, k, v)]
    out = written_out(*leaves, *arguments, **options)
    return list(torch.autograd.grad(out, leaves, above.double()))


@pytest.mark.parametrize("route", ["matrix unit", "no matrix unit"], indirect=True)
@pytest.mark.usefixtures("route")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(st.integers(0, 150), st.integers(1, 150)), min_size=1, max_size=4),
    alike=st.booleans(),
    extra=st.integers(0, 40),
    window=st.none() | st.integers(1, 160),
    causal=st.booleans(),
    width=st.sampled_from([8, 20, 64, 80]),
    options=OPTIONS,
)
def test_the_kernel_is_plain_torch_within_bfloat16(
    pairs: list[tuple[int, int]],
    alike: bool,
    extra: int,
    window: int | None,
    causal: bool,
    width: int,
    options: dict[str, float | None],
) -> None:
    """Outputs and gradients of lengths that fill no tile; the plain route is held to what is written out above."""
    if alike:
        pairs = [(length, length) for _, length in pairs]
    starts, key_starts = (started(list(lengths)) for lengths in zip(*pairs, strict=True))
    context = Packed(starts, causal=causal) if alike else Cross(starts, key_starts)
    window = window if alike else None
    assume(starts[-1])
    generator = torch.Generator().manual_seed(starts[-1])
    shapes = ((starts[-1] + extra, 4), (key_starts[-1] + extra, 2), (key_starts[-1] + extra, 2))
    inputs = [torch.randn(*shape, width, generator=generator).bfloat16() for shape in shapes]
    above = torch.randn(*shapes[0], width, generator=generator).bfloat16()
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        leaves = [x.to(dtype).requires_grad_() for x in inputs]
        out = context.attend(0, *leaves, window, **options)
        results.append([out.detach(), *torch.autograd.grad(out, leaves, above.to(dtype))])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.float() - expected).norm() <= 2e-2 * expected.norm() + 1e-2


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [[64, 64], [7, 70, 1, 13]], ids=["one length", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_those_of_what_is_written_out(
    dtype: torch.dtype, lengths: list[int], causal: bool, window: int | None, softcap: float | None
) -> None:
    starts = started(lengths)
    q, k, v = (x.to(dtype).requires_grad_() for x in drawn(starts[-1], 4, 2))
    above = torch.randn(q.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    Packed(starts, causal=causal).attend(0, q, k, v, window, softcap=softcap).backward(above)
    expected = written_gradients(q, k, v, above, starts, window, causal=causal, softcap=softcap)
    # bfloat16 keeps 8 bits of each probability, score and result.
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for x, wanted in zip((q, k, v), expected, strict=True):
        assert x.grad is not None and x.grad.dtype == dtype
        assert (x.grad.double() - wanted).norm() <= tolerance * wanted.norm()


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("causal", [True, False])
def test_no_document_shows_in_anothers_outputs_or_gradients(causal: bool, dtype: torch.dtype) -> None:
    """Bit for bit, whatever stands in the other one, and however often it is computed."""
    starts = started([7, 70, 66, 1, 13])
    results = []
    for change in (0.0, 0.0, 100.0):
        leaves = [x.to(dtype) for x in drawn(starts[-1] + 3, 4, 2)]
        for x in leaves:
            x[starts[1] : starts[2]] += change
            x.requires_grad_()
        out = Packed(starts, len(leaves[0]), causal=causal).attend(0, *leaves, None)
        out.backward(torch.ones_like(out))
        others = torch.ones(len(out), dtype=torch.bool)
        others[starts[1] : starts[2]] = False
        results.append([out.detach()[others], *(x.grad[others] for x in leaves if x.grad is not None)])
    for first, second, third in zip(*results, strict=True):
        assert torch.equal(first, second) and torch.equal(first, third)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("extra", [0, 4])
def test_the_variable_length_kernel_is_asked_for_the_same(
    extra: int, window: int | None, scale: float | None, causal: bool, monkeypatch: pytest.MonkeyPatch
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
        scale: float | None,
    ) -> Tensor:
        assert cu_seq_q.dtype == torch.int32 and cu_seq_q.tolist() == cu_seq_k.tolist()
        assert max_q == max_k == int(cu_seq_q.diff().max())
        left, right = window_size
        assert right in (0, left)
        seen = None if left < 0 else left + 1
        return written_out(q, k, v, cu_seq_q.tolist(), seen, causal=right == 0, scale=scale).float()

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", stand_in)
    starts = [0, 5, 6, 17]
    q, k, v = drawn(17 + extra, 4, 2)
    out: Any = Packed(starts, len(q), causal=causal)._variable_length(q, k, v, window, scale)
    expected = written_out(q, k, v, starts, window, causal=causal, scale=scale)
    assert torch.allclose(out.double(), expected, atol=1e-5)


def test_rows_are_rounded_on_a_cpu_alone() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert [rounded_rows(n, cpu) for n in (0, 1, 64, 65, 512, 513, 2048)] == [0, 64, 64, 128, 512, 768, 2048]
    assert rounded_rows(513, cuda) == 513
