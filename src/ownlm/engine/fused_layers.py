"""A model's norms, gated feedforwards and attention with what stands between products as one kernel (triton_layers.py)."""

from __future__ import annotations

from torch import Tensor, nn

from ..model.attention import Attention, AttentionContext
from ..model.cross import Source
from ..model.feedforward import FeedForward
from ..model.layers import RMSNorm
from ..model.quantized import replace_layer
from ..model.transformer import Block
from .paged_attention import PagedRows
from .triton_layers import KINDS, gated, rms_norm, rms_norm_of_sum, turn_and_keep


def fuse(model: nn.Module) -> None:
    """Puts them into a model that only answers, in place; what has no such kernel stays as it is."""
    replaceable = list(model.named_modules())
    for name, module in replaceable:
        if isinstance(module, RMSNorm):
            replace_layer(model, name, _FusedNorm(module))
        elif isinstance(module, FeedForward) and module.gated and module.activation in KINDS:
            replace_layer(model, name, _FusedFeedForward(module))
        elif isinstance(module, Attention) and module.q_norm is None:
            replace_layer(model, name, _FusedAttention(module))
    for name, module in replaceable:
        if (
            not isinstance(module, Block)
            or module.norm_position != "pre"
            or module.parallel
            or module.cross is not None
        ):
            continue
        norm: nn.Module = module.feedforward_norm
        if isinstance(norm, _FusedNorm):
            replace_layer(model, name, _FusedBlock(module, norm))


class _FusedNorm(nn.Module):
    def __init__(self, norm: RMSNorm) -> None:
        super().__init__()
        self.weight, self._eps, self._unit_offset = norm.weight, norm.eps, norm.unit_offset

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., width], same shape out."""
        return rms_norm(x, self.weight, self._eps, self._unit_offset)

    def of_sum(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The norm of x + y, and x + y: [tokens, width] each."""
        return rms_norm_of_sum(x.contiguous(), y.contiguous(), self.weight, self._eps, self._unit_offset)


class _FusedBlock(nn.Module):
    """A block whose first sum and second norm are one kernel."""

    def __init__(self, block: Block, norm: _FusedNorm) -> None:
        super().__init__()
        self.attention_norm, self.attention = block.attention_norm, block.attention
        self.feedforward_norm, self.feedforward = norm, block.feedforward

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        context: AttentionContext,
        source: Source | None = None,
    ) -> Tensor:
        """See Block.forward."""
        attended = self.attention(self.attention_norm(x), rotary, context)
        normed, x = self.feedforward_norm.of_sum(x, attended)
        out: Tensor = x + self.feedforward(normed)
        return out


class _FusedFeedForward(nn.Module):
    def __init__(self, feedforward: FeedForward) -> None:
        super().__init__()
        self.up, self.down, self._activation = feedforward.up, feedforward.down, feedforward.activation

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        out: Tensor = self.down(gated(self.up(x), self._activation))
        return out


class _FusedAttention(nn.Module):
    """Attention that turns and keeps in one kernel where the context is that of a pass of fixed shapes."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.qkv, self.output = attention.qkv, attention.output
        # In a list, so that its modules are not here twice.
        self._inner = [attention]

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, context: AttentionContext) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        (inner,) = self._inner
        if not isinstance(context, PagedRows):
            # What an adapter puts in their place is put here.
            inner.qkv, inner.output = self.qkv, self.output
            return inner(x, rotary, context)
        keys, values = context.keys[inner.layer], context.values[inner.layer]
        q = turn_and_keep(self.qkv(x), rotary, keys, values, context.slots, inner.head_width)
        out: Tensor = self.output(context.look(inner.layer, q, inner.window, **inner.options).flatten(-2))
        return out
