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

With an encoder beside it (``encoder_layers``), each block also looks at what that made of another text, between its
attention and its feedforward.

Everything is flat: ``tokens`` holds whole documents one after another with no padding, and the attention context says
where they begin.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .attention import Attention, AttentionContext
from .config import ModelConfig
from .cross import CrossAttention, Source, SourceTokens
from .cross_entropy import chosen_rows, linear_cross_entropy, token_losses
from .embedding import Embedding, rotary_frequencies, rotary_tables
from .feedforward import FeedForward
from .head import ClassifyHead, MaskedHead, SequenceHead, make_head
from .layers import LayerNorm, RMSNorm, make_norm, norm_beside
from .packed import Cross, Packed, rounded_rows


class Block(nn.Module):
    """One layer: attention, then feedforward, each added to the stream, with norms where the family has them.

    Args:
        config: the model's.
        layer: its number, from 0.
        looks: whether it looks at an encoder's output in between.
    """

    def __init__(self, config: ModelConfig, layer: int, looks: bool = False) -> None:
        super().__init__()
        self.norm_position, self.parallel = config.norm_position, config.parallel
        self.attention_norm = norm_of(config)
        self.attention = Attention(config, layer)
        self.cross = CrossAttention(config, layer) if looks else None
        self.cross_norm = norm_of(config) if looks else None
        self.feedforward_norm = norm_of(config)
        self.feedforward = FeedForward(config)
        both = config.norm_position == "both"
        self.attention_out_norm = norm_of(config) if both else None
        self.feedforward_out_norm = norm_of(config) if both else None
        self.dropout = 0.0

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None,
        context: AttentionContext,
        source: Source | None = None,
    ) -> Tensor:
        """x: [tokens, width] -> [tokens, width]."""
        if self.norm_position == "post":
            x = self.attention_norm(x + self._drop(self.attention(x, rotary, context)))
            if source is not None and self.cross is not None and self.cross_norm is not None:
                x = self.cross_norm(x + self._drop(self.cross(x, source)))
            return self.feedforward_norm(x + self._drop(self.feedforward(x)))
        normed, x = norm_beside(self.attention_norm, x)
        attended = self.attention(normed, rotary, context)
        if self.parallel:
            normed, x = norm_beside(self.feedforward_norm, x)
            return x + self._drop(attended) + self._drop(self.feedforward(normed))
        if self.attention_out_norm is None or self.feedforward_out_norm is None:
            normed, x = norm_beside(self.feedforward_norm, x + self._drop(attended))
            return x + self._drop(self.feedforward(normed))
        normed, x = norm_beside(self.feedforward_norm, x + self._drop(self.attention_out_norm(attended)))
        return x + self._drop(self.feedforward_out_norm(self.feedforward(normed)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x


class Transformer(nn.Module):
    """A language model of any of our families, decoder or encoder.

    The stream runs in ``compute_dtype`` whatever the weights are stored in.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        self._recomputed = 0
        # Whether what is the same whatever the packing is compiled (``compile_parts``).
        self.compiled = False
        # Where it was loaded from, so that its tokenizer can be found.
        self.source: Path | None = None
        self.embedding = Embedding(config)
        both = config.encoder_layers > 0
        self.encoder = nn.ModuleList(Block(config, layer) for layer in range(config.encoder_layers)) if both else None
        self.layers = nn.ModuleList(Block(config, layer, looks=both) for layer in range(config.layers))
        # The layers that turn otherwise than those that see everything.
        turns = config.local_rope_theta is not None
        self._local = [turns and config.window_of(layer) is not None for layer in range(config.layers)]
        self.final_norm = None if config.norm_position == "post" else norm_of(config)
        self.head = make_head(config)
        self.frequencies: Tensor | None
        frequencies = rotary_frequencies(config) if config.position == "rotary" else None
        self.register_buffer("frequencies", frequencies, persistent=False)

    @property
    def recomputed(self) -> int:
        """How many blocks, from the first, are computed again in the backward pass to save memory."""
        return self._recomputed

    @recomputed.setter
    def recomputed(self, count: int) -> None:
        self._recomputed = count
        for blocks in (self.encoder or (), self.layers):
            for layer, block in enumerate(blocks):
                assert isinstance(block, Block)
                block.feedforward.spares = layer >= count

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.token.weight.device

    @property
    def blocks(self) -> list[nn.Module]:
        """Every block, an encoder's first."""
        return [*(self.encoder or ()), *self.layers]

    @property
    def head_weight(self) -> Tensor:
        """What predictions over the vocabulary are multiplied by: [vocab, width]."""
        own = getattr(self.head, "weight", None)
        return self.embedding.take_head_weight() if own is None else own

    @property
    def head_bias(self) -> Tensor | None:
        """What is added to logits over the vocabulary: [vocab], or None."""
        return self.head.bias if isinstance(self.head, MaskedHead | SequenceHead) else None

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        context: AttentionContext,
        segments: Tensor | None = None,
        source: Source | SourceTokens | None = None,
    ) -> Tensor:
        """tokens, positions, segments: [tokens] -> the stream after the last block and norm: [tokens, width].

        source: what a model with an encoder looks at; tokens are encoded first, and need a ``Packed`` context.
        """
        if isinstance(source, SourceTokens):
            # In here and not apart, so that whoever spreads the weights gathers them for both.
            assert isinstance(context, Packed)
            source = Source(self.encode(source), Cross(context.starts, source.starts))
        x = self.embedding(tokens, positions, self.compute_dtype, segments)
        everywhere, windowed = self._rotary(positions)
        for layer, (block, local) in enumerate(zip(self.layers, self._local, strict=True)):
            x = self._run(block, layer, x, windowed if local else everywhere, context, source)
        return x if self.final_norm is None else self.final_norm(x)

    def encode(self, source: SourceTokens) -> Tensor:
        """The encoder's stream of packed source documents: [at least source tokens, width]."""
        assert self.encoder is not None, "the model has an encoder"
        rows = rounded_rows(len(source.tokens), source.tokens.device)
        context = Packed(source.starts, rows, causal=False)
        x = self.embedding(_filled(source.tokens, rows), _filled(source.positions, rows), self.compute_dtype)
        for layer, block in enumerate(self.encoder):
            x = self._run(block, layer, x, None, context, None)
        return x

    def _run(self, block: nn.Module, layer: int, *arguments: Any) -> Tensor:
        again = self.recomputed if self.training and torch.is_grad_enabled() else 0
        # Only the block's input is kept then, and the block runs once more in the backward pass (Chen et al. 2016).
        result: Tensor = checkpoint(block, *arguments, use_reentrant=False) if layer < again else block(*arguments)
        return result

    def _rotary(self, positions: Tensor) -> tuple[tuple[Tensor, Tensor] | None, tuple[Tensor, Tensor] | None]:
        """The rotary tables of layers that see everything and of windowed ones, which may turn otherwise."""
        if self.frequencies is None:
            return None, None
        rows = self.frequencies if self.frequencies.ndim == 2 else self.frequencies.unsqueeze(0)
        tables = [rotary_tables(row, positions, self.compute_dtype) for row in rows]
        return tables[0], tables[-1]

    def read(
        self,
        tokens: Tensor,
        positions: Tensor,
        starts: Sequence[int],
        segments: Tensor | None = None,
        source: SourceTokens | None = None,
    ) -> Tensor:
        """The stream of packed documents; arguments as in Batch: [at least tokens, width].

        source: of a model with an encoder, each document's source.

        On a CPU there are more rows than tokens, whose values mean nothing (see packed.rounded_rows).
        """
        rows = rounded_rows(len(tokens), tokens.device)
        tokens, positions = _filled(tokens, rows), _filled(positions, rows)
        segments = None if segments is None else _filled(segments, rows)
        more: dict[str, Any] = {} if source is None else {"source": source}
        return self(tokens, positions, Packed(starts, rows, **self._sight), segments, **more)

    @property
    def _sight(self) -> dict[str, bool]:
        return {} if self.config.causal else {"causal": False}

    def logits_of(self, hidden: Tensor) -> Tensor:
        """hidden: [tokens, width] -> float32 logits: [tokens, vocab]."""
        if isinstance(self.head, MaskedHead):
            hidden = self.head(hidden)
        bias = None if self.head_bias is None else self.head_bias.to(hidden.dtype)
        logits = F.linear(hidden, self.head_weight.to(hidden.dtype), bias).float()
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def loss(
        self,
        tokens: Tensor,
        positions: Tensor,
        starts: Sequence[int],
        targets: Tensor,
        weights: Tensor,
        segments: Tensor | None = None,
        smoothing: float = 0.0,
        rows: Tensor | None = None,
    ) -> tuple[Tensor, int]:
        """The weighted sum of losses over the vocabulary in nats and the number of trained tokens.

        Arguments as in Batch; smoothing is the share of the target's probability spread over all tokens.
        """
        hidden = self.read(tokens, positions, starts, segments)
        return self.loss_of(hidden, targets, weights, smoothing, rows)

    def loss_of(
        self, hidden: Tensor, targets: Tensor, weights: Tensor, smoothing: float = 0.0, rows: Tensor | None = None
    ) -> tuple[Tensor, int]:
        """The same from the stream that ``read`` gave; targets, weights: [tokens]; rows: [trained tokens]."""
        targets, weights = _filled(targets, len(hidden)), _filled(weights, len(hidden))
        hidden, targets, weights, count = chosen_rows(hidden, targets, weights, rows)
        if isinstance(self.head, MaskedHead):
            # Few tokens are hidden, and only these come to the head's own dense layer.
            hidden = self.head(hidden)
        options: dict[str, Any] = {"smoothing": smoothing, "softcap": self.config.logit_softcap}
        options["compiled"] = self.compiled
        return linear_cross_entropy(hidden, self.head_weight, targets, weights, self.head_bias, **options), count

    @torch.no_grad()
    def hidden_states(self, documents: Sequence[Sequence[int]]) -> list[Tensor]:
        """The stream at every position of every document, each [length, width], all in one packed pass."""
        hidden, starts, _ = self._read(documents)
        return [hidden[a:b] for a, b in itertools.pairwise(starts)]

    @torch.no_grad()
    def logits(self, documents: Sequence[Sequence[int]]) -> list[Tensor]:
        """Float32 logits of every position of every document, each [length, vocab], all in one packed pass."""
        hidden, starts, _ = self._read(documents)
        return [self.logits_of(hidden[a:b]) for a, b in itertools.pairwise(starts)]

    @torch.no_grad()
    def losses(self, documents: Sequence[Sequence[int]]) -> list[Tensor]:
        """The loss in nats of each token after the first, given those before it: per document [length - 1]."""
        hidden, starts, tokens = self._read(documents)
        losses = token_losses(hidden, self.head_weight, tokens.roll(-1), softcap=self.config.logit_softcap)
        return [losses[a : b - 1] for a, b in itertools.pairwise(starts)]

    def _read(self, documents: Sequence[Sequence[int]]) -> tuple[Tensor, list[int], Tensor]:
        """One packed pass: (hidden [rows, width], where the documents begin and the last ends, tokens [rows])."""
        starts = list(itertools.accumulate(map(len, documents), initial=0))
        tokens = torch.tensor([t for document in documents for t in document], device=self.device, dtype=torch.int64)
        positions = torch.cat([torch.arange(len(document), device=self.device) for document in documents])
        hidden = self.read(tokens, positions, starts)
        return hidden, starts, _filled(tokens, len(hidden))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Transformer:
        """Moves with the rest, but keeps its rotary frequencies in float32: narrower ones turn far positions wrong."""
        super()._apply(fn, recurse)
        if self.frequencies is not None and self.frequencies.dtype != torch.float32:
            self.frequencies = rotary_frequencies(self.config).to(self.frequencies.device)
        return self

    def set_dropout(self, probability: float) -> None:
        """Dropout on what each block adds to the stream, and before a classification, while training."""
        for module in self.modules():
            if isinstance(module, Block | ClassifyHead):
                module.dropout = probability

    def compile_parts(self) -> None:
        """Compiles what is the same whatever the packing: every feedforward network and norm, and the loss's softmax."""
        self.compiled = True
        for module in self.modules():
            if isinstance(module, FeedForward | LayerNorm | RMSNorm):
                module.compile(dynamic=True)

    def initialize(self, seed: int) -> None:
        """Random weights, drawn on the CPU so that every machine gets the same ones.

        | weight | drawn from |
        |---|---|
        | matrices and embeddings | normal(0, initializer_range) |
        | the two projections back into the stream | the same over sqrt(2 x layers) (Radford et al. 2019), or |
        | | normal(0, residual_initializer_range) where the family has its own |
        | biases; norms | 0; 1 (0 where a norm multiplies by 1 + its weight) |
        """
        self.initialize_some(seed, [name for name, _ in self.named_parameters()])

    def initialize_some(self, seed: int, names: Collection[str]) -> None:
        """The same for some of the parameters, such as a new head's."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name not in names:
                continue
            if name.endswith("bias"):
                values = torch.zeros(parameter.shape)
            elif "norm" in name:
                values = torch.full(parameter.shape, 0.0 if self.config.norm_unit_offset else 1.0)
            else:
                scale = self.config.initializer_range
                if name.endswith(("attention.output.weight", "feedforward.down.weight")):
                    own = self.config.residual_initializer_range
                    scale = scale / math.sqrt(2 * self.config.layers) if own is None else own
                values = torch.randn(parameter.shape, generator=generator) * scale
            with torch.no_grad():
                parameter.copy_(values)


def norm_of(config: ModelConfig) -> nn.Module:
    """A norm over the stream."""
    return make_norm(config.norm, config.width, config.norm_eps, config.norm_unit_offset)


def _filled(x: Tensor, rows: int) -> Tensor:
    """x: [tokens] with zeros after them: [rows]."""
    return F.pad(x, (0, rows - len(x))) if rows > len(x) else x
