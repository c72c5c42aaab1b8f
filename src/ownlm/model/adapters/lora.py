"""The adapted layers.

Where we hold several of a checkpoint's projections as one (query, key and value; gate and up), each keeps its own pair
of matrices, as PEFT has them, but all pairs of a layer run as two products.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Linear
from ..quantized import QuantizedLinear, Stored, dequantize

Projection = Linear | QuantizedLinear

# Rows of a weight whose lengths are summed at once in float32.
ROWS = 256
# Tokens whose outputs and gradients are multiplied at once on a CPU.
TOKENS = 32


class LoraLinear(nn.Module):
    """A frozen projection plus ``scale * dropout(x) @ A.T @ B.T`` for each of its adapted segments.

    Args:
        base: the projection, frozen; its bias too.
        segments: the sizes of the checkpoint's projections that the base joins.
        adapted: which of them have an adapter, rising.
        rank: inner size of the matrices.
        scale: what the update is multiplied by.
        dropout: the share of the input that the update does not see while training.

    Attributes:
        a: [adapted * rank, inputs], the adapted segments' A matrices one under another.
        b: [outputs of the adapted segments, rank], their B matrices one under another.
    """

    def __init__(
        self,
        base: Projection,
        segments: Sequence[int],
        adapted: Sequence[int],
        rank: int,
        scale: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.base, self.rank, self.scale, self.dropout = base, rank, scale, dropout
        self.segments_split, self.adapted = tuple(segments), tuple(adapted)
        device = device_of(base)
        self.a = nn.Parameter(torch.zeros(len(self.adapted) * rank, base.inputs, device=device))
        self.b = nn.Parameter(torch.zeros(sum(self.sizes), rank, device=device))

    @property
    def segments(self) -> tuple[int, ...]:
        """The base's own segments."""
        return self.base.segments

    @property
    def sizes(self) -> list[int]:
        """The outputs of each adapted segment."""
        return [self.segments_split[i] for i in self.adapted]

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, inputs] -> [tokens, outputs]."""
        weight = self._frozen_weight(x)
        return self._beside(x) if weight is None else self._with(x, weight, None)

    def _frozen_weight(self, x: Tensor) -> Tensor | None:
        """The base's weight in x's dtype where a pass can be made as one; None where it is made of the base's own."""
        dropped = self.dropout > 0 and self.training
        if dropped or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return None
        if isinstance(self.base, QuantizedLinear):
            return self.base.dense(x.dtype)
        # An engine may have put another layer there.
        frozen = isinstance(self.base, Linear) and not self.base.weight.requires_grad
        return self.base.weight.to(x.dtype) if frozen else None

    def _with(self, x: Tensor, weight: Tensor, growth: Tensor | None) -> Tensor:
        """One pass of base and adapter; see ``_Adapted``."""
        kept = self.base.stored if isinstance(self.base, QuantizedLinear) else (self.base.weight,)
        bias = None if self.base.bias is None else self.base.bias.to(x.dtype)
        return _Adapted.apply(x, self.a, self.spread(), growth, bias, self.scale, weight, *kept)

    def _beside(self, x: Tensor) -> Tensor:
        """The base's own pass, and the adapter's added to it."""
        seen = F.dropout(x, self.dropout, self.training) if self.dropout else x
        inner = F.linear(seen, self.a.to(x.dtype))  # [tokens, adapted * rank]
        return torch.addmm(self.base(x), inner, self.spread().to(x.dtype).t(), alpha=self.scale)

    def delta(self) -> Tensor:
        """The matrices multiplied: [outputs, inputs] float32."""
        return self.scale * (self.spread().float() @ self.a.float())

    def merged(self, weight: Tensor) -> Tensor:
        """The base's weight with the adapter in it: [outputs, inputs] float32."""
        return self.delta().add_(weight)

    def spread(self) -> Tensor:
        """The B matrices on the diagonal of [outputs, adapted * rank], so that one product serves every segment."""
        if len(self.segments_split) == 1:
            return self.b
        blocks = iter(self.b.split(self.sizes))
        rows = []
        for index, outputs in enumerate(self.segments_split):
            if index not in self.adapted:
                rows.append(self.b.new_zeros(outputs, len(self.adapted) * self.rank))
                continue
            place = self.adapted.index(index)
            after = len(self.adapted) - place - 1
            rows.append(F.pad(next(blocks), (place * self.rank, after * self.rank)))
        return torch.cat(rows)


