"""Cross-entropy over a vocabulary, without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .packed import rounded_rows

# Bytes of logits held at once, in the compute dtype: enough rows to fill the matrix units.
CHUNK_BYTES = 104 * 2**20
# Bytes of float32 probabilities worked on at once on a CPU: about what its cache holds, so that the softmax's passes
# over them cost no memory traffic.
BLOCK_BYTES = 4 * 2**20


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
    count = len(trained)
    if count < len(weights):
        # Filled up with the last of them at weight 0, so that the products' shapes are few (see packed.LENGTH_STEP).
        place = torch.arange(rounded_rows(count, hidden.device), device=hidden.device)
        trained = trained[place.clamp(max=count - 1)]
        hidden, targets = hidden[trained], targets[trained]
        weights = torch.where(place < count, weights[trained], 0.0)
    if not torch.is_grad_enabled():
        # The function below goes by requires_grad alone, and would make the head's gradient for nobody.
        weight = weight.detach()
    loss = _LinearCrossEntropy.apply(hidden, weight, targets, weights)
    return loss, torch.tensor(count, device=hidden.device)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        narrow = weight.to(hidden.dtype)
        wants_hidden, wants_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight: Tensor | None = None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        most = max(1, CHUNK_BYTES // (narrow.element_size() * len(narrow)))
        # Chunks of one size, so that the last is not a sliver.
        rows = max(1, -(-len(hidden) // max(1, -(-len(hidden) // most))))
        # One buffer for every chunk: fresh pages for each would cost more than the softmax.
        buffer = hidden.new_empty(min(rows, len(hidden)), len(narrow))
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            logits = torch.mm(hidden[part], narrow.t(), out=buffer[: len(hidden[part])])
            total += _softmax_gradient(logits, targets[part], weights[part])
            if grad_hidden is not None:
                torch.mm(logits, narrow, out=grad_hidden[part])
            if wants_weight:
                product = logits.t() @ hidden[part]
                if grad_weight is None:
                    grad_weight = product.float()
                else:
                    _add(grad_weight, product)
                del product
        if wants_weight and grad_weight is None:
            grad_weight = torch.zeros_like(weight)
        ctx.grads = (grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.grads
        ctx.grads = (None, None)
        # In place: these are ours alone, and the head's is the model's largest gradient.
        if grad_hidden is not None:
            grad_hidden = grad_hidden.mul_(grad.to(grad_hidden.dtype))
        if grad_weight is not None:
            grad_weight = grad_weight.mul_(grad).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None


def _add(wide: Tensor, narrow: Tensor) -> None:
    """wide += narrow, some rows at a time: at once, the framework would first widen all of ``narrow``."""
    rows = max(1, BLOCK_BYTES // (4 * wide.shape[1]))
    for a, b in zip(wide.split(rows), narrow.split(rows), strict=True):
        a.add_(b)


def _softmax_gradient(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of losses; ``logits`` becomes its gradient: weight * (softmax - one hot).

    logits: [rows, vocab], overwritten; targets, weights: [rows].
    """
    size = max(1, BLOCK_BYTES // (4 * logits.shape[1])) if logits.device.type == "cpu" else len(logits)
    buffer = logits.new_empty(min(size, len(logits)), logits.shape[1], dtype=torch.float32)
    total = torch.zeros((), dtype=torch.float32, device=logits.device)
    for narrow, target, weight in zip(logits.split(size), targets.split(size), weights.split(size), strict=True):
        index, weight = target.unsqueeze(1), weight.unsqueeze(1)
        chosen = narrow.gather(1, index).float()
        wide = buffer[: len(narrow)].copy_(narrow)
        top = wide.amax(1, keepdim=True)
        wide.sub_(top).exp_()
        normaliser = wide.sum(1, keepdim=True)
        total += ((normaliser.log() + top - chosen) * weight).sum()
        wide.mul_(weight / normaliser).scatter_add_(1, index, -weight)
        narrow.copy_(wide)
    return total


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The loss of every token in nats, without gradients, a chunk of logits at a time: [tokens] float32."""
    narrow = weight.to(hidden.dtype)
    rows = max(1, CHUNK_BYTES // (4 * len(weight)))
    parts = [
        F.cross_entropy(F.linear(h, narrow).float(), t, reduction="none")
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)
