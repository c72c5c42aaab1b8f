"""XLM-RoBERTa (Conneau et al. 2019): RoBERTa with a vocabulary for a hundred languages."""

from __future__ import annotations

from typing import Any

from . import roberta
from .roberta import defaults, from_hf, to_hf, weights

__all__ = ["SIZES", "defaults", "from_hf", "to_hf", "weights"]

SIZES: dict[str, dict[str, Any]] = {size: shape | {"vocab_size": 250002} for size, shape in roberta.SIZES.items()}
