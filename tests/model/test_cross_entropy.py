"""The chunked cross-entropy against the framework's own, and what it never holds."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.model import cross_entropy
from ownlm.model.cross_entropy import chosen_rows, linear_cross_entropy, token_losses

TOKENS, WIDTH, VOCAB = 37, 16, 101

WEIGHTS = {
    "all one": torch.ones(TOKENS),
    "some zero": torch.tensor([float(i % 3 > 0) for i in range(TOKENS)]),
    "neither 0 nor 1": torch.tensor([(i % 5) * 0.37 for i in range(TOKENS)]),
    "one alone": torch.tensor([float(i == 20) for i in range(TOKENS)]),
    "a share of a large batch": torch.full((TOKENS,), 1 / 65536),
    "negative, as a preference's rejected answer": torch.tensor([(-1.0) ** i for i in range(TOKENS)]),
}


class Result(NamedTuple):
    loss: Tensor
    hidden: Tensor
    weight: Tensor | None


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator)
    weight = torch.randn(VOCAB, WIDTH, generator=generator)
    targets = torch.randint(VOCAB, (TOKENS,), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.requires_grad_(), targets


def ours(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, scale: float = 1.0) -> Result:
    *chosen, count = chosen_rows(hidden, targets, weights)
    assert count == int((weights != 0).sum())
    loss = linear_cross_entropy(chosen[0], weight, *chosen[1:])
    (loss * scale).backward()
    assert hidden.grad is not None
    return Result(loss.detach(), hidden.grad, weight.grad)


def reference(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, scale: float = 1.0) -> Result:
    """All logits at once, in float64, by autograd."""
    hidden, weight = (x.detach().double().requires_grad_() for x in (hidden, weight))
    losses = F.cross_entropy(hidden @ weight.t(), targets, reduction="none")
    loss = (losses * weights.double()).sum()
    (loss * scale).backward()
    assert hidden.grad is not None and weight.grad is not None
    return Result(loss.detach(), hidden.grad, weight.grad)


def close(found: Result, expected: Result, tolerance: float) -> None:
    """Each within ``tolerance`` of the largest value of the expected."""
    for name in Result._fields:
        a, b = getattr(found, name), getattr(expected, name)
        if a is not None:
            assert (a.double() - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-12), name


@pytest.fixture(params=["one chunk", "chunks of a few rows", "chunks and blocks of one row"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "few" in request.param:
        monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 5 * 4 * VOCAB)
        monkeypatch.setattr(cross_entropy, "BLOCK_BYTES", 2 * 4 * VOCAB)
    elif "one row" in request.param:
        monkeypatch.setattr(cross_entropy, "CHUNK_BYTES", 1)
        monkeypatch.setattr(cross_entropy, "BLOCK_BYTES", 1)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_loss_and_gradients_are_those_of_cross_entropy(weights: Tensor) -> None:
    close(ours(*inputs(), weights), reference(*inputs(), weights), 2e-6)


def head_options() -> list[tuple[bool, float, float | None]]:
    return list(itertools.product((False, True), (0.0, 0.1), (None, 5.0)))


@pytest.mark.usefixtures("route", "chunks")
@pytest.mark.parametrize(("with_bias", "smoothing", "softcap"), head_options())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bias_smoothing_and_softcap_are_the_frameworks(
    dtype: torch.dtype, with_bias: bool, smoothing: float, softcap: float | None
) -> None:
    against_the_framework(dtype, with_bias, smoothing, softcap, compiled=False)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize(("with_bias", "smoothing", "softcap"), head_options())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_compiled_is_the_same_expression(
    dtype: torch.dtype, with_bias: bool, smoothing: float, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "_compiled", lambda: cross_entropy._whole_gradient)
    against_the_framework(dtype, with_bias, smoothing, softcap, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_for_this_machine(dtype: torch.dtype) -> None:
    for options in head_options():
        against_the_framework(dtype, *options, compiled=True)


def against_the_framework(
    dtype: torch.dtype, with_bias: bool, smoothing: float, softcap: float | None, *, compiled: bool
) -> None:
    hidden, weight, targets = inputs(dtype)
    weights = WEIGHTS["neither 0 nor 1"]
    bias = torch.randn(VOCAB, generator=torch.Generator().manual_seed(3)).requires_grad_() if with_bias else None
    options: dict[str, Any] = {"smoothing": smoothing, "softcap": softcap, "compiled": compiled}
    loss = linear_cross_entropy(hidden, weight, targets, weights, bias, **options)
    (loss * 1.5).backward()

    ours = [x for x in (hidden, weight, bias) if x is not None]
    leaves = [x.detach().to(dtype).double().requires_grad_() for x in ours]
    logits = F.linear(*leaves)
    if softcap is not None:
        logits = softcap * (logits / softcap).tanh()
    losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
    expected = (losses * weights.double()).sum()
    (expected * 1.5).backward()
    tolerance = 2e-6 if dtype == torch.float32 else 2e-2
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    for found, wanted in zip(ours, leaves, strict=True):
        assert found.grad is not None and wanted.grad is not None and found.grad.dtype == found.dtype
        assert (found.grad.double() - wanted.grad).norm() <= tolerance * wanted.grad.norm()

    if not smoothing:
        with torch.no_grad():
            found = token_losses(hidden, weight, targets, bias, softcap)
        assert (found.double() - losses.detach()).norm() <= tolerance * losses.norm()


@pytest.mark.usefixtures("route")
@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_bfloat16_products_keep_the_loss_within_a_percent(weights: Tensor) -> None:
    """bf16 keeps 8 bits: a logit of size 8 is off by up to 1/32, and 37 losses average some of that away."""
    hidden, weight, targets = inputs(torch.bfloat16)
    found = ours(hidden, weight, targets, weights)
    assert found.hidden.dtype == torch.bfloat16
    assert found.weight is not None and found.weight.dtype == torch.float32
    narrow = weight.detach().bfloat16()
    expected = reference(hidden, narrow, targets, weights)
    losses = F.cross_entropy(hidden.detach().double() @ narrow.t().double(), targets, reduction="none")
    assert abs(found.loss.item() - expected.loss.item()) <= 0.01 * (losses * weights.abs()).sum().item()
    close(found._replace(loss=expected.loss), expected, 0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_trained_token_gives_a_loss_of_zero_and_gradients_of_zero(dtype: torch.dtype) -> None:
    result = ours(*inputs(dtype), torch.zeros(TOKENS))
    assert result.loss == 0
    assert result.hidden.shape == (TOKENS, WIDTH) and not result.hidden.any()
    assert result.weight is not None and result.weight.shape == (VOCAB, WIDTH) and not result.weight.any()


def test_the_gradient_that_comes_from_above_scales_both() -> None:
    weights = WEIGHTS["neither 0 nor 1"]
    close(ours(*inputs(), weights, scale=-2.5), reference(*inputs(), weights, scale=-2.5), 2e-6)


def test_a_frozen_head_gets_no_gradient_and_changes_nothing_else() -> None:
    hidden, weight, targets = inputs()
    weights = WEIGHTS["some zero"]
    found = ours(hidden, weight.requires_grad_(False), targets, weights)
    assert found.weight is None
    close(found, reference(hidden, weight, targets, weights), 2e-6)


def test_a_frozen_body_gets_no_gradient() -> None:
    hidden, weight, targets = inputs()
    expected = reference(hidden, weight, targets, WEIGHTS["all one"])
    linear_cross_entropy(hidden.detach(), weight, targets, WEIGHTS["all one"]).backward()
    assert hidden.grad is None and weight.grad is not None and expected.weight is not None
    assert torch.allclose(weight.grad.double(), expected.weight, atol=1e-4)


def test_micro_batches_add_up_to_the_whole() -> None:
    hidden, weight, targets = inputs()
    weights = WEIGHTS["neither 0 nor 1"]
    expected = reference(hidden, weight, targets, weights)
    total = torch.zeros(())
    for part in (slice(0, 1), slice(1, 20), slice(20, TOKENS)):
        loss = linear_cross_entropy(hidden[part], weight, targets[part], weights[part])
        loss.backward()
        total += loss.detach()
    assert hidden.grad is not None
    close(Result(total, hidden.grad, weight.grad), expected, 2e-6)


def test_logits_far_apart_neither_overflow_nor_vanish() -> None:
    hidden, weight, targets = inputs()
    with torch.no_grad():
        hidden *= 1000
    found = ours(hidden, weight, targets, torch.ones(TOKENS))
    assert all(torch.isfinite(x).all() for x in found if x is not None)
    expected = reference(hidden, weight, targets, torch.ones(TOKENS))
    close(found, expected, 1e-5)


def test_untrained_tokens_cost_no_logits() -> None:
    """What a token without a weight has as its vector or its target does not matter, not even if it is no number."""
    hidden, weight, targets = inputs()
    weights = WEIGHTS["some zero"]
    expected = reference(hidden, weight, targets, weights)
    with torch.no_grad():
        hidden[weights == 0] = torch.nan
    targets[weights == 0] = -1
    found = ours(hidden, weight, targets, weights)
    assert not found.hidden[weights == 0].any()
    close(found, expected, 2e-6)


def test_a_measurement_makes_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without gradients there is one product, the logits; the head's weight itself may still ask for one."""
    hidden, weight, targets = inputs()
    seen: list[bool] = []
    forward = cross_entropy._LinearCrossEntropy.forward

    def watched(ctx: object, *arguments: Tensor) -> Tensor:
        seen.extend(ctx.needs_input_grad)  # type: ignore[attr-defined]
        return forward(ctx, *arguments)

    monkeypatch.setattr(cross_entropy._LinearCrossEntropy, "forward", staticmethod(watched))
    with torch.no_grad():
        loss = linear_cross_entropy(hidden.detach(), weight, targets, torch.ones(TOKENS))
    assert seen and not any(seen)
    assert torch.isclose(loss.double(), reference(hidden, weight, targets, torch.ones(TOKENS)).loss)


@pytest.mark.usefixtures("chunks")
def test_token_losses_are_those_of_cross_entropy() -> None:
    hidden, weight, targets = inputs()
    expected = F.cross_entropy(hidden.double() @ weight.double().t(), targets, reduction="none")
    with torch.no_grad():
        found = token_losses(hidden, weight, targets)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_token_losses_of_nothing_are_nothing() -> None:
    hidden, weight, targets = inputs(torch.bfloat16)
    found = token_losses(hidden[:0], weight, targets[:0])
    assert found.shape == (0,) and found.dtype == torch.float32


def test_a_second_backward_pass_is_refused() -> None:
    hidden, weight = torch.randn(5, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.arange(5), torch.ones(5))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward"):
        loss.backward()
