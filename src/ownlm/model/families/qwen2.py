"""Qwen2 (Yang et al. 2024): Llama with biases on query, key and value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from . import llama
from .weights import Weight, llama_weights
from .windows import late_hf, late_windows


def _size(
    layers: int, width: int, heads: int, kv_heads: int, inner: int, vocab_size: int, tied: bool
) -> dict[str, Any]:
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "kv_heads": kv_heads,
        "feedforward_width": inner,
        "vocab_size": vocab_size,
        "max_positions": 32768,
        "rope_theta": 1000000.0,
        "tied_head": tied,
    }


# Yang et al. 2024, table 1; the vocabulary with the rows that fill it up.
SIZES: dict[str, dict[str, Any]] = {
    "0.5b": _size(24, 896, 14, 2, 4864, 151936, tied=True),
    "1.5b": _size(28, 1536, 12, 2, 8960, 151936, tied=True),
    "7b": _size(28, 3584, 28, 4, 18944, 152064, tied=False),
    "72b": _size(80, 8192, 64, 8, 29568, 152064, tied=False),
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a Qwen2 of the given width."""
    return llama.defaults(values) | {"qkv_bias": True, "norm_eps": 1e-6}


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    # What the public class takes where a config is silent.
    hf = {"num_key_value_heads": 32, "max_position_embeddings": 32768, **hf}
    return llama.from_hf(hf) | {"qkv_bias": True, "output_bias": False} | late_windows(hf)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    hf = llama.to_hf(config) | late_hf(config)
    return {key: value for key, value in hf.items() if key not in ("attention_bias", "mlp_bias")}


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return llama_weights(config)
