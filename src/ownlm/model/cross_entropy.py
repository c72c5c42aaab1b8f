"""Cross-entropy over a vocabulary, without ever holding all logits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .kernels import calls
from .packed import rounded_rows

# Bytes of logits held at once, in the compute dtype: enough rows to fill the matrix units. On a GPU more, since each chunk's
# part of the head's gradient is read and written in float32, which there takes as long as a product of so many rows.
CHUNK_BYTES, GPU_CHUNK_BYTES = 104 * 2**20, 416 * 2**20
# The vocabulary is filled up to a multiple of this: two cache lines of bfloat16, and what a GPU's matrix units ask for.
VOCAB_STEP = 64
# Bytes of float32 probabilities worked on at once on a CPU: about what its cache holds, so that the softmax's passes
# over them cost no memory traffic.
BLOCK_BYTES = 4 * 2**20


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    weights: Tensor,
    bias: Tensor | None = None,
    *,
    smoothing: float = 0.0,
    softcap: float | None = None,
    compiled: bool = False,
) -> Tensor:
    """Weighted sum of the cross-entropies of next-token predictions in nats, never holding all logits: a scalar.

    Logits exist only a chunk at a time: both gradients are computed in the same pass as the loss, so nothing is computed
    twice either (as in the fused kernels of Hsu et al. 2024). A token of weight 0 costs what any other costs:
    ``chosen_rows`` leaves them out.

    Args:
        hidden: [tokens, width], the last norm's output, in the compute dtype.
        weight: [vocab, width], the head's weight.
        targets: [tokens], the token that follows each.
        weights: [tokens] float32, each token's share in the loss.
        bias: [vocab], added to the logits.
        smoothing: the share of the target's probability spread evenly over the vocabulary (Szegedy et al. 2016).
        softcap: logits become softcap * tanh(logits / softcap) (Gemma 2).
        compiled: whether what stands between the products is compiled into a pass or two.
    """
    if not torch.is_grad_enabled():
        # The function below goes by requires_grad alone, and would make the head's gradient for nobody.
        weight, bias = weight.detach(), None if bias is None else bias.detach()
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, bias, targets, weights, smoothing, softcap, compiled)
    return loss


def chosen_rows(
    hidden: Tensor, targets: Tensor, weights: Tensor, rows: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, int]:
    """The tokens with a weight, and how many they are; arguments as above.

    On a CPU they are filled up with the last of them at weight 0, so that products' shapes are few (packed.LENGTH_STEP).

    rows: which these are, rising, where that is known: a GPU that is asked for them has to be waited for.
    """
    rows = weights.nonzero().squeeze(1) if rows is None else rows
    count = len(rows)
    if count == len(weights):
        return hidden, targets, weights, count
    place = torch.arange(rounded_rows(count, hidden.device), device=hidden.device)
    if count < len(place):
        rows = rows[place.clamp(max=count - 1)]
    return hidden[rows], targets[rows], torch.where(place < count, weights[rows], 0.0), count


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        smoothing: float,
        softcap: float | None,
        compiled: bool,
    ) -> Tensor:
        kernels = calls.usable(hidden) and weight.dtype in (torch.float32, torch.bfloat16)
        # Kernels narrow the weight a little at a time; a copy would be as large as a chunk of logits.
        narrow, vocab = weight if kernels else _narrowed(weight, hidden.dtype), len(weight)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros(len(weight), device=hidden.device) if wants_bias else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        columns = -(-vocab // VOCAB_STEP) * VOCAB_STEP if kernels else len(narrow)
        most = max(1, (GPU_CHUNK_BYTES if hidden.is_cuda else CHUNK_BYTES) // (hidden.element_size() * columns))
        # Chunks of one size, so that the last is not a sliver.
        rows = max(1, -(-len(hidden) // max(1, -(-len(hidden) // most))))
        # One buffer for every chunk: fresh pages for each would cost more than the softmax.
        buffer = hidden.new_empty(min(rows, len(hidden)), columns)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            filled = buffer[: len(hidden[part])]
            logits = filled[:, :vocab]
            if kernels:
                calls.linear(hidden[part], narrow, bias, logits)
            else:
                _logits(hidden[part], narrow, bias, filled)
            gradient = _compiled() if compiled else _softmax_gradient
            total += gradient(logits, targets[part], weights[part], smoothing, softcap, grad_bias)
            if grad_hidden is not None and kernels:
                calls.input_gradient(logits, narrow, grad_hidden[part])
            elif grad_hidden is not None:
                torch.mm(filled, narrow, out=grad_hidden[part])
            if wants_weight:
                grad_weight = _weight_gradient(logits, hidden[part], grad_weight)
        if wants_weight and grad_weight is None:
            grad_weight = torch.zeros_like(weight)
        ctx.grads = (grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = (weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.grads is None:
            raise RuntimeError("this loss has given its gradients away: make it anew for a second backward pass")
        (grad_hidden, grad_weight, grad_bias), ctx.grads = ctx.grads, None
        # To look at it on a CPU saves a pass over the model's largest gradient: a loss that nothing is added to has 1.
        if grad.device.type == "cpu" and grad.item() == 1.0:
            return grad_hidden, _cast(grad_weight, ctx.dtypes[0]), _cast(grad_bias, ctx.dtypes[1]), *[None] * 5
        # In place: these are ours alone.
        if grad_hidden is not None:
            grad_hidden = grad_hidden.mul_(grad.to(grad_hidden.dtype))
        if grad_weight is not None:
            grad_weight = grad_weight.mul_(grad)
        if grad_bias is not None:
            grad_bias = grad_bias.mul_(grad)
        return grad_hidden, _cast(grad_weight, ctx.dtypes[0]), _cast(grad_bias, ctx.dtypes[1]), *[None] * 5


def _cast(grad: Tensor | None, dtype: torch.dtype | None) -> Tensor | None:
    return None if grad is None or dtype is None else grad.to(dtype)


def _narrowed(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The head's weight in the compute dtype: [vocab, width], where it is a copy filled up with rows of zeros.

    Logits whose rows begin anywhere in a cache line take a CPU half as long again to make, and a GPU longer. The added ones
    are 0, and stay 0 as gradients.
    """
    if len(weight) % VOCAB_STEP == 0 or (weight.dtype == dtype and weight.device.type == "cpu"):
        return weight.to(dtype)
    narrow = weight.new_empty(-(-len(weight) // VOCAB_STEP) * VOCAB_STEP, weight.shape[1], dtype=dtype)
    narrow[: len(weight)] = weight
    narrow[len(weight) :] = 0
    return narrow


def _logits(hidden: Tensor, narrow: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    if bias is None:
        return torch.mm(hidden, narrow.t(), out=out)
    filled = F.pad(bias.to(hidden.dtype), (0, len(narrow) - len(bias)))
    return torch.addmm(filled, hidden, narrow.t(), out=out)


def _weight_gradient(grad: Tensor, hidden: Tensor, so_far: Tensor | None) -> Tensor:
    """grad.T @ hidden in float32, added to what there is so far."""
    if calls.usable(grad, hidden):
        return calls.weight_gradient(grad, hidden, so_far)
    product = grad.t() @ hidden
    if so_far is None:
        return product.float()
    _add(so_far, product)
    return so_far


def _add(wide: Tensor, narrow: Tensor) -> None:
    """wide += narrow, some rows at a time: at once, the framework would first widen all of ``narrow``."""
    rows = max(1, BLOCK_BYTES // (4 * wide.shape[1]))
    for a, b in zip(wide.split(rows), narrow.split(rows), strict=True):
        a.add_(b)


def _softmax_gradient(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float,
    softcap: float | None,
    grad_bias: Tensor | None,
) -> Tensor:
    """The weighted sum of losses; ``logits`` becomes its gradient: weight * (softmax - what was to be predicted).

    logits: [rows, vocab], overwritten; targets, weights: [rows]; grad_bias: [vocab] float32, added to.
    """
    if softcap is None and calls.usable(logits):
        losses = calls.softmax_gradient(logits, targets, weights, smoothing)
        if grad_bias is not None:
            calls.column_sums(logits, grad_bias)
        return (losses * weights).sum()
    size = max(1, BLOCK_BYTES // (4 * logits.shape[1])) if logits.device.type == "cpu" else len(logits)
    buffer = logits.new_empty(min(size, len(logits)), logits.shape[1], dtype=torch.float32)
    total = torch.zeros((), dtype=torch.float32, device=logits.device)
    for narrow, target, weight in zip(logits.split(size), targets.split(size), weights.split(size), strict=True):
        index, weight = target.unsqueeze(1), weight.unsqueeze(1)
        wide = buffer[: len(narrow)].copy_(narrow)
        slope = None
        if softcap is not None:
            wide.div_(softcap).tanh_()
            slope = 1 - wide.square()
            wide.mul_(softcap)
        chosen = wide.gather(1, index)
        if smoothing:
            chosen = chosen.lerp_(wide.mean(1, keepdim=True), smoothing)
        top = wide.amax(1, keepdim=True)
        wide.sub_(top).exp_()
        normaliser = wide.sum(1, keepdim=True)
        total += ((normaliser.log() + top - chosen) * weight).sum()
        wide.mul_(weight / normaliser).scatter_add_(1, index, weight * (smoothing - 1))
        if smoothing:
            wide.sub_(weight * (smoothing / logits.shape[1]))
        if slope is not None:
            wide.mul_(slope)
        if grad_bias is not None:
            grad_bias += wide.sum(0)
        narrow.copy_(wide)
    return total


def _whole_gradient(
    logits: Tensor,
    targets: Tensor,
    weights: Tensor,
    smoothing: float,
    softcap: float | None,
    grad_bias: Tensor | None,
) -> Tensor:
    """The same as one expression, so that a compiler reads the logits once for their sums and once for the gradient."""
    wide, slope = logits.float(), None
    if softcap is not None:
        bent = torch.tanh(wide / softcap)
        wide, slope = softcap * bent, 1 - bent.square()
    index, weight = targets.unsqueeze(1), weights.unsqueeze(1)
    chosen, normaliser = wide.gather(1, index), wide.logsumexp(1, keepdim=True)
    # Compared, not scattered: that would be a pass of its own.
    hit = torch.arange(logits.shape[1], device=logits.device) == index
    gradient = (wide - normaliser).exp() - torch.where(hit, 1 - smoothing, 0.0)
    if smoothing:
        # Not by lerp: compiled by torch 2.13 with a second value of the share, it takes the first.
        chosen = (1 - smoothing) * chosen + smoothing * wide.mean(1, keepdim=True)
        gradient = gradient - smoothing / logits.shape[1]
    gradient = gradient * weight if slope is None else gradient * weight * slope
    if grad_bias is not None:
        grad_bias += gradient.sum(0)
    logits.copy_(gradient)
    return ((normaliser - chosen) * weight).sum()


@functools.cache
def _compiled() -> Callable[..., Tensor]:
    return torch.compile(_whole_gradient)


def token_losses(
    hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None, softcap: float | None = None
) -> Tensor:
    """The loss of every token in nats, without gradients, a chunk of logits at a time: [tokens] float32."""
    narrow = weight.to(hidden.dtype)
    offset = None if bias is None else bias.to(hidden.dtype)
    rows = max(1, CHUNK_BYTES // (4 * len(weight)))
    parts = []
    for part, target in zip(hidden.split(rows), targets.split(rows), strict=True):
        logits = F.linear(part, narrow, offset).float()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        parts.append(F.cross_entropy(logits, target, reduction="none"))
    return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=torch.float32)
