"""What a user asks of an adapter."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from ...config import Config
from ..quantized import Kind


class LoraConfig(Config):
    """Low-rank adapters beside chosen projections."""

    kind: Literal["lora", "dora"] = "lora"
    """lora: two small matrices a projection (Hu et al. 2021). dora: and the length of each of its rows (Liu et al.
    2024)."""
    rank: int = 16
    """Inner size of the two matrices."""
    alpha: float | None = Field(default=None, allow_inf_nan=False)
    """The update is scaled by alpha / rank; none is 2 x rank, for rslora 8."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead, so that high ranks learn as fast as low ones (Kalajdzievski 2023)."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on what the two matrices read."""
    targets: str | list[str] = "all-linear"
    """all-linear, or projections by the checkpoint's names (q_proj, gate_proj, ...) or ours (qkv, output, up, down)."""
    quantize_base: Literal["none", "int8", "nf4"] = "none"
    """Keep the frozen projections in 8 bits, or in the 4 bits of QLoRA (Dettmers et al. 2023), while training."""
    double_quantize: bool = True
    """Keep the scales of a quantized base in 8 bits too."""

    @property
    def strength(self) -> float:
        """Alpha, filled in."""
        if self.alpha is not None:
            return self.alpha
        # As strong at the usual rank as the default without rslora.
        return 8 if self.rslora else 2 * self.rank

    @property
    def scale(self) -> float:
        """What the update is multiplied by."""
        return self.strength / (math.sqrt(self.rank) if self.rslora else self.rank)

    @property
    def quantizes(self) -> Kind | None:
        """How the base is quantized, if it is."""
        return None if self.quantize_base == "none" else self.quantize_base
