"""BERT (Devlin et al. 2018): an encoder with learned positions, segments, and norms after adding to the stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from .encoder import encoder_defaults, encoder_from_hf, encoder_to_hf, encoder_weights
from .weights import Weight, masked_bias, renamed

_SHARED = {"vocab_size": 30522, "max_positions": 512}
# Devlin et al. 2018, section 3; the small ones of Turc et al. 2019, table 1.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": _SHARED | {"layers": 2, "width": 128, "heads": 2},
    "mini": _SHARED | {"layers": 4, "width": 256, "heads": 4},
    "small": _SHARED | {"layers": 4, "width": 512, "heads": 8},
    "medium": _SHARED | {"layers": 8, "width": 512, "heads": 8},
    "base": _SHARED | {"layers": 12, "width": 768, "heads": 12},
    "large": _SHARED | {"layers": 24, "width": 1024, "heads": 16},
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a BERT of the given width."""
    return encoder_defaults(values) | {"segments": 2}


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    values = encoder_from_hf(hf)
    return defaults(values) | values


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    return encoder_to_hf(config)


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return encoder_weights(config, "bert") | _head(config)


def _head(config: ModelConfig) -> dict[str, Weight]:
    pooler = "bert.pooler.dense"
    if config.head == "classify":
        return renamed({"head.dense": pooler, "head.out": "classifier"})
    if config.head == "span":
        return renamed({"head.out": "qa_outputs"})
    if config.head != "masked":
        return {}
    transform = "cls.predictions.transform"
    result = renamed({"head.dense": f"{transform}.dense", "head.norm": f"{transform}.LayerNorm"})
    result |= masked_bias(config, "cls.predictions")
    if config.next_sentence:
        result |= renamed({"head.pooler": pooler, "head.pair": "cls.seq_relationship"})
    return result
