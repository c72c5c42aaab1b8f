"""Qwen3 (Yang et al. 2025): Llama with RMS norm on each query and key head, and a head width of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from . import llama
from .weights import Weight, llama_weights
from .windows import late_hf, late_windows


def _size(layers: int, width: int, heads: int, inner: int, tied: bool) -> dict[str, Any]:
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "kv_heads": 8,
        "head_width": 128,
        "feedforward_width": inner,
        "vocab_size": 151936,
        "max_positions": 32768,
        "rope_theta": 1000000.0,
        "tied_head": tied,
    }


# Yang et al. 2025, table 1, with what the published config.json adds.
SIZES: dict[str, dict[str, Any]] = {
    "0.6b": _size(28, 1024, 16, 3072, tied=True),
    "1.7b": _size(28, 2048, 16, 6144, tied=True),
    "4b": _size(36, 2560, 32, 9728, tied=True),
    "8b": _size(36, 4096, 32, 12288, tied=False),
    "14b": _size(40, 5120, 40, 17408, tied=False),
    "32b": _size(64, 5120, 64, 25600, tied=False),
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a Qwen3 of the given width."""
    return llama.defaults(values) | {"qk_norm": True, "norm_eps": 1e-6}


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    # What the public class takes where a config is silent.
    hf = {"num_key_value_heads": 32, "max_position_embeddings": 32768, **hf}
    return llama.from_hf(hf) | {"head_width": hf.get("head_dim", 128), "qk_norm": True} | late_windows(hf)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    hf = llama.to_hf(config) | late_hf(config)
    return {key: value for key, value in hf.items() if key != "mlp_bias"}


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return llama_weights(config)
