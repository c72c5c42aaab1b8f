"""ModelConfig: everything that decides the shape of a network, and nothing that decides how it runs."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ..config import Config


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


class ModelConfig(Config):
    """The shape of a decoder-only transformer, in the field's own terms.

    Every family is a point in this space: GPT-2 is layer norm, learned positions, biases and an ungated GELU; Llama is
    RMS norm, rotary positions, grouped heads, no biases and a gated SiLU.
    """

    family: str
    """The architecture's family: it decides the names of weights and keys in the saved folder."""
    layers: int
    """Number of transformer blocks."""
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
    norm: Literal["layernorm", "rmsnorm"]
    """The normalisation before attention, before feedforward and at the end."""
    norm_eps: float
    """The small number added to the variance."""
    activation: Literal["gelu", "gelu_tanh", "silu", "relu"]
    """The feedforward's non-linearity."""
    gated: bool
    """Whether the activation gates a second projection (SwiGLU, Shazeer 2020)."""
    position: Literal["learned", "rotary"]
    """How a token knows its place."""
    rope_theta: float = 10000.0
    """Rotary base (Su et al. 2021)."""
    rope_scaling: RopeScaling | None = None
    """Stretching of the rotary frequencies."""
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
    tied_head: bool = True
    """Whether the output head is the token embedding."""
    initializer_range: float = 0.02
    """Standard deviation of the initial weights."""

    @model_validator(mode="after")
    def _fits(self) -> ModelConfig:
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
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.position == "rotary" and self.head_width % 2:
            raise ValueError(f"head_width ({self.head_width}) must be even for rotary positions")
        return self

    @property
    def qkv_widths(self) -> tuple[int, int, int]:
        """Output sizes of the query, key and value projections."""
        kv = self.kv_heads * self.head_width
        return self.heads * self.head_width, kv, kv

    def parameters(self) -> int:
        """The exact number of parameters, counted by arithmetic; a tied head counts once."""
        queries, keys, values = self.qkv_widths
        norm = self.width * (2 if self.norm == "layernorm" else 1)
        attention = self.width * (queries + keys + values) + (queries + keys + values) * self.qkv_bias
        attention += queries * self.width + self.width * self.output_bias + 2 * self.head_width * self.qk_norm
        inner = self.feedforward_width * (2 if self.gated else 1)
        feedforward = self.width * inner + self.feedforward_width * self.width
        feedforward += (inner + self.width) * self.feedforward_bias
        embedding = self.vocab_size * self.width * (1 if self.tied_head else 2)
        learned = self.max_positions * self.width * (self.position == "learned")
        return embedding + learned + self.layers * (attention + feedforward + 2 * norm) + norm

    def flops_per_token(self, length: int) -> float:
        """Forward and backward floating-point operations of one trained token, in documents of ``length`` tokens.

        Six per parameter of every matrix product, the head included, and the causal half of attention's two products
        (Kaplan et al. 2020; Chowdhery et al. 2022, appendix B).
        """
        queries, keys, values = self.qkv_widths
        per_layer = self.width * (2 * queries + keys + values)
        per_layer += self.width * self.feedforward_width * (3 if self.gated else 2)
        attention = 6 * self.layers * queries * length
        return 6 * (self.layers * per_layer + self.vocab_size * self.width) + attention
