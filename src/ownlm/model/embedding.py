"""The first box: tokens and their places become vectors."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig


class Embedding(nn.Module):
    """Token vectors, plus learned position vectors where the family has them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.width)
        self.position = nn.Embedding(config.max_positions, config.width) if config.position == "learned" else None

    def forward(self, tokens: Tensor, positions: Tensor, dtype: torch.dtype) -> Tensor:
        """tokens, positions: [tokens] -> [tokens, width] in ``dtype``."""
        x = F.embedding(tokens, self.token.weight)
        if self.position is not None:
            x = x + F.embedding(positions, self.position.weight)
        return x.to(dtype)


def rotary_frequencies(config: ModelConfig) -> Tensor:
    """The angle, in radians, by which each pair of dimensions turns from one position to the next: [head_width / 2].

    Su et al. 2021, with linear interpolation or Llama 3.1's rule where the config stretches the context.
    """
    exponents = torch.arange(0, config.head_width, 2, dtype=torch.int64).float() / config.head_width
    frequencies = 1.0 / (config.rope_theta**exponents)
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

    x: [tokens, heads, head_width]; cos, sin: [tokens, 1, head_width / 2].
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
