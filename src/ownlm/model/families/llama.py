"""Llama (Touvron et al. 2023): RMS norm first, rotary positions, grouped heads, gated SiLU; SmolLM2 is one too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from .weights import Weight, llama_weights


def _size(
    layers: int, width: int, heads: int, kv_heads: int, inner: int, vocab_size: int, context: int, **rest: Any
) -> dict[str, Any]:
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "kv_heads": kv_heads,
        "feedforward_width": inner,
        "vocab_size": vocab_size,
        "max_positions": context,
        **rest,
    }


_UNTIED = {"tied_head": False}
_LLAMA3 = {"rope_theta": 500000.0, **_UNTIED}
_STRETCHED = {"kind": "llama3", "low_frequency_factor": 1.0, "high_frequency_factor": 4.0}
_LLAMA31 = _LLAMA3 | {"rope_scaling": _STRETCHED | {"factor": 8.0}}
_LLAMA32 = {"rope_theta": 500000.0, "rope_scaling": _STRETCHED | {"factor": 32.0}}

# Touvron et al. 2023a (table 2) and 2023b; Grattafiori et al. 2024 (table 3); SmolLM2 (Allal et al. 2025), all with
# what the published config.json adds.
SIZES: dict[str, dict[str, Any]] = {
    "7b": _size(32, 4096, 32, 32, 11008, 32000, 2048, norm_eps=1e-6, **_UNTIED),
    "13b": _size(40, 5120, 40, 40, 13824, 32000, 2048, norm_eps=1e-6, **_UNTIED),
    "33b": _size(60, 6656, 52, 52, 17920, 32000, 2048, norm_eps=1e-6, **_UNTIED),
    "65b": _size(80, 8192, 64, 64, 22016, 32000, 2048, norm_eps=1e-5, **_UNTIED),
    "2-7b": _size(32, 4096, 32, 32, 11008, 32000, 4096, **_UNTIED),
    "2-13b": _size(40, 5120, 40, 40, 13824, 32000, 4096, **_UNTIED),
    "2-70b": _size(80, 8192, 64, 8, 28672, 32000, 4096, **_UNTIED),
    "3-8b": _size(32, 4096, 32, 8, 14336, 128256, 8192, **_LLAMA3),
    "3-70b": _size(80, 8192, 64, 8, 28672, 128256, 8192, **_LLAMA3),
    "3.1-8b": _size(32, 4096, 32, 8, 14336, 128256, 131072, **_LLAMA31),
    "3.1-70b": _size(80, 8192, 64, 8, 28672, 128256, 131072, **_LLAMA31),
    "3.1-405b": _size(126, 16384, 128, 8, 53248, 128256, 131072, **_LLAMA31),
    "3.2-1b": _size(16, 2048, 32, 8, 8192, 128256, 131072, **_LLAMA32),
    "3.2-3b": _size(28, 3072, 24, 8, 8192, 128256, 131072, **_LLAMA32),
    "smollm2-135m": _size(30, 576, 9, 3, 1536, 49152, 8192, rope_theta=100000.0),
    "smollm2-360m": _size(32, 960, 15, 5, 2560, 49152, 8192, rope_theta=100000.0),
    "smollm2-1.7b": _size(24, 2048, 32, 32, 8192, 49152, 8192, rope_theta=130000.0),
}


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
    rope = rope_from_hf(hf)
    if rope.get("partial_rotary_factor", hf.get("partial_rotary_factor")) not in (None, 1):
        raise ModelError("turning a part of each head is not supported in this family", where="partial_rotary_factor")
    values = {"width": width}
    return defaults(values) | {
        "family": hf["model_type"],
        "layers": hf["num_hidden_layers"],
        "width": width,
        "heads": heads,
        "kv_heads": first_given(hf.get("num_key_value_heads"), heads),
        "head_width": first_given(hf.get("head_dim"), width // heads),
        "feedforward_width": hf["intermediate_size"],
        "vocab_size": hf["vocab_size"],
        "max_positions": hf.get("max_position_embeddings", 2048),
        "norm_eps": hf.get("rms_norm_eps", 1e-6),
        "rope_theta": first_given(rope.get("rope_theta"), hf.get("rope_theta"), 10000.0),
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


def rope_from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """What ``config.json`` says of rotary positions; where it has the old key and the new, the public class takes the old.

    Raises:
        ModelError: each kind of layer has its own.
    """
    rope = dict(hf.get("rope_scaling") or hf.get("rope_parameters") or {})
    for key, value in rope.items():
        if isinstance(value, Mapping):
            message = f"rotary positions of their own for '{key}' are not supported in this family"
            raise ModelError(message, where="rope_parameters")
    return rope


def first_given(*values: Any) -> Any:
    """The first value that is not None."""
    return next(value for value in values if value is not None)


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
