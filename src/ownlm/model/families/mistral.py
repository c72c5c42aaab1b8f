"""Mistral (Jiang et al. 2023): Llama with a sliding attention window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from . import llama
from .weights import Weight, llama_weights

# Jiang et al. 2023, table 1.
SIZES: dict[str, dict[str, Any]] = {
    "7b": {
        "layers": 32,
        "width": 4096,
        "heads": 32,
        "kv_heads": 8,
        "feedforward_width": 14336,
        "vocab_size": 32000,
        "max_positions": 8192,
        "sliding_window": 4096,
    },
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a Mistral of the given width."""
    return llama.defaults(values) | {"tied_head": False}


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    # What the public class takes where a config is silent; null means no window.
    hf = {"num_key_value_heads": 8, "max_position_embeddings": 131072, "sliding_window": 4096, **hf}
    return llama.from_hf(hf) | {"sliding_window": hf["sliding_window"], "qkv_bias": False, "output_bias": False}


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    hf = llama.to_hf(config) | {"sliding_window": config.sliding_window}
    return {key: value for key, value in hf.items() if key not in ("attention_bias", "mlp_bias")}


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return llama_weights(config, span_stack="model")