class DoraLinear(LoraLinear):
    """The same, with each row of the sum of weight and update brought to a trained length (Liu et al. 2024).

    What the rows are divided by to get there is a constant to the gradient, as in section 4.3 of the paper. It is
    computed without the sum itself: ``|w + d|^2 = |w|^2 + 2 w d + |d|^2``, each part from products as thin as the rank.
    Dropout reaches only the update, not the base's part of it.

    Attributes:
        magnitude: [outputs of the adapted segments], the rows' lengths.
        squares: the same of the base's weight alone, squared, in float32.
    """

    squares: Tensor

    def __init__(
        self,
        base: Projection,
        segments: Sequence[int],
        adapted: Sequence[int],
        rank: int,
        scale: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(base, segments, adapted, rank, scale, dropout)
        weight = base.weight if isinstance(base, Linear) else base.dense(torch.float32)
        squares = torch.cat([part.detach().float().square().sum(1) for part in weight.split(ROWS)])
        self.register_buffer("squares", torch.cat(self._adapted_parts(squares)), persistent=False)
        self.magnitude = nn.Parameter(self.squares.sqrt())
        # Its own, since an engine may have put another layer in the base's place.
        self.bias = base.bias

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, inputs] -> [tokens, outputs]."""
        weight = self._frozen_weight(x)
        if weight is not None:
            with torch.no_grad():
                read = F.linear(self.a.to(x.dtype), weight).float()
            return self._with(x, weight, self._growth(read))
        # The base reads A's rows as it reads tokens: that is what its weight makes of them.
        with torch.no_grad():
            read = self.base(self.a.to(x.dtype)).float()
            if self.bias is not None:
                read -= self.bias
        y = self._beside(x)
        bare = y if self.bias is None else y - self.bias.to(x.dtype)
        return torch.addcmul(y, bare, self._growth(read).to(x.dtype))

    def merged(self, weight: Tensor) -> Tensor:
        """The base's weight with the adapter in it: [outputs, inputs] float32."""
        growth = self._growth(F.linear(self.a.float(), weight.float()))
        return super().merged(weight).mul_((1 + growth).unsqueeze(1))

    def _growth(self, read: Tensor) -> Tensor:
        """By how much of itself each row must grow: [outputs], 0 where there is no adapter.

        read: [adapted * rank, outputs], A's rows through the base's weight.
        """
        growth = self.magnitude / self._lengths(read) - 1
        if len(self.adapted) == len(self.segments_split):
            return growth
        parts = dict(zip(self.adapted, growth.split(self.sizes), strict=True))
        return torch.cat([parts.get(i, growth.new_zeros(n)) for i, n in enumerate(self.segments_split)])

    @torch.no_grad()
    def _lengths(self, read: Tensor) -> Tensor:
        """How long the rows of weight and update together are: [outputs of the adapted segments]."""
        lengths = []
        parts = zip(
            self.squares.split(self.sizes),
            self.a.float().split(self.rank),
            self.b.float().split(self.sizes),
            read.split(self.rank),
            self.adapted,
            strict=True,
        )
        for squares, a, b, rows, segment in parts:
            across = rows.split(self.segments_split, dim=1)[segment].t()  # [outputs, rank], weight @ A.T
            both = 2 * across + self.scale * (b @ (a @ a.t()))
            lengths.append((squares + self.scale * (b * both).sum(1)).clamp_min(0).sqrt())
        return torch.cat(lengths)

    def _adapted_parts(self, rows: Tensor) -> list[Tensor]:
        """rows: [outputs] -> those of the adapted segments."""
        parts = rows.split(self.segments_split)
        return [parts[i] for i in self.adapted]


class _Adapted(torch.autograd.Function):
    """A frozen projection and its adapter: ``x @ w.T + bias``, w being weight + scale * b @ a with rows that may grow.

    What two passes would each give to x's gradient is added by the product itself. Rows grow in the weight, which is
    smaller than what the tokens make of it; in bfloat16 the many roundings that makes leave the row's length alone.

    Args (of forward):
        x: [tokens, inputs].
        a, b: [rank, inputs], [outputs, rank] float32.
        growth: [outputs] float32, by how much of itself each row of the sum grows, or None.
        bias: [outputs] in x's dtype, or None.
        scale: what b @ a is multiplied by.
        weight: [outputs, inputs] in x's dtype.
        kept: what the backward pass takes the weight from: itself, as it is stored, or a quantized one's parts.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        a: Tensor,
        b: Tensor,
        growth: Tensor | None,
        bias: Tensor | None,
        scale: float,
        weight: Tensor,
        *kept: Tensor,
    ) -> Tensor:
        inner = F.linear(x, a.to(x.dtype))  # [tokens, rank]
        out = F.linear(x, _grown(weight, growth), bias)
        out.addmm_(inner, _grown(b, growth).to(x.dtype).t(), alpha=scale)
        ctx.save_for_backward(x, inner, a, b, growth, bias, None if growth is None else out, *kept)
        ctx.scale, ctx.shape = scale, tuple(weight.shape)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, a, b, growth, bias, out, *kept = ctx.saved_tensors
        wants = ctx.needs_input_grad
        grad_inner = grad @ (ctx.scale * _grown(b, growth)).to(grad.dtype)  # [tokens, rank]
        grad_x = None
        if wants[0]:
            weight = kept[0].to(grad.dtype) if len(kept) == 1 else dequantize(Stored(*kept), ctx.shape, grad.dtype)
            grad_x = (grad @ _grown(weight, growth)).addmm_(grad_inner, a.to(grad.dtype))
        grad_a = (grad_inner.t() @ x).to(a.dtype)
        grad_b = _grown(ctx.scale * (grad.t() @ inner).to(b.dtype), growth)
        grad_growth = None
        if growth is not None and out is not None:
            # Without the bias, what came out is 1 + growth times what grew; a row of length 0 has no say.
            bare = _column_products(grad, out) if bias is None else _column_products(grad, out - bias)
            grad_growth = bare / torch.where(growth == -1, torch.inf, 1 + growth)
        grad_bias = grad.sum(0) if wants[4] else None
        return grad_x, grad_a, grad_b, grad_growth, grad_bias, None, None, *[None] * len(kept)


def _grown(rows: Tensor, growth: Tensor | None) -> Tensor:
    """Each row and so much of itself more."""
    return rows if growth is None else torch.addcmul(rows, rows, growth.to(rows.dtype).unsqueeze(1))


def _column_products(first: Tensor, second: Tensor) -> Tensor:
    """Of [tokens, columns] each: the columns' dot products in float32, on a CPU by parts that stay in its cache."""
    if not first.is_cpu:
        return (first * second).sum(0, dtype=torch.float32)
    total = torch.zeros(first.shape[1])
    for a, b in zip(first.split(TOKENS), second.split(TOKENS), strict=True):
        total += (a.float() * b.float()).sum(0)
    return total


def device_of(base: Projection) -> torch.device:
    """Where a projection's weight is."""
    return base.weight.device if isinstance(base, Linear) else base.device
