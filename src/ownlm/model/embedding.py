"""The first box: tokens and their places become vectors."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .layers import make_norm


class Embedding(nn.Module):
    """Token vectors, plus those of their place and their segment where the family has them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width = config.width
        self.tied = config.tied_head and config.head in ("lm", "masked", "seq2seq")
        # The token vectors once more, for the head that is tied to them; see _Tied.
        self._for_head: Tensor | None = None
        self.scale = math.sqrt(config.width) if config.embedding_scale else 1.0
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.offset = config.position_offset
        rows = config.max_positions + config.position_offset
        self.position = nn.Embedding(rows, config.width) if config.position == "learned" else None
        self.sinusoidal = config.position == "sinusoidal"
        self.segment = nn.Embedding(config.segments, config.width) if config.segments else None
        self.norm = make_norm(config.norm, config.width, config.norm_eps) if config.embedding_norm else None

    def forward(self, tokens: Tensor, positions: Tensor, dtype: torch.dtype, segments: Tensor | None = None) -> Tensor:
        """tokens, positions: [tokens] -> [tokens, width] in ``dtype``; segments: [tokens], none is all 0."""
        x = self._looked_up(tokens)
        if self.scale != 1.0:
            # Rounded to the stream's dtype first, as the references do, and made on the device: no copy to wait for.
            x = x.to(dtype) * torch.full((), self.scale, dtype=dtype, device=x.device)
        if self.position is not None:
            x = x + F.embedding(positions + self.offset if self.offset else positions, self.position.weight)
        elif self.sinusoidal:
            x = x + sinusoids(positions, self.width).to(x.dtype)
        if self.segment is not None:
            weight = self.segment.weight
            x = x + (weight[0] if segments is None else F.embedding(segments, weight))
        x = x.to(dtype)
        return x if self.norm is None else self.norm(x)

    def __getstate__(self) -> dict[str, Any]:
        # What belongs to a graph cannot be copied.
        return self.__dict__ | {"_for_head": None}

    def take_head_weight(self) -> Tensor:
        """What a tied head multiplies by, once for each time tokens were read: [vocab, width]."""
        weight, self._for_head = self._for_head, None
        return self.token.weight if weight is None else weight

    def _looked_up(self, tokens: Tensor) -> Tensor:
        weight = self.token.weight
        self._for_head = None
        if self.tied and weight.device.type == "cpu" and torch.is_grad_enabled() and weight.requires_grad:
            x, self._for_head = _Tied.apply(weight, tokens)
            return x
        return F.embedding(tokens, weight)


class _Tied(torch.autograd.Function):
    """Token vectors, and all of them again for the head.

    In the backward pass the gradients of both are there together, so the few rows that were looked up are added to the
    head's. Autograd would make a second matrix of the vocabulary's size, of zeros but for these rows, and add it.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(tokens)
        ctx.set_materialize_grads(False)
        ctx.shape = weight.shape
        return F.embedding(tokens, weight), weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, whole: Tensor | None) -> tuple[Tensor | None, None]:
        (tokens,) = ctx.saved_tensors
        if grad is None:
            return whole, None
        if whole is None:
            whole = grad.new_zeros(ctx.shape)
        elif not whole.is_contiguous():
            whole = whole.contiguous()
        # In place: whoever makes a head's gradient makes it for this alone.
        return whole.index_add_(0, tokens, grad.to(whole.dtype)), None


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Vaswani et al. 2017, section 3.5, the sines first and then the cosines: [tokens] -> [tokens, width] float32."""
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device=positions.device) / width
    angles = positions.double().unsqueeze(-1) / 10000.0**exponents
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()[:, :width]


def rotary_frequencies(config: ModelConfig) -> Tensor:
    """The angle, in radians, by which each pair of dimensions turns from one position to the next: [rotary_width / 2].

    Su et al. 2021, with linear interpolation or Llama 3.1's rule where the config stretches the context. Of a model
    whose windowed layers turn otherwise, two rows: [2, rotary_width / 2], theirs the second.
    """
    exponents = torch.arange(0, config.turning_width, 2, dtype=torch.int64).float() / config.turning_width
    everywhere = _stretched(1.0 / (config.rope_theta**exponents), config)
    if config.local_rope_theta is None:
        return everywhere
    return torch.stack((everywhere, 1.0 / (config.local_rope_theta**exponents)))


def _stretched(frequencies: Tensor, config: ModelConfig) -> Tensor:
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    wavelengths = 2 * math.pi / frequencies
    longest = scaling.original_max_positions / scaling.low_frequency_factor
    shortest = scaling.original_max_positions / scaling.high_frequency_factor
    blend = (scaling.original_max_positions / wavelengths - scaling.low_frequency_factor) / (
        scaling.high_frequency_factor - scaling.low_frequency_factor
    )
    blended = (1 - blend) * frequencies / scaling.factor + blend * frequencies
    stretched = torch.where(wavelengths > longest, frequencies / scaling.factor, blended)
    return torch.where(wavelengths < shortest, frequencies, stretched)


def rotary_tables(frequencies: Tensor, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles: each [tokens, 1, head_width / 2] in ``dtype``."""
    angles = positions.float().unsqueeze(-1) * frequencies
    return angles.cos().to(dtype).unsqueeze(1), angles.sin().to(dtype).unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each head's halves against each other, as the Hugging Face layout of rotary weights expects.

    x: [tokens, heads, head_width]; cos, sin: [tokens, 1, rotary_width / 2]; dimensions beyond them stay.
    """
    turned = 2 * cos.shape[-1]
    rest = x[..., turned:]
    first, second = x[..., :turned].chunk(2, dim=-1)
    halves = (first * cos - second * sin, second * cos + first * sin)
    return torch.cat((*halves, rest) if rest.shape[-1] else halves, dim=-1)
