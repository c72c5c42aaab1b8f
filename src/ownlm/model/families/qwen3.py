"""Qwen3 (Yang et al. 2025): Llama with RMS norm on each query and key head, and a head width of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from . import llama
from .weights import Weight, llama_weights


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a Qwen3 of the given width."""
    return llama.defaults(values) | {"qk_norm": True, "norm_eps": 1e-6}


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    if hf.get("use_sliding_window"):
        raise ModelError("a sliding window in only some layers is not supported", where="use_sliding_window")
    # What the public class takes where a config is silent.
    hf = {"num_key_value_heads": 32, "max_position_embeddings": 32768, **hf}
    return llama.from_hf(hf) | {"head_width": hf.get("head_dim", 128), "qk_norm": True}


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    hf = llama.to_hf(config) | {"use_sliding_window": False}
    return {key: value for key, value in hf.items() if key != "mlp_bias"}


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return llama_weights(config)
