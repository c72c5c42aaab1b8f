"""GPT-Neo (Black et al. 2021): a GPT-2 with every second layer's attention banded and its scores not scaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from . import gpt2
from .weights import Weight, decoder_head, renamed
from .windows import alternating, layer_types, window_values

WINDOW = 256
KINDS = {"global": "full_attention", "local": "sliding_attention"}

_SHARED = {"vocab_size": 50257, "max_positions": 2048}
SIZES: dict[str, dict[str, Any]] = {
    "125m": _SHARED | {"layers": 12, "width": 768, "heads": 12},
    "1.3b": _SHARED | {"layers": 24, "width": 2048, "heads": 16},
    "2.7b": _SHARED | {"layers": 32, "width": 2560, "heads": 20},
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a GPT-Neo of the given width."""
    banded = alternating(values["layers"], first=1)
    window = values.get("sliding_window", WINDOW) if banded else None
    rest = {"qkv_bias": False, "attention_scale": 1.0, "sliding_window": window}
    return gpt2.defaults(values) | rest | {"windowed_layers": None if window is None else banded}


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    width, heads = hf["hidden_size"], hf["num_heads"]
    layers = hf["num_layers"]
    groups = hf.get("attention_types", [[["global", "local"], 12]])
    # Counted before they are written out.
    count = sum(len(group) * times for group, times in groups)
    if count != layers:
        raise ModelError(f"{count} kinds of layers are named, and there are {layers} layers", where="attention_types")
    kinds = [KINDS.get(kind, kind) for group, times in groups for kind in group * times]
    activation = hf.get("activation_function", "gelu_new")
    values = {
        "family": "gpt_neo",
        "layers": layers,
        "width": width,
        "heads": heads,
        "kv_heads": heads,
        "head_width": width // heads,
        "feedforward_width": hf.get("intermediate_size") or 4 * width,
        "vocab_size": hf["vocab_size"],
        "max_positions": hf.get("max_position_embeddings", 2048),
        "norm_eps": hf.get("layer_norm_epsilon", 1e-5),
        "activation": gpt2.ACTIVATIONS.get(activation, activation),
        "tied_head": hf.get("tie_word_embeddings", True),
        "initializer_range": hf.get("initializer_range", 0.02),
    }
    return defaults(values) | values | window_values(kinds, hf.get("window_size", WINDOW), layers)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``; dropout is the trainer's, so there is none."""
    names = {theirs: ours for ours, theirs in KINDS.items()}
    return {
        "model_type": "gpt_neo",
        "num_layers": config.layers,
        "hidden_size": config.width,
        "num_heads": config.heads,
        "intermediate_size": config.feedforward_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
        "attention_types": [[[names[kind]], 1] for kind in layer_types(config)],
        "window_size": config.sliding_window or WINDOW,
        "tie_word_embeddings": config.tied_head,
        "initializer_range": config.initializer_range,
        "classifier_dropout": 0.0,
    }


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    result = {
        "embedding.token.weight": Weight(("transformer.wte.weight",)),
        "embedding.position.weight": Weight(("transformer.wpe.weight",)),
    }
    pairs = {
        "attention_norm": "ln_1",
        "attention.output": "attn.attention.out_proj",
        "feedforward_norm": "ln_2",
        "feedforward.up": "mlp.c_fc",
        "feedforward.down": "mlp.c_proj",
    }
    for layer in range(config.layers):
        a, b = f"layers.{layer}", f"transformer.h.{layer}"
        parts = tuple(f"{b}.attn.attention.{part}_proj.weight" for part in "qkv")
        result[f"{a}.attention.qkv.weight"] = Weight(parts)
        result |= renamed({f"{a}.{ours}": f"{b}.{theirs}" for ours, theirs in pairs.items()})
    return result | renamed({"final_norm": "transformer.ln_f"}) | decoder_head(config)
