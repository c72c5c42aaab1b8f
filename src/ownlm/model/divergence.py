"""How far a model's next-token distribution is from a larger one's, without ever holding all logits of either.

As in ``cross_entropy``, logits exist only for trained tokens and a chunk at a time, here of both models side by side, and
the gradients are made in the same pass as the loss. With p the teacher's distribution, q the student's and m their mean,
all at a temperature T:

| divergence | of a token |
|---|---|
| forward_kl | KL(p, q) (Hinton et al. 2015): the student covers what the teacher may say |
| reverse_kl | KL(q, p) (Gu et al. 2023): the student keeps to what the teacher finds likely |
| jsd | KL(p, m) / 2 + KL(q, m) / 2 (Lin 1991; Agarwal et al. 2023) |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from .cross_entropy import CHUNK_BYTES
from .log_probs import add_product, bent, block_rows

Divergence = Literal["forward_kl", "reverse_kl", "jsd"]


@dataclass(frozen=True)
class Head:
    """What turns a stream into logits.

    Attributes:
        weight: [vocab, width].
        bias: [vocab], or None.
        softcap: logits become softcap * tanh(logits / softcap) (Gemma 2).
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None

    def detached(self) -> Head:
        """The same, of which no gradient is wanted."""
        return Head(self.weight.detach(), None if self.bias is None else self.bias.detach(), self.softcap)

    def logits(self, hidden: Tensor, narrow: Tensor, out: Tensor) -> Tensor:
        """[rows, width] -> [rows, vocab] in ``out``; narrow: the weight in the dtype of ``hidden``."""
        if self.bias is None:
            return torch.mm(hidden, narrow.t(), out=out)
        return torch.addmm(self.bias.to(hidden.dtype), hidden, narrow.t(), out=out)


@dataclass(frozen=True)
class Mix:
    """What a token's loss is made of: ``alpha`` x cross-entropy + (1 - alpha) x T^2 x divergence.

    The square keeps the gradient's size at any temperature (Hinton et al. 2015).

    Attributes:
        divergence: which.
        temperature: what both models' logits are divided by, in the divergence alone.
        alpha: the share of the ordinary loss.
    """

    divergence: Divergence = "forward_kl"
    temperature: float = 1.0
    alpha: float = 0.5


def linear_divergence(
    hidden: Tensor,
    head: Head,
    teacher_hidden: Tensor,
    teacher_head: Head,
    targets: Tensor,
    weights: Tensor,
    mix: Mix,
) -> tuple[Tensor, Tensor]:
    """The weighted sum of losses in nats; and of cross-entropies and of divergences, without gradients: [2] float32.

    Where one vocabulary is longer than the other, the divergence is that of the part that both have.

    Args:
        hidden: [rows, width], the student's last norm's output, in the compute dtype.
        head: the student's.
        teacher_hidden: [rows, its width].
        teacher_head: its own; neither gets a gradient.
        targets: [rows], the token that follows each.
        weights: [rows] float32, each row's share in the loss.
        mix: what the loss is made of.
    """
    teacher_hidden, teacher_head = teacher_hidden.detach(), teacher_head.detached()
    if not torch.is_grad_enabled():
        # The function below goes by requires_grad alone, and would make gradients for nobody.
        hidden, head = hidden.detach(), head.detached()
    teacher = teacher_hidden, teacher_head
    return _LinearDivergence.apply(hidden, head.weight, head.bias, head.softcap, teacher, targets, weights, mix)


