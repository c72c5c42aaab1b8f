"""GPT-NeoX (Black et al. 2022), and Pythia (Biderman et al. 2023): attention and feedforward side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from .gpt2 import ACTIVATIONS
from .llama import first_given, rope_from_hf
from .weights import Weight, decoder_head, renamed


def _size(layers: int, width: int, heads: int, vocab_size: int = 50304) -> dict[str, Any]:
    return {"layers": layers, "width": width, "heads": heads, "vocab_size": vocab_size, "max_positions": 2048}


# Biderman et al. 2023, table 1; the vocabulary's 50,254 tokens are rounded up by how many devices each was trained on.
SIZES: dict[str, dict[str, Any]] = {
    "pythia-14m": _size(6, 128, 4),
    "pythia-31m": _size(6, 256, 8),
    "pythia-70m": _size(6, 512, 8),
    "pythia-160m": _size(12, 768, 12),
    "pythia-410m": _size(24, 1024, 16),
    "pythia-1b": _size(16, 2048, 8),
    "pythia-1.4b": _size(24, 2048, 16),
    "pythia-2.8b": _size(32, 2560, 32),
    "pythia-6.9b": _size(32, 4096, 32, 50432),
    "pythia-12b": _size(36, 5120, 40, 50688),
    "20b": _size(44, 6144, 64, 50432),
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a GPT-NeoX of the given width; a quarter of each head turns.

    Its initial weights (Black et al. 2022, section 2.2): normal(0, sqrt(2 / (5 x width))) (Nguyen and Salazar 2019),
    the projections back into the stream normal(0, 2 / (layers x sqrt(width))) (Wang 2021).
    """
    width, head_width = values["width"], values.get("head_width", values["width"] // values["heads"])
    return {
        "feedforward_width": 4 * width,
        "norm": "layernorm",
        "norm_eps": 1e-5,
        "activation": "gelu",
        "gated": False,
        "position": "rotary",
        "rotary_width": head_width // 4 // 2 * 2 or None,
        "parallel": True,
        "qkv_bias": True,
        "output_bias": True,
        "feedforward_bias": True,
        "tied_head": False,
        "initializer_range": math.sqrt(2 / (5 * width)),
        "residual_initializer_range": 2 / (values["layers"] * math.sqrt(width)),
    }


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    width, heads = hf["hidden_size"], hf["num_attention_heads"]
    rope = rope_from_hf(hf)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise ModelError(f"rotary scaling '{kind}' is not supported in this family", where="rope_scaling")
    head_width = width // heads
    turning = int(head_width * rope.get("partial_rotary_factor", hf.get("rotary_pct", 0.25)))
    activation, biases = hf.get("hidden_act", "gelu"), hf.get("attention_bias", True)
    values = {
        "family": "gpt_neox",
        "layers": hf["num_hidden_layers"],
        "width": width,
        "heads": heads,
        "kv_heads": heads,
        "head_width": head_width,
        "feedforward_width": hf["intermediate_size"],
        "vocab_size": hf["vocab_size"],
        "max_positions": hf.get("max_position_embeddings", 2048),
        "norm_eps": hf.get("layer_norm_eps", 1e-5),
        "activation": ACTIVATIONS.get(activation, activation),
        "rope_theta": first_given(rope.get("rope_theta"), hf.get("rotary_emb_base"), 10000.0),
        "rotary_width": None if turning == head_width else turning,
        "parallel": hf.get("use_parallel_residual", True),
        "qkv_bias": biases,
        "output_bias": biases,
        "tied_head": hf.get("tie_word_embeddings", False),
        "initializer_range": hf.get("initializer_range", 0.02),
    }
    return defaults(values) | values


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``; dropout is the trainer's, so there is none."""
    return {
        "model_type": "gpt_neox",
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feedforward_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
        "rotary_emb_base": config.rope_theta,
        "rotary_pct": _share(config.turning_width, config.head_width),
        "use_parallel_residual": config.parallel,
        "attention_bias": config.qkv_bias,
        "tie_word_embeddings": config.tied_head,
        "initializer_range": config.initializer_range,
        "classifier_dropout": 0.0,
    }


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    result = {"embedding.token.weight": Weight(("gpt_neox.embed_in.weight",))}
    pairs = {
        "attention_norm": "input_layernorm",
        "feedforward_norm": "post_attention_layernorm",
        "feedforward.up": "mlp.dense_h_to_4h",
        "feedforward.down": "mlp.dense_4h_to_h",
    }
    for layer in range(config.layers):
        a, b = f"layers.{layer}", f"gpt_neox.layers.{layer}"
        for kind in ("weight", "bias") if config.qkv_bias else ("weight",):
            fused = f"{b}.attention.query_key_value.{kind}"
            result[f"{a}.attention.qkv.{kind}"] = Weight((fused,), interleaved=config.heads)
            result[f"{a}.attention.output.{kind}"] = Weight((f"{b}.attention.dense.{kind}",))
        result |= renamed({f"{a}.{ours}": f"{b}.{theirs}" for ours, theirs in pairs.items()})
    result |= renamed({"final_norm": "gpt_neox.final_layer_norm"})
    return result | decoder_head(config, lm="embed_out.weight")


def _share(turning: int, head_width: int) -> float:
    """What the public class multiplies a head's width by and rounds down to get how many dimensions turn."""
    share = turning / head_width
    return share if int(head_width * share) == turning else math.nextafter(share, math.inf)
