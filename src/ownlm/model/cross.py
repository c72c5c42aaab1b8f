"""A decoder's look at another text: cross-attention over what an encoder made of it (Vaswani et al. 2017, section 3.2.3).

Of packed documents every target sees the whole of its own source, and no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from .attention import AttentionContext
from .config import ModelConfig
from .layers import Linear


@dataclass(frozen=True)
class SourceTokens:
    """Packed source documents, one for each target.

    Attributes:
        tokens, positions: [source tokens] int64.
        starts: where each document begins, and the end of the last: [documents + 1].
    """

    tokens: Tensor
    positions: Tensor
    starts: Sequence[int]


@dataclass(frozen=True)
class Source:
    """What the decoder looks at.

    Attributes:
        hidden: the encoder's stream: [source rows, width].
        context: which target sees which part of it.
        kept: each layer's keys and values, by layer, where the same source is looked at again and again; None keeps
            none.
    """

    hidden: Tensor
    context: AttentionContext
    kept: dict[int, tuple[Tensor, Tensor]] | None = field(default=None, compare=False)


class CrossAttention(nn.Module):
    """Queries of the target over keys and values of the source; keys and values are one product."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads, self.kv_heads, self.head_width = config.heads, config.kv_heads, config.head_width
        queries, *both = config.qkv_widths
        self.query = Linear(config.width, queries, config.qkv_bias)
        self.key_value = Linear(config.width, both, config.qkv_bias)
        self.output = Linear(queries, config.width, config.output_bias)

    def forward(self, x: Tensor, source: Source) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        q = self.query(x).unflatten(-1, (self.heads, self.head_width))
        return self.output(source.context.attend(self.layer, q, *self._keys_values(source), None).flatten(-2))

    def _keys_values(self, source: Source) -> tuple[Tensor, Tensor]:
        """Each [source rows, kv_heads, head_width]."""
        if source.kept is not None and self.layer in source.kept:
            return source.kept[self.layer]
        k, v = self.key_value(source.hidden).split(self.key_value.segments, dim=-1)
        result = tuple(x.unflatten(-1, (self.kv_heads, self.head_width)) for x in (k, v))
        if source.kept is not None:
            source.kept[self.layer] = result[0], result[1]
        return result[0], result[1]