class _LinearDivergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        softcap: float | None,
        teacher: tuple[Tensor, Head],
        targets: Tensor,
        weights: Tensor,
        mix: Mix,
    ) -> tuple[Tensor, Tensor]:
        (teacher_hidden, teacher_head), head = teacher, Head(weight, bias, softcap)
        narrow, teacher_narrow = weight.to(hidden.dtype), teacher_head.weight.to(teacher_hidden.dtype)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros(weight.shape, device=weight.device) if wants_weight else None
        grad_bias = torch.zeros(len(weight), device=weight.device) if wants_bias else None
        sums = torch.zeros(2, device=hidden.device)
        rows = max(1, CHUNK_BYTES // (hidden.element_size() * (len(narrow) + len(teacher_narrow))))
        rows = max(1, min(rows, len(hidden)))
        student_buffer, teacher_buffer = (hidden.new_empty(rows, len(w)) for w in (narrow, teacher_narrow))
        for start in range(0, len(hidden), rows):
            part = slice(start, min(start + rows, len(hidden)))
            size = part.stop - start
            logits = head.logits(hidden[part], narrow, student_buffer[:size])
            wanted = teacher_head.logits(teacher_hidden[part], teacher_narrow, teacher_buffer[:size])
            sums += _gradient(logits, wanted, targets[part], weights[part], mix, softcap, teacher_head.softcap)
            if grad_hidden is not None:
                torch.mm(logits, narrow, out=grad_hidden[part])
            if grad_weight is not None:
                add_product(grad_weight, logits, hidden[part])
            if grad_bias is not None:
                grad_bias += logits.sum(0, dtype=torch.float32)
        ctx.grads = grad_hidden, grad_weight, grad_bias
        ctx.dtypes = weight.dtype, None if bias is None else bias.dtype
        ctx.mark_non_differentiable(sums)
        return mix.alpha * sums[0] + (1 - mix.alpha) * mix.temperature**2 * sums[1], sums

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("this loss has given its gradients away: make it anew for a second backward pass")
        (grad_hidden, grad_weight, grad_bias), ctx.grads = ctx.grads, None
        # In place: these are ours alone.
        if grad_hidden is not None:
            grad_hidden = grad_hidden.mul_(grad.to(grad_hidden.dtype))
        if grad_weight is not None:
            grad_weight = grad_weight.mul_(grad).to(ctx.dtypes[0])
        if grad_bias is not None:
            grad_bias = grad_bias.mul_(grad).to(ctx.dtypes[1])
        return grad_hidden, grad_weight, grad_bias, None, None, None, None, None


def _gradient(
    logits: Tensor,
    wanted: Tensor,
    targets: Tensor,
    weights: Tensor,
    mix: Mix,
    softcap: float | None,
    teacher_softcap: float | None,
) -> Tensor:
    """The weighted sums of cross-entropies and divergences, [2]; ``logits`` becomes the mixed loss's gradient.

    logits: [rows, vocab], overwritten; wanted: [rows, the teacher's vocab]; targets, weights: [rows].
    """
    size, temperature, alpha = block_rows(logits), mix.temperature, mix.alpha
    common = min(logits.shape[1], wanted.shape[1])
    sums = torch.zeros(2, device=logits.device)
    for start in range(0, len(logits), size):
        part = slice(start, start + size)
        index, weight = targets[part].unsqueeze(1), weights[part].unsqueeze(1)
        student, slope = bent(logits[part].float(), softcap)
        teacher, _ = bent(wanted[part].float(), teacher_softcap)
        log_q = (student[:, :common] / temperature).log_softmax(1)
        log_p = (teacher[:, :common] / temperature).log_softmax(1)
        divergence, grad = _DIVERGENCES[mix.divergence](log_p, log_q)
        del log_p, teacher
        log_all = log_q if temperature == 1 and common == student.shape[1] else student.log_softmax(1)
        sums += torch.stack(((-log_all.gather(1, index) * weight).sum(), (divergence * weight).sum()))
        # By T^2 for the loss, and over T for the logits that were divided by it.
        grad.mul_((1 - alpha) * temperature)
        if alpha:
            whole = log_all.exp().mul_(alpha)
            whole.scatter_add_(1, index, torch.full_like(weight, -alpha))
            whole[:, :common] += grad
        else:
            whole = torch.zeros_like(student)
            whole[:, :common] = grad
        whole.mul_(weight)
        logits[part] = whole if slope is None else whole.mul_(slope)
    return sums


def _forward_kl(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """The divergence of each row, [rows, 1], and its gradient by q's logits, [rows, vocab]."""
    p = log_p.exp()
    return (p * (log_p - log_q)).sum(1, keepdim=True), log_q.exp().sub_(p)


def _reverse_kl(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    q, apart = log_q.exp(), log_q - log_p
    divergence = (q * apart).sum(1, keepdim=True)
    return divergence, apart.sub_(divergence).mul_(q)


def _jsd(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    log_m = torch.logaddexp(log_p, log_q).sub_(math.log(2))
    q, apart = log_q.exp(), log_q - log_m
    of_q = (q * apart).sum(1, keepdim=True)
    of_p = (log_p.exp() * (log_p - log_m)).sum(1, keepdim=True)
    return (of_p + of_q) / 2, apart.sub_(of_q).mul_(q).div_(2)


_DIVERGENCES = {"forward_kl": _forward_kl, "reverse_kl": _reverse_kl, "jsd": _jsd}
