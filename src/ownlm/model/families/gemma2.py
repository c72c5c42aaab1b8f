"""Gemma 2 (Gemma Team 2024): Gemma with norms on both sides, bent scores and logits, and every second layer windowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from . import gemma
from .weights import Weight
from .windows import alternating, layer_types, window_values

WINDOW = 4096


def _size(layers: int, width: int, heads: int, kv_heads: int, head_width: int, inner: int) -> dict[str, Any]:
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_width": head_width,
        "feedforward_width": inner,
        "vocab_size": 256000,
        "max_positions": 8192,
    }


# Table 1, which counts both halves of the gated layer. The 27b's scores are scaled by its width over its heads.
SIZES: dict[str, dict[str, Any]] = {
    "2b": _size(26, 2304, 8, 4, 256, 9216),
    "9b": _size(42, 3584, 16, 8, 256, 14336),
    "27b": _size(46, 4608, 32, 16, 128, 36864) | {"attention_scale": 144**-0.5},
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a Gemma 2 of the given width."""
    window = values.get("sliding_window", WINDOW)
    windowed = alternating(values["layers"], first=0) if values["layers"] > 1 else None
    return gemma.defaults(values) | {
        "norm_position": "both",
        "attention_softcap": 50.0,
        "logit_softcap": 30.0,
        "sliding_window": window,
        "windowed_layers": None if window is None else windowed,
    }


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    silent = {"num_key_value_heads": 4, "max_position_embeddings": 8192}
    values = gemma.gemma_values(hf, silent, ("gelu_pytorch_tanh", "gelu_new"))
    layers = values["layers"]
    types = hf.get("layer_types") or ["full_attention" if n % 2 else "sliding_attention" for n in range(layers)]
    rest = {
        "norm_position": "both",
        "attention_softcap": hf.get("attn_logit_softcapping", 50.0),
        "logit_softcap": hf.get("final_logit_softcapping", 30.0),
        "attention_scale": scale_from_hf(hf, values["head_width"]),
    }
    return values | rest | window_values(types, hf.get("sliding_window", WINDOW), layers)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    return gemma.gemma_hf(config) | {
        "hidden_activation": "gelu_pytorch_tanh",
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
        "query_pre_attn_scalar": scale_to_hf(config),
        # The public class needs a number even where no layer has a window.
        "sliding_window": config.sliding_window or WINDOW,
        "layer_types": layer_types(config),
    }


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return gemma.gemma_weights(config)


def scale_from_hf(hf: Mapping[str, Any], head_width: int) -> float | None:
    """ModelConfig's attention_scale from the number whose root scores are divided by."""
    scalar = hf.get("query_pre_attn_scalar", 256)
    if type(scalar) is not int or scalar < 1:
        raise ModelError("a whole number of at least 1 is needed here", where="query_pre_attn_scalar")
    return None if scalar == head_width else scalar**-0.5


def scale_to_hf(config: ModelConfig) -> int:
    """The number whose root scores are divided by."""
    return config.head_width if config.attention_scale is None else round(config.attention_scale**-2)
