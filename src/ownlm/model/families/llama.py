"""Llama (Touvron et al. 2023): RMS norm first, rotary positions, grouped heads, gated SiLU; SmolLM2 is one too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from .weights import Weight, llama_weights


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a Llama of the given width: two thirds of 4 x width, rounded up to 64, keep GPT-2's parameter count."""
    return {
        "feedforward_width": -(-8 * values["width"] // 3 // 64) * 64,
        "norm": "rmsnorm",
        "norm_eps": 1e-5,
        "activation": "silu",
        "gated": True,
        "position": "rotary",
        "tied_head": True,
    }


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``, of Transformers 4 and 5 alike."""
    width, heads = hf["hidden_size"], hf["num_attention_heads"]
    if hf.get("hidden_act", "silu") != "silu":
        raise ModelError(f"the activation '{hf['hidden_act']}' is not supported in this family", where="hidden_act")
    rope = dict(hf.get("rope_parameters") or hf.get("rope_scaling") or {})
    values = {"width": width}
    return defaults(values) | {
        "family": hf["model_type"],
        "layers": hf["num_hidden_layers"],
        "width": width,
        "heads": heads,
        "kv_heads": hf.get("num_key_value_heads") or heads,
        "head_width": hf.get("head_dim") or width // heads,
        "feedforward_width": hf["intermediate_size"],
        "vocab_size": hf["vocab_size"],
        "max_positions": hf.get("max_position_embeddings", 2048),
        "norm_eps": hf.get("rms_norm_eps", 1e-6),
        "rope_theta": rope.get("rope_theta") or hf.get("rope_theta") or 10000.0,
        "rope_scaling": _scaling_from_hf(rope),
        "qkv_bias": hf.get("attention_bias", False),
        "output_bias": hf.get("attention_bias", False),
        "feedforward_bias": hf.get("mlp_bias", False),
        "tied_head": hf.get("tie_word_embeddings", False),
        "initializer_range": hf.get("initializer_range", 0.02),
    }


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``; old keys for rotary settings, which every version reads."""
    scaling = config.rope_scaling
    rope: dict[str, Any] | None = None
    if scaling:
        rope = {"rope_type": scaling.kind, "factor": scaling.factor}
        if scaling.kind == "llama3":
            rope |= {
                "low_freq_factor": scaling.low_frequency_factor,
                "high_freq_factor": scaling.high_frequency_factor,
                "original_max_position_embeddings": scaling.original_max_positions,
            }
    return {
        "model_type": config.family,
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.feedforward_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": rope,
        "hidden_act": "silu",
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.feedforward_bias,
        "tie_word_embeddings": config.tied_head,
        "initializer_range": config.initializer_range,
    }


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return llama_weights(config)


def _scaling_from_hf(rope: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind == "linear":
        return {"kind": "linear", "factor": rope["factor"]}
    if kind == "llama3":
        return {
            "kind": "llama3",
            "factor": rope["factor"],
            "low_frequency_factor": rope["low_freq_factor"],
            "high_frequency_factor": rope["high_freq_factor"],
            "original_max_positions": rope["original_max_position_embeddings"],
        }
    raise ModelError(f"rotary scaling '{kind}' is not supported", where="rope_scaling", hint="known: linear, llama3")
