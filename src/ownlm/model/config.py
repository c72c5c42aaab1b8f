"""ModelConfig: everything that decides the shape of a network, and nothing that decides how it runs."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import model_validator

from ..config import Config

# Above any model's; two of them multiplied still count a tensor's numbers.
LARGEST = 1 << 28


class RopeScaling(Config):
    """How rotary frequencies are stretched beyond the length a model was first trained for."""

    kind: Literal["linear", "llama3"]
    """Linear interpolation (Chen et al. 2023), or Llama 3.1's by-wavelength rule."""
    factor: float
    """How many times longer the context becomes."""
    low_frequency_factor: float = 1.0
    """Llama 3: wavelengths above original_max_positions / this are stretched in full."""
    high_frequency_factor: float = 4.0
    """Llama 3: wavelengths below original_max_positions / this are left alone."""
    original_max_positions: int = 8192
    """Llama 3: the length of the first training."""

    @model_validator(mode="after")
    def _fits(self) -> RopeScaling:
        _check_positive(self, "factor", "low_frequency_factor", "high_frequency_factor", "original_max_positions")
        if self.kind == "llama3" and self.low_frequency_factor >= self.high_frequency_factor:
            raise ValueError("low_frequency_factor must be below high_frequency_factor")
        return self


class ModelConfig(Config):
    """The shape of a transformer, in the field's own terms.

    Every family is a point in this space: GPT-2 is layer norm, learned positions, biases and an ungated GELU; Llama is
    RMS norm, rotary positions, grouped heads, no biases and a gated SiLU; BERT looks both ways and norms afterwards.
    """

    family: str
    """The architecture's family: it decides the names of weights and keys in the saved folder."""
    layers: int
    """Number of transformer blocks; of an encoder and a decoder, the decoder's."""
    encoder_layers: int = 0
    """Number of an encoder's blocks, whose output each block of the decoder looks at (Vaswani et al. 2017); 0 is no
    encoder beside it."""
    width: int
    """Size of the residual stream (hidden size)."""
    heads: int
    """Number of query heads."""
    kv_heads: int
    """Number of key and value heads; fewer than heads is grouped-query attention (Ainslie et al. 2023)."""
    head_width: int
    """Size of one head."""
    feedforward_width: int
    """Inner size of the feedforward network."""
    vocab_size: int
    """Number of tokens in the vocabulary."""
    max_positions: int
    """The longest document the model reads, in tokens."""
    causal: bool = True
    """Whether a token sees only what stands before it; an encoder (BERT) sees the whole document."""
    norm: Literal["layernorm", "rmsnorm"]
    """The normalisation."""
    norm_eps: float
    """The small number added to the variance."""
    norm_unit_offset: bool = False
    """Whether a norm multiplies by 1 + its weight (Gemma)."""
    norm_position: Literal["pre", "post", "both"] = "pre"
    """Where a block norms: before attention and feedforward and once at the end (GPT-2), after adding to the stream
    (Vaswani et al. 2017, BERT), or before them and on what they give (Gemma 2)."""
    parallel: bool = False
    """Whether attention and feedforward read the same stream and are added together (GPT-NeoX)."""
    activation: Literal["gelu", "gelu_tanh", "silu", "relu"]
    """The feedforward's non-linearity."""
    gated: bool
    """Whether the activation gates a second projection (SwiGLU, Shazeer 2020)."""
    position: Literal["learned", "rotary", "sinusoidal"]
    """How a token knows its place."""
    position_offset: int = 0
    """Learned positions begin at this row of their table, which is that much longer (RoBERTa: 2)."""
    rope_theta: float = 10000.0
    """Rotary base (Su et al. 2021)."""
    rope_scaling: RopeScaling | None = None
    """Stretching of the rotary frequencies."""
    local_rope_theta: float | None = None
    """Rotary base of the layers with a sliding window, unstretched, where it is another (Gemma 3)."""
    rotary_width: int | None = None
    """How many dimensions of a head turn; none is all (GPT-NeoX turns a quarter)."""
    embedding_norm: bool = False
    """A norm on the sum of the embeddings (BERT)."""
    embedding_scale: bool = False
    """Whether token vectors are multiplied by the root of the width (Vaswani et al. 2017, Gemma)."""
    segments: int = 0
    """How many kinds of segment have a vector of their own (BERT's sentence A and B: 2)."""
    qkv_bias: bool = False
    """Biases on the query, key and value projections."""
    output_bias: bool = False
    """A bias on attention's output projection."""
    feedforward_bias: bool = False
    """Biases on the feedforward's projections."""
    qk_norm: bool = False
    """RMS norm of each query and key head (Qwen3)."""
    sliding_window: int | None = None
    """If set, a token sees only this many tokens back, itself included (Mistral)."""
    windowed_layers: tuple[int, ...] | None = None
    """The layers, from 0, that have the sliding window; none is all of them."""
    attention_scale: float | None = None
    """What scores are multiplied by; none is 1 / sqrt(head_width)."""
    attention_softcap: float | None = None
    """Scores are bent to within this (Gemma 2)."""
    logit_softcap: float | None = None
    """Logits are bent to within this (Gemma 2)."""
    tied_head: bool = True
    """Whether the output head is the token embedding."""
    head: Literal["lm", "seq2seq", "masked", "classify", "span", "none"] = "lm"
    """What the stream becomes: next tokens, those of a text made from another, hidden tokens, labels of a document, the
    ends of an answer, or nothing."""
    start_token: int | None = None
    """The id that a text made from another begins with, and that is no part of it (Marian: padding)."""
    head_activation: Literal["none", "tanh", "relu"] = "none"
    """Of a classification head's own dense layer; none is no such layer."""
    pool: Literal["first", "last"] = "last"
    """The token by which a document is classified."""
    labels: tuple[str, ...] = ()
    """The names of the classes, in order; of a regression, of its numbers."""
    problem: Literal["single", "multi", "regression"] = "single"
    """Whether a document has one class, any number of them, or numbers."""
    next_sentence: bool = False
    """Whether a masked-language head also tells if a pair's second half follows its first (BERT)."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""
    residual_initializer_range: float | None = None
    """Of the two projections of a layer back into the stream; none is initializer_range / sqrt(2 x layers)."""

    @model_validator(mode="after")
    def _numbers_are_a_models(self) -> ModelConfig:
        for name in (
            "layers",
            "width",
            "heads",
            "kv_heads",
            "head_width",
            "feedforward_width",
            "vocab_size",
            "max_positions",
        ):
            _check_whole(self, name, 1)
        for name in ("segments", "position_offset", "encoder_layers"):
            _check_whole(self, name, 0)
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError("sliding_window must be at least 1")
        for name in ("norm_eps", "initializer_range"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite")
        _check_positive(self, "rope_theta", "local_rope_theta", "attention_scale", "attention_softcap", "logit_softcap")
        return self

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
        if self.heads * self.head_width > LARGEST:
            raise ValueError(f"heads x head_width must be at most {LARGEST}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.position == "rotary" and self.turning_width % 2:
            name = "head_width" if self.rotary_width is None else "rotary_width"
            raise ValueError(f"{name} ({self.turning_width}) must be even for rotary positions")
        if not 0 <= self.turning_width <= self.head_width:
            raise ValueError(f"rotary_width ({self.rotary_width}) must be from 0 to head_width ({self.head_width})")
        if self.windowed_layers is not None and any(not 0 <= layer < self.layers for layer in self.windowed_layers):
            raise ValueError(f"windowed_layers must name layers from 0 to {self.layers - 1}")
        if self.head == "classify" and not self.labels:
            raise ValueError("a classification head needs labels")
        if self.head == "lm" and not self.causal:
            raise ValueError("a model that sees what comes next cannot predict it: its head is 'masked'")
        if (self.head == "seq2seq") != (self.encoder_layers > 0):
            raise ValueError("the head 'seq2seq' and encoder_layers go together")
        if self.encoder_layers < 0 or (self.encoder_layers and self.norm_position != "post"):
            raise ValueError("an encoder and a decoder norm after adding to the stream")
        if self.head == "masked" and self.causal:
            raise ValueError("a model that sees only what stands before has the head 'lm', not 'masked'")
        return self

    @property
    def qkv_widths(self) -> tuple[int, int, int]:
        """Output sizes of the query, key and value projections."""
        kv = self.kv_heads * self.head_width
        return self.heads * self.head_width, kv, kv

    @property
    def turning_width(self) -> int:
        """How many dimensions of a head rotary positions turn."""
        return self.head_width if self.rotary_width is None else self.rotary_width

    def window_of(self, layer: int) -> int | None:
        """The sliding window of a layer, or None where it sees everything."""
        if self.windowed_layers is not None and layer not in self.windowed_layers:
            return None
        return self.sliding_window

    def parameters(self) -> int:
        """The exact number of parameters, counted by arithmetic; a tied head counts once."""
        queries, keys, values = self.qkv_widths
        norm = self.width * (2 if self.norm == "layernorm" else 1)
        attention = self.width * (queries + keys + values) + (queries + keys + values) * self.qkv_bias
        attention += queries * self.width + self.width * self.output_bias + 2 * self.head_width * self.qk_norm
        inner = self.feedforward_width * (2 if self.gated else 1)
        feedforward = self.width * inner + self.feedforward_width * self.width
        feedforward += (inner + self.width) * self.feedforward_bias
        norms = 4 if self.norm_position == "both" else 2
        learned = (self.max_positions + self.position_offset) * self.width * (self.position == "learned")
        embedding = self.vocab_size * self.width + learned + self.segments * self.width + norm * self.embedding_norm
        final = norm * (self.norm_position != "post")
        blocks = (self.layers + self.encoder_layers) * (attention + feedforward + norms * norm)
        cross = self.layers * (attention + norm) if self.encoder_layers else 0
        return embedding + blocks + cross + final + self._head_parameters()

    def _head_parameters(self) -> int:
        width = self.width
        dense = width * width + width
        if self.head == "lm":
            return 0 if self.tied_head else self.vocab_size * width
        if self.head == "seq2seq":
            return self.vocab_size + (0 if self.tied_head else self.vocab_size * width)
        if self.head == "masked":
            pair = dense + 2 * width + 2 if self.next_sentence else 0
            return dense + 2 * width + self.vocab_size + (0 if self.tied_head else self.vocab_size * width) + pair
        if self.head == "classify":
            inner = dense if self.head_activation != "none" else 0
            return inner + len(self.labels) * (width + (self.head_activation != "none"))
        return 2 * width + 2 if self.head == "span" else 0

    def flops_per_token(self, length: int) -> float:
        """Forward and backward floating-point operations of one trained token, in documents of ``length`` tokens.

        Six per parameter of every matrix product, a vocabulary's head included, and attention's two products, of which
        a causal model needs half (Kaplan et al. 2020; Chowdhery et al. 2022, appendix B). With an encoder, of a pair
        whose two texts are equally long: each token is one of them.
        """
        queries, keys, values = self.qkv_widths
        per_layer = self.width * (2 * queries + keys + values)
        per_layer += self.width * self.feedforward_width * (3 if self.gated else 2)
        attention = 0.0
        for layer in range(self.layers):
            window = self.window_of(layer)
            seen = length if window is None else min(length, window * (1 if self.causal else 2))
            # A causal query sees half of a document on average, and all of its window once it is past it.
            mean = seen - seen * seen / (2 * length) if self.causal else seen
            attention += 12 * queries * mean
        head = self.vocab_size * self.width if self.head in ("lm", "masked", "seq2seq") else 0
        if self.encoder_layers:
            cross = self.width * (2 * queries + keys + values)
            blocks = (self.layers + self.encoder_layers) * per_layer + self.layers * cross
            # An encoder's token sees its whole text, a decoder's half of its own and all of the other.
            products = 12 * queries * length * (self.encoder_layers + 1.5 * self.layers)
            return (6 * (blocks + head) + products) / 2
        return 6 * (self.layers * per_layer + head) + attention


def _check_whole(config: Config, name: str, least: int) -> None:
    value = getattr(config, name)
    if value < least:
        raise ValueError(f"{name} must be at least {least}")
    if value > LARGEST:
        raise ValueError(f"{name} must be at most {LARGEST:,}")


def _check_positive(config: Config, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0 and finite")
