"""Distillation's loss against all logits at once, by the framework's own divergence and its own gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ownlm.model import divergence, log_probs
from ownlm.model.divergence import Head, Mix, linear_divergence

ROWS, WIDTH, TEACHER_WIDTH, VOCAB = 23, 16, 24, 131


class Case:
    """A student and a teacher on some rows."""

    def __init__(self, vocab: int = VOCAB, teacher_vocab: int = VOCAB, bias: bool = False, softcap: Any = None) -> None:
        generator = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        self.hidden, self.weight = draw(ROWS, WIDTH).requires_grad_(), draw(vocab, WIDTH).requires_grad_()
        self.bias = draw(vocab).requires_grad_() if bias else None
        self.softcap = softcap
        self.teacher_hidden = draw(ROWS, TEACHER_WIDTH).requires_grad_()
        self.teacher_weight = (0.7 * draw(teacher_vocab, TEACHER_WIDTH)).requires_grad_()
        self.teacher_bias = draw(teacher_vocab).requires_grad_() if bias else None
        self.targets = torch.randint(min(vocab, teacher_vocab), (ROWS,), generator=generator)
        self.weights = torch.rand(ROWS, generator=generator)

    def ours(self, mix: Mix) -> tuple[Tensor, Tensor]:
        head = Head(self.weight, self.bias, self.softcap)
        teacher = Head(self.teacher_weight, self.teacher_bias, self.softcap)
        return linear_divergence(self.hidden, head, self.teacher_hidden, teacher, self.targets, self.weights, mix)

    def public(self, mix: Mix) -> tuple[Tensor, Tensor]:
        logits, wanted = F.linear(self.hidden, self.weight, self.bias), None
        with torch.no_grad():
            wanted = F.linear(self.teacher_hidden, self.teacher_weight, self.teacher_bias)
        if self.softcap is not None:
            logits, wanted = (self.softcap * torch.tanh(x / self.softcap) for x in (logits, wanted))
        common = min(logits.shape[1], wanted.shape[1])
        q, p = ((x[:, :common] / mix.temperature).log_softmax(1) for x in (logits, wanted))
        if mix.divergence == "forward_kl":
            apart = F.kl_div(q, p, reduction="none", log_target=True).sum(1)
        elif mix.divergence == "reverse_kl":
            apart = F.kl_div(p, q, reduction="none", log_target=True).sum(1)
        else:
            m = ((p.exp() + q.exp()) / 2).log()
            halves = (F.kl_div(m, x, reduction="none", log_target=True).sum(1) for x in (p, q))
            apart = sum(halves) / 2
        ordinary = F.cross_entropy(logits, self.targets, reduction="none")
        parts = torch.stack([(x * self.weights).sum() for x in (ordinary, apart)])
        return mix.alpha * parts[0] + (1 - mix.alpha) * mix.temperature**2 * parts[1], parts

    @property
    def trained(self) -> list[Tensor]:
        return [x for x in (self.hidden, self.weight, self.bias) if x is not None]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "biases": {"bias": True},
    "softcap": {"softcap": 4.0},
    "a longer teacher": {"teacher_vocab": VOCAB + 13},
    "a longer student": {"vocab": VOCAB + 13, "bias": True},
}


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (2.5, 0.3), (1.0, 0.0), (0.5, 0.0)])
@pytest.mark.parametrize("chunk", [4 * 7 * 2 * VOCAB, 10**9], ids=["chunks", "whole"])
def test_loss_and_gradients_are_those_of_all_logits(
    kind: Any, case: str, temperature: float, alpha: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(divergence, "CHUNK_BYTES", chunk)
    monkeypatch.setattr(log_probs, "BLOCK_BYTES", 4 * VOCAB * 3)
    both, mix = Case(**CASES[case]), Mix(kind, temperature, alpha)
    (loss, parts), (expected, expected_parts) = both.ours(mix), both.public(mix)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts, expected_parts, rtol=1e-5, atol=1e-5)
    assert not parts.requires_grad
    theirs = torch.autograd.grad(1.7 * expected, both.trained)
    (1.7 * loss).backward()
    for tensor, gradient in zip(both.trained, theirs, strict=True):
        assert tensor.grad is not None
        torch.testing.assert_close(tensor.grad, gradient, rtol=1e-4, atol=1e-5)
    assert both.teacher_hidden.grad is None and both.teacher_weight.grad is None


@pytest.mark.parametrize("kind", ["forward_kl", "reverse_kl", "jsd"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it(kind: Any) -> None:
    case = Case()
    head = Head(case.weight)
    arguments = case.hidden, head, case.hidden.detach(), head, case.targets, case.weights
    loss, parts = linear_divergence(*arguments, Mix(kind, 2.0, 0.0))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and parts[1].item() == pytest.approx(0, abs=1e-6)
    assert case.hidden.grad is not None and case.hidden.grad.abs().max() < 1e-6


def test_bfloat16_is_near_float32() -> None:
    exact, case = Case(), Case()
    mix = Mix("jsd", 1.5, 0.4)
    narrow = case.hidden.detach().bfloat16().requires_grad_()
    head, teacher = Head(case.weight), Head(case.teacher_weight)
    wanted = case.teacher_hidden.detach().bfloat16()
    loss, _ = linear_divergence(narrow, head, wanted, teacher, case.targets, case.weights, mix)
    loss.backward()
    expected, _ = exact.public(mix)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=0.02)
    assert narrow.grad is not None and exact.hidden.grad is not None and case.weight.grad is not None
    assert exact.weight.grad is not None
    torch.testing.assert_close(narrow.grad.float(), exact.hidden.grad, rtol=0.1, atol=0.1)
    torch.testing.assert_close(case.weight.grad, exact.weight.grad, rtol=0.1, atol=0.1)


class Largest(TorchDispatchMode):
    """The most numbers that any tensor has which is made inside."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_no_more_logits_are_held_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence, "CHUNK_BYTES", 4 * 2 * VOCAB * 6)
    case = Case()
    for name in ("hidden", "teacher_hidden"):
        setattr(case, name, getattr(case, name).detach().repeat(30, 1).requires_grad_())
    case.targets, case.weights = case.targets.repeat(30), case.weights.repeat(30)
    with Largest() as largest:
        case.ours(Mix())[0].backward()
    assert largest.numbers == max(case.hidden.numel(), case.teacher_hidden.numel(), case.teacher_weight.numel())


def test_a_second_backward_pass_is_refused() -> None:
    loss = Case().ours(Mix())[0]
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward"):
        loss.backward()
