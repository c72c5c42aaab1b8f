"""The stack: embedding, blocks of attention and feedforward, a last norm, and the head.

      logits [tokens, vocab]
        |  head                      (the token embedding again, where tied)
        |  final norm
    +---|------------------------+
    |   + <- feedforward <- norm |
    |   + <- attention   <- norm |   x layers
    +---|------------------------+
        |  embedding
      tokens, positions [tokens]

Everything is flat: ``tokens`` holds whole documents one after another with no padding, and the attention context says
where they begin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, AttentionContext
from .config import ModelConfig
from .cross_entropy import linear_cross_entropy, token_losses
from .embedding import Embedding, rotary_frequencies, rotary_tables
from .feedforward import FeedForward
from .layers import LayerNorm, Linear, RMSNorm, make_norm
from .packed import Packed, rounded_rows


class Block(nn.Module):
    """One layer: attention, then feedforward, each on a normed copy of the stream and added back to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = make_norm(config.norm, config.width, config.norm_eps)
        self.attention = Attention(config, layer)
        self.feedforward_norm = make_norm(config.norm, config.width, config.norm_eps)
        self.feedforward = FeedForward(config)
        self.dropout = 0.0

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, context: AttentionContext) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        x = x + self._drop(self.attention(self.attention_norm(x), rotary, context))
        return x + self._drop(self.feedforward(self.feedforward_norm(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Transformer(nn.Module):
    """A decoder-only language model of any of our families.

    The stream runs in ``compute_dtype`` whatever the weights are stored in.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        # Where it was loaded from, so that its tokenizer can be found.
        self.source: Path | None = None
        self.embedding = Embedding(config)
        self.layers = nn.ModuleList(Block(config, layer) for layer in range(config.layers))
        self.final_norm = make_norm(config.norm, config.width, config.norm_eps)
        self.head = None if config.tied_head else Linear(config.width, config.vocab_size, bias=False)
        self.frequencies: Tensor | None
        frequencies = rotary_frequencies(config) if config.position == "rotary" else None
        self.register_buffer("frequencies", frequencies, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.token.weight.device

    @property
    def head_weight(self) -> Tensor:
        """[vocab, width]."""
        return self.embedding.token.weight if self.head is None else self.head.weight

    def forward(self, tokens: Tensor, positions: Tensor, context: AttentionContext) -> Tensor:
        """tokens, positions: [tokens] -> the last norm's output: [tokens, width]."""
        x = self.embedding(tokens, positions, self.compute_dtype)
        rotary = None
        if self.frequencies is not None:
            rotary = rotary_tables(self.frequencies, positions, self.compute_dtype)
        for block in self.layers:
            x = block(x, rotary, context)
        return self.final_norm(x)

    def logits_of(self, hidden: Tensor) -> Tensor:
        """hidden: [tokens, width] -> float32 logits: [tokens, vocab]."""
        return F.linear(hidden, self.head_weight.to(hidden.dtype)).float()

    def loss(
        self, tokens: Tensor, positions: Tensor, starts: Sequence[int], targets: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum of next-token losses in nats and the number of trained tokens; arguments as in Batch."""
        rows = rounded_rows(len(tokens), tokens.device)
        tokens, positions, targets, weights = (_filled(x, rows) for x in (tokens, positions, targets, weights))
        hidden = self(tokens, positions, Packed(starts, rows))
        return linear_cross_entropy(hidden, self.head_weight, targets, weights)

    @torch.no_grad()
    def logits(self, documents: Sequence[Sequence[int]]) -> list[Tensor]:
        """Float32 logits of every position of every document, each [length, vocab], all in one packed pass."""
        hidden, starts, _ = self._read(documents)
        return [self.logits_of(hidden[a:b]) for a, b in itertools.pairwise(starts)]

    @torch.no_grad()
    def losses(self, documents: Sequence[Sequence[int]]) -> list[Tensor]:
        """The loss in nats of each token after the first, given those before it: per document [length - 1]."""
        hidden, starts, tokens = self._read(documents)
        losses = token_losses(hidden, self.head_weight, tokens.roll(-1))
        return [losses[a : b - 1] for a, b in itertools.pairwise(starts)]

    def _read(self, documents: Sequence[Sequence[int]]) -> tuple[Tensor, list[int], Tensor]:
        """One packed pass: (hidden [rows, width], where the documents begin and the last ends, tokens [rows])."""
        starts = list(itertools.accumulate(map(len, documents), initial=0))
        rows = rounded_rows(starts[-1], self.device)
        tokens = torch.tensor([t for document in documents for t in document], device=self.device, dtype=torch.int64)
        positions = torch.cat([torch.arange(len(document), device=self.device) for document in documents])
        tokens, positions = _filled(tokens, rows), _filled(positions, rows)
        return self(tokens, positions, Packed(starts, rows)), starts, tokens

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Transformer:
        """Moves with the rest, but keeps its rotary frequencies in float32: narrower ones turn far positions wrong."""
        super()._apply(fn, recurse)
        if self.frequencies is not None and self.frequencies.dtype != torch.float32:
            self.frequencies = rotary_frequencies(self.config).to(self.frequencies.device)
        return self

    def set_dropout(self, probability: float) -> None:
        """Dropout on what each block adds to the stream, while training."""
        for block in self.modules():
            if isinstance(block, Block):
                block.dropout = probability

    def compile_parts(self) -> None:
        """Compiles what is the same whatever the packing: every feedforward network and norm."""
        for module in self.modules():
            if isinstance(module, FeedForward | LayerNorm | RMSNorm):
                module.compile(dynamic=True)

    def initialize(self, seed: int) -> None:
        """Random weights, drawn on the CPU so that every machine gets the same ones.

        | weight | drawn from |
        |---|---|
        | matrices and embeddings | normal(0, initializer_range) |
        | the two projections back into the stream | the same over sqrt(2 x layers) (Radford et al. 2019) |
        | biases; norms | 0; 1 |
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                values = torch.zeros(parameter.shape)
            elif "norm" in name:
                values = torch.ones(parameter.shape)
            else:
                scale = self.config.initializer_range
                if name.endswith(("attention.output.weight", "feedforward.down.weight")):
                    scale /= math.sqrt(2 * self.config.layers)
                values = torch.randn(parameter.shape, generator=generator) * scale
            with torch.no_grad():
                parameter.copy_(values)


def _filled(x: Tensor, rows: int) -> Tensor:
    """x: [tokens] with zeros after them: [rows]."""
    return F.pad(x, (0, rows - len(x))) if rows > len(x) else x
