"""Log-probabilities of chosen tokens, with gradients, without ever holding all logits.

``cross_entropy`` knows each token's share in the loss before it begins. Here the shares come later: what a preference
loss asks of a token depends on the log-probabilities of two whole answers. A row's gradient is its share times a vector
that does not depend on the share, so that vector is made in the same pass as the log-probability, and the backward pass
only scales it: two products with the head, as many as cross-entropy takes. Only where the head itself is trained is its
product made a second time, in the backward pass, since its gradient sums over all rows with their shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .cross_entropy import BLOCK_BYTES, CHUNK_BYTES
from .kernels import calls


def target_log_probs(hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float | None = None) -> Tensor:
    """The log-probability of each row's target, in nats: [rows] float32, with gradients of ``hidden`` and ``weight``.

    Args:
        hidden: [rows, width], the last norm's output, in the compute dtype.
        weight: [vocab, width], the head's weight.
        targets: [rows], the token that follows each.
        softcap: logits become softcap * tanh(logits / softcap) (Gemma 2).
    """
    if not torch.is_grad_enabled():
        # The function below goes by requires_grad alone, and would make gradients for nobody.
        hidden, weight = hidden.detach(), weight.detach()
    return _TargetLogProbs.apply(hidden, weight, targets, softcap)


class _TargetLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
        narrow = weight.to(hidden.dtype)
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        slopes = torch.empty_like(hidden) if wants_hidden and not wants_weight else None
        result = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for part, logits in logit_chunks(hidden, narrow):
            ones = None if slopes is None else result.new_full((len(logits),), -1.0)
            result[part] = log_probs_of(logits, targets[part], ones, softcap)
            if slopes is not None:
                torch.mm(logits, narrow, out=slopes[part])
        ctx.softcap, ctx.slopes = softcap, slopes
        ctx.save_for_backward(*((hidden, weight, targets) if wants_weight else ()))
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.slopes is not None:
            slopes, ctx.slopes = ctx.slopes, None
            return slopes.mul_(grad.unsqueeze(1).to(slopes.dtype)), None, None, None
        hidden, weight, targets = ctx.saved_tensors
        narrow = weight.to(hidden.dtype)
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros(weight.shape, device=weight.device)
        for part, logits in logit_chunks(hidden, narrow):
            log_probs_of(logits, targets[part], -grad[part], ctx.softcap)
            torch.mm(logits, narrow, out=grad_hidden[part])
            add_product(grad_weight, logits, hidden[part])
        return grad_hidden, grad_weight.to(weight.dtype), None, None


def logit_chunks(hidden: Tensor, narrow: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows and their logits, [rows, vocab] in the compute dtype, some at a time and all in one buffer.

    narrow: [vocab, width] in the dtype of ``hidden``.
    """
    most = max(1, CHUNK_BYTES // (narrow.element_size() * len(narrow)))
    # Chunks of one size, so that the last is not a sliver.
    rows = max(1, -(-len(hidden) // max(1, -(-len(hidden) // most))))
    buffer = hidden.new_empty(min(rows, len(hidden)), len(narrow))
    for start in range(0, len(hidden), rows):
        part = slice(start, min(start + rows, len(hidden)))
        yield part, torch.mm(hidden[part], narrow.t(), out=buffer[: part.stop - start])


def log_probs_of(logits: Tensor, targets: Tensor, weights: Tensor | None, softcap: float | None) -> Tensor:
    """Each row's log-probability of its target: [rows] float32.

    With weights, ``logits`` becomes the gradient of their cross-entropy: weight * (softmax - what was to be predicted).

    logits: [rows, vocab]; targets, weights: [rows].
    """
    if weights is not None and softcap is None and calls.usable(logits):
        return -calls.softmax_gradient(logits, targets, weights, 0.0)
    size = block_rows(logits)
    results = []
    for start in range(0, len(logits), size):
        part = slice(start, start + size)
        narrow, index = logits[part], targets[part].unsqueeze(1)
        wide, slope = bent(narrow.float(), softcap)
        chosen = wide.gather(1, index)
        normaliser = wide.logsumexp(1, keepdim=True)
        results.append((chosen - normaliser).squeeze(1))
        if weights is not None:
            weight = weights[part].unsqueeze(1)
            wide.sub_(normaliser).exp_().mul_(weight).scatter_add_(1, index, -weight)
            narrow.copy_(wide if slope is None else wide.mul_(slope))
    return torch.cat(results) if results else logits.new_zeros(0, dtype=torch.float32)


def bent(logits: Tensor, softcap: float | None) -> tuple[Tensor, Tensor | None]:
    """Float32 logits bent to within ``softcap``, in place, and the slope of the bend; as they are without one."""
    if softcap is None:
        return logits, None
    logits.div_(softcap).tanh_()
    slope = 1 - logits.square()
    return logits.mul_(softcap), slope


def block_rows(logits: Tensor) -> int:
    """How many rows are worked on at once in float32: on a CPU about what its cache holds."""
    return max(1, BLOCK_BYTES // (4 * logits.shape[1])) if logits.device.type == "cpu" else max(1, len(logits))


def add_product(total: Tensor, grad: Tensor, hidden: Tensor) -> None:
    """total += grad.T @ hidden: [vocab, width] float32, [rows, vocab], [rows, width]."""
    if calls.usable(grad, hidden):
        calls.weight_gradient(grad, hidden, total)
    elif grad.dtype == total.dtype:
        total.addmm_(grad.t(), hidden)
    else:
        total.add_(grad.t() @ hidden)
