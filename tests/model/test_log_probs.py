"""Log-probabilities of chosen tokens against all logits at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ownlm.model import log_probs
from ownlm.model.log_probs import target_log_probs

ROWS, WIDTH, VOCAB = 37, 16, 211


def drawn(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden, head, targets, and each row's share in some loss, which is of either sign."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, generator=generator).to(dtype)
    weight = torch.randn(VOCAB, WIDTH, generator=generator)
    targets = torch.randint(VOCAB, (ROWS,), generator=generator)
    return hidden, weight, targets, torch.randn(ROWS, generator=generator)


def public(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
    logits = hidden @ weight.t()
    logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    return logits.log_softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("chunk", [1, 4 * VOCAB * 5, 10**9], ids=["rows", "chunks", "whole"])
@pytest.mark.parametrize("softcap", [None, 3.0], ids=["straight", "softcap"])
@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
def test_values_and_gradients_are_those_of_all_logits(
    chunk: int, softcap: float | None, frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_probs, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(log_probs, "BLOCK_BYTES", 4 * VOCAB * 3)
    hidden, weight, targets, shares = drawn()
    results = []
    for function in (
        lambda h, w: target_log_probs(h, w, targets, softcap=softcap),
        lambda h, w: public(h, w, targets, softcap),
    ):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_(not frozen)
        values = function(h, w)
        # A loss that knows each row's share only once it has seen all rows.
        (values * shares.roll(1)).sum().tanh().mul(values.sigmoid().sum()).backward()
        results.append((values.detach(), h.grad, w.grad))
    ours, theirs = results
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_float32() -> None:
    hidden, weight, targets, shares = drawn(torch.bfloat16)
    h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    values = target_log_probs(h, w, targets)
    (values * shares).sum().backward()
    exact_h, exact_w = hidden.float().requires_grad_(), weight.clone().requires_grad_()
    exact = public(exact_h, exact_w, targets, None)
    (exact * shares).sum().backward()
    assert values.dtype == torch.float32 and h.grad is not None and exact_h.grad is not None
    torch.testing.assert_close(values, exact, rtol=0.02, atol=0.1)
    torch.testing.assert_close(h.grad.float(), exact_h.grad, rtol=0.05, atol=0.05)
    torch.testing.assert_close(w.grad, exact_w.grad, rtol=0.05, atol=0.05)


def test_no_row_is_no_value_and_no_gradient() -> None:
    hidden, weight, targets, _ = drawn()
    h, w = hidden[:0].clone().requires_grad_(), weight.clone().requires_grad_()
    values = target_log_probs(h, w, targets[:0])
    values.sum().backward()
    assert values.shape == (0,) and w.grad is not None and not w.grad.any()


def test_nothing_is_kept_for_nobody() -> None:
    hidden, weight, targets, _ = drawn()
    with torch.no_grad():
        values = target_log_probs(hidden, weight.requires_grad_(), targets)
    assert not values.requires_grad
    torch.testing.assert_close(values, public(hidden, weight.detach(), targets, None), rtol=1e-4, atol=1e-5)


class Largest(TorchDispatchMode):
    """The most numbers that any tensor has which is made inside."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


@pytest.mark.parametrize("frozen", [False, True], ids=["trained head", "frozen head"])
def test_no_more_logits_are_held_than_a_chunk(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_probs, "CHUNK_BYTES", 4 * VOCAB * 8)
    hidden, weight, targets, _ = drawn()
    many = hidden.repeat(40, 1).requires_grad_()
    with Largest() as largest:
        target_log_probs(many, weight.requires_grad_(not frozen), targets.repeat(40)).sum().backward()
    assert largest.numbers == max(many.numel(), weight.numel(), 8 * VOCAB)
