"""RoBERTa (Liu et al. 2019): BERT without segments, its positions counted from 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from .encoder import encoder_defaults, encoder_from_hf, encoder_to_hf, encoder_weights
from .weights import Weight, masked_bias, renamed

# Position tables begin after a row for padding, which is the public class's pad_token_id.
PADDING = 1


# Liu et al. 2019, table 9.
SIZES: dict[str, dict[str, Any]] = {
    "base": {"layers": 12, "width": 768, "heads": 12, "vocab_size": 50265, "max_positions": 512},
    "large": {"layers": 24, "width": 1024, "heads": 16, "vocab_size": 50265, "max_positions": 512},
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a RoBERTa of the given width."""
    return encoder_defaults(values) | {"segments": 1, "norm_eps": 1e-5, "position_offset": PADDING + 1}


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    if hf.get("hidden_act", "gelu") != "gelu":
        raise ModelError(f"the activation '{hf['hidden_act']}' is not supported in this family", where="hidden_act")
    values = encoder_from_hf(hf)
    offset = hf.get("pad_token_id", PADDING) + 1
    rest = {"position_offset": offset, "max_positions": values["max_positions"] - offset}
    return defaults(values) | values | rest


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``; pad_token_id is where the public class begins to count positions."""
    return encoder_to_hf(config) | {"pad_token_id": config.position_offset - 1}


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return encoder_weights(config, "roberta") | _head(config)


def _head(config: ModelConfig) -> dict[str, Weight]:
    if config.head == "classify":
        return renamed({"head.dense": "classifier.dense", "head.out": "classifier.out_proj"})
    if config.head == "span":
        return renamed({"head.out": "qa_outputs"})
    if config.head != "masked":
        return {}
    layers = renamed({"head.dense": "lm_head.dense", "head.norm": "lm_head.layer_norm"})
    return layers | masked_bias(config, "lm_head")
