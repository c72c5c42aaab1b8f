"""Gemma (Gemma Team 2024): Llama with a gated GELU, scaled embeddings, and norms that multiply by 1 + their weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from . import llama
from .weights import Weight, llama_weights

# Table 1; the vocabulary as in the published checkpoints.
_SHARED = {"head_width": 256, "vocab_size": 256000, "max_positions": 8192}
SIZES: dict[str, dict[str, Any]] = {
    "2b": _SHARED | {"layers": 18, "width": 2048, "heads": 8, "kv_heads": 1, "feedforward_width": 16384},
    "7b": _SHARED | {"layers": 28, "width": 3072, "heads": 16, "kv_heads": 16, "feedforward_width": 24576},
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a Gemma of the given width."""
    return llama.defaults(values) | {
        "norm_eps": 1e-6,
        "norm_unit_offset": True,
        "activation": "gelu_tanh",
        "embedding_scale": True,
    }


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    silent = {"num_key_value_heads": 16, "max_position_embeddings": 8192}
    return gemma_values(hf, silent, ("gelu", "gelu_pytorch_tanh", "gelu_new"))


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    return gemma_hf(config) | {"hidden_act": "gelu_pytorch_tanh"}


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    return gemma_weights(config)


def gemma_values(hf: Mapping[str, Any], silent: Mapping[str, Any], activations: tuple[str, ...]) -> dict[str, Any]:
    """What all Gemmas read alike.

    Args:
        hf: the content of ``config.json``.
        silent: what the public class takes where a config is silent.
        activations: the names by which the class means the GELU's tanh form.
    """
    if hf.get("use_bidirectional_attention"):
        raise ModelError("a Gemma that looks both ways is not supported", where="use_bidirectional_attention")
    key = "hidden_activation" if hf.get("hidden_activation") else "hidden_act"
    if hf.get(key, "gelu_pytorch_tanh") not in activations:
        raise ModelError(f"the activation '{hf[key]}' is not supported in this family", where=key)
    shared = {"head_dim": 256, "tie_word_embeddings": True, "rms_norm_eps": 1e-6}
    values = llama.from_hf({**shared, **silent, **hf, "hidden_act": "silu"})
    own = ("norm_unit_offset", "activation", "embedding_scale")
    return values | {key: value for key, value in defaults(values).items() if key in own}


def gemma_hf(config: ModelConfig) -> dict[str, Any]:
    """What all Gemmas write alike."""
    hf = llama.to_hf(config)
    return {key: value for key, value in hf.items() if key not in ("mlp_bias", "hidden_act")}


def gemma_weights(config: ModelConfig) -> dict[str, Weight]:
    """Every Gemma's names; there is no public class for question answering, so its stack is called as in all others."""
    return llama_weights(config, span_stack="model")
