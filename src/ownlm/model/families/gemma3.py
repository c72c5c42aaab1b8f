"""Gemma 3's text model (Gemma Team 2025): Gemma 2 with normed queries and keys in place of bent scores.

Five windowed layers follow each other before one that sees everything, and turn with a base of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from . import gemma
from .gemma2 import scale_from_hf, scale_to_hf
from .llama import first_given
from .weights import Weight
from .windows import layer_types, window_values

WINDOW, PATTERN = 4096, 6
THETA, LOCAL_THETA = 1_000_000.0, 10_000.0

# The published checkpoints' configs; larger ones also read pictures and are stored as a part of another model.
_SHARED = {"head_width": 256, "heads": 4, "kv_heads": 1, "vocab_size": 262144, "max_positions": 32768}
SIZES: dict[str, dict[str, Any]] = {
    "270m": _SHARED | {"layers": 18, "width": 640, "feedforward_width": 2048, "sliding_window": 512},
    "1b": _SHARED | {"layers": 26, "width": 1152, "feedforward_width": 6912, "sliding_window": 512},
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a Gemma 3 of the given width."""
    windows = window_values(_types(values["layers"], PATTERN), values.get("sliding_window", WINDOW), values["layers"])
    rest = {"norm_position": "both", "qk_norm": True, "rope_theta": THETA, "local_rope_theta": LOCAL_THETA}
    return gemma.defaults(values) | rest | windows


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``: the turning of both kinds of layer by the new keys, or the old."""
    new = hf.get("rope_parameters") or {}
    everywhere, local = (
        dict(new.get(kind) or {"rope_type": "default"}) for kind in ("full_attention", "sliding_attention")
    )
    if flat := [key for key, value in new.items() if value is not None and not isinstance(value, Mapping)]:
        message = f"'{flat[0]}' is given for no kind of layer: full_attention or sliding_attention"
        raise ModelError(message, where="rope_parameters")
    everywhere |= hf.get("rope_scaling") or {}
    if (local.get("rope_type") or local.get("type") or "default") != "default":
        raise ModelError("rotary scaling of windowed layers is not supported", where="rope_parameters")
    everywhere.setdefault("rope_theta", first_given(hf.get("rope_theta"), THETA))
    silent = {"num_key_value_heads": 4, "max_position_embeddings": 131072}
    one = {**hf, "rope_parameters": everywhere, "rope_scaling": None}
    values = gemma.gemma_values(one, silent, ("gelu_pytorch_tanh", "gelu_new"))
    types = hf.get("layer_types") or _types(values["layers"], hf.get("sliding_window_pattern", PATTERN))
    rest = {
        "norm_position": "both",
        "qk_norm": True,
        "local_rope_theta": first_given(local.get("rope_theta"), hf.get("rope_local_base_freq"), LOCAL_THETA),
        "logit_softcap": hf.get("final_logit_softcapping"),
        "attention_scale": scale_from_hf(hf, values["head_width"]),
    }
    return values | rest | window_values(types, hf.get("sliding_window", WINDOW), values["layers"])


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``; old keys for rotary settings, which every version reads."""
    return gemma.gemma_hf(config) | {
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_local_base_freq": config.local_rope_theta,
        "final_logit_softcapping": config.logit_softcap,
        "query_pre_attn_scalar": scale_to_hf(config),
        # The public class needs a number even where no layer has a window.
        "sliding_window": config.sliding_window or WINDOW,
        "layer_types": layer_types(config),
    }


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return gemma.gemma_weights(config)


def _types(layers: int, pattern: int) -> list[str]:
    return ["sliding_attention" if (layer + 1) % pattern else "full_attention" for layer in range(layers)]
