"""The fourth box: vectors become a prediction of the next token, and its loss."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of float32 logits held at once; more is no faster once a chunk fills the matrix units.
CHUNK_BYTES = 96 * 2**20


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy of next-token predictions, never holding all logits.

    Vocabulary logits exist only for tokens with a weight, and only a chunk at a time: both gradients are computed in
    the same pass as the loss, so nothing is computed twice either (as in the fused kernels of Hsu et al. 2024).

    Args:
        hidden: [tokens, width], the last norm's output, in the compute dtype.
        weight: [vocab, width], the head's weight.
        targets: [tokens], the token that follows each.
        weights: [tokens] float32, each token's share in the loss; 0 is not trained.

    Returns:
        The weighted sum of losses in nats, and the number of tokens with a weight, both scalars.
    """
    trained = weights.nonzero().squeeze(1)
    if len(trained) < len(weights):
        hidden, targets, weights = hidden[trained], targets[trained], weights[trained]
    loss = _LinearCrossEntropy.apply(hidden, weight, targets, weights)
    return loss, torch.tensor(len(trained), device=hidden.device)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        narrow = weight.to(hidden.dtype)
        rows = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
        wants_hidden, wants_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if wants_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = F.linear(hidden[part], narrow).float()
            normaliser = logits.logsumexp(-1)
            chosen = logits.gather(1, targets[part].unsqueeze(1)).squeeze(1)
            total += ((normaliser - chosen) * weights[part]).sum()
            if grad_hidden is None and grad_weight is None:
                continue
            # d loss / d logits = weight * (softmax - one hot), made in place of the logits
            probabilities = logits.sub_(normaliser.unsqueeze(1)).exp_()
            index = torch.arange(len(probabilities), device=hidden.device)
            probabilities[index, targets[part]] -= 1
            grad_logits = probabilities.mul_(weights[part].unsqueeze(1)).to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(grad_logits, narrow, out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight += grad_logits.t() @ hidden[part]
        ctx.grads = (grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_hidden, grad_weight = ctx.grads
        ctx.grads = (None, None)
        # In place: these are ours alone, and the head's is the model's largest gradient.
        if grad_hidden is not None:
            grad_hidden = grad_hidden.mul_(grad.to(grad_hidden.dtype))
        if grad_weight is not None:
            grad_weight = grad_weight.mul_(grad).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The loss of every token in nats, without gradients, a chunk of logits at a time: [tokens] float32."""
    narrow = weight.to(hidden.dtype)
    rows = max(1, CHUNK_BYTES // (4 * weight.shape[0]))
    parts = [
        F.cross_entropy(F.linear(h, narrow).float(), t, reduction="none")
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)
