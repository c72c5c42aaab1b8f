"""GPT-2 (Radford et al. 2019): layer norm first, learned positions, one fused projection, stored transposed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from .weights import Weight, decoder_head

ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
}


# Radford et al. 2019, table 2, with the heads of the published checkpoints.
_SHARED = {"vocab_size": 50257, "max_positions": 1024}
SIZES: dict[str, dict[str, Any]] = {
    "small": _SHARED | {"layers": 12, "width": 768, "heads": 12},
    "medium": _SHARED | {"layers": 24, "width": 1024, "heads": 16},
    "large": _SHARED | {"layers": 36, "width": 1280, "heads": 20},
    "xl": _SHARED | {"layers": 48, "width": 1600, "heads": 25},
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a GPT-2 of the given width."""
    return {
        "feedforward_width": 4 * values["width"],
        "norm": "layernorm",
        "norm_eps": 1e-5,
        "activation": "gelu_tanh",
        "gated": False,
        "position": "learned",
        "qkv_bias": True,
        "output_bias": True,
        "feedforward_bias": True,
        "tied_head": True,
    }


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        if hf.get(key):
            raise ModelError(f"GPT-2 with {key} is not supported", where=key)
    if not hf.get("scale_attn_weights", True):
        raise ModelError("GPT-2 with unscaled attention is not supported", where="scale_attn_weights")
    width, heads = hf["n_embd"], hf["n_head"]
    values = {"width": width}
    return defaults(values) | {
        "family": "gpt2",
        "layers": hf["n_layer"],
        "width": width,
        "heads": heads,
        "kv_heads": heads,
        "head_width": width // heads,
        "feedforward_width": hf.get("n_inner") or 4 * width,
        "vocab_size": hf["vocab_size"],
        "max_positions": hf.get("n_positions", 1024),
        "norm_eps": hf.get("layer_norm_epsilon", 1e-5),
        "activation": ACTIVATIONS.get(hf.get("activation_function", "gelu_new"), hf.get("activation_function")),
        "tied_head": hf.get("tie_word_embeddings", True),
        "initializer_range": hf.get("initializer_range", 0.02),
    }


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    activation = {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation)
    return {
        "model_type": "gpt2",
        "n_layer": config.layers,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_inner": config.feedforward_width,
        "n_positions": config.max_positions,
        "vocab_size": config.vocab_size,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": activation,
        "tie_word_embeddings": config.tied_head,
        "initializer_range": config.initializer_range,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    result = {
        "embedding.token.weight": Weight(("transformer.wte.weight",)),
        "embedding.position.weight": Weight(("transformer.wpe.weight",)),
    }
    pairs = {
        "attention_norm": "ln_1",
        "attention.qkv": "attn.c_attn",
        "attention.output": "attn.c_proj",
        "feedforward_norm": "ln_2",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
    }
    for layer in range(config.layers):
        for ours, theirs in pairs.items():
            name = f"transformer.h.{layer}.{theirs}"
            # GPT-2 keeps its projections as a one-wide convolution: [inputs, outputs].
            result[f"layers.{layer}.{ours}.weight"] = Weight((f"{name}.weight",), transposed="norm" not in ours)
            result[f"layers.{layer}.{ours}.bias"] = Weight((f"{name}.bias",))
    result["final_norm.weight"] = Weight(("transformer.ln_f.weight",))
    result["final_norm.bias"] = Weight(("transformer.ln_f.bias",))
    return result | decoder_head(config)
