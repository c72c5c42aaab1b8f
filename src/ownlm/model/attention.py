"""The second box: every token looks back at its own document.

The layer makes queries, keys and values and hands them to a *context*, which knows who may look at whom: ``Packed``
(packed.py: whole documents side by side, for training and scoring), the engine's cache (new tokens against old ones).
So the model itself knows nothing of packing, caches or batches.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from .config import ModelConfig
from .embedding import rotate
from .layers import Linear, RMSNorm, make_norm, split_columns


class AttentionContext(Protocol):
    """Who may look at whom."""

    def attend(
        self,
        layer: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        window: int | None,
        *,
        scale: float | None = None,
        softcap: float | None = None,
    ) -> Tensor:
        """Attention of one layer.

        q: [tokens, heads, head_width]; k, v: [tokens, kv_heads, head_width]; window: how many tokens back a token
        sees, itself included, or None for all; scale: what scores are multiplied by, None for 1 / sqrt(head_width);
        softcap: scores are bent to within it. Returns [tokens, heads, head_width].
        """
        ...


class Attention(nn.Module):
    """Multi-head attention with grouped keys and values; query, key and value are one product."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_width = config.heads, config.kv_heads, config.head_width
        self.window = config.window_of(layer)
        # Only what differs from the usual is handed on.
        unusual = {"scale": config.attention_scale, "softcap": config.attention_softcap}
        self.options = {name: value for name, value in unusual.items() if value is not None}
        self.qkv = Linear(config.width, config.qkv_widths, config.qkv_bias)
        self.output = Linear(config.heads * config.head_width, config.width, config.output_bias)
        self.q_norm = _head_norm(config)
        self.k_norm = _head_norm(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, context: AttentionContext) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        q, k, v = split_columns(self.qkv(x), self.qkv.segments)
        q = q.unflatten(-1, (self.heads, self.head_width))
        k = k.unflatten(-1, (self.kv_heads, self.head_width))
        v = v.unflatten(-1, (self.kv_heads, self.head_width))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        return self.output(context.attend(self.layer, q, k, v, self.window, **self.options).flatten(-2))


def _head_norm(config: ModelConfig) -> RMSNorm | None:
    if not config.qk_norm:
        return None
    norm = make_norm("rmsnorm", config.head_width, config.norm_eps, config.norm_unit_offset)
    assert isinstance(norm, RMSNorm)
    return norm
