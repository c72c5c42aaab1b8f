"""What BERT and the encoders that keep its names share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from .gpt2 import ACTIVATIONS
from .weights import Weight, fused, renamed


def encoder_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes an encoder of the given width a BERT."""
    return {
        "causal": False,
        "feedforward_width": 4 * values["width"],
        "norm": "layernorm",
        "norm_eps": 1e-12,
        "norm_position": "post",
        "activation": "gelu",
        "gated": False,
        "position": "learned",
        "embedding_norm": True,
        "qkv_bias": True,
        "output_bias": True,
        "feedforward_bias": True,
        "tied_head": True,
        "head": "masked",
        "head_activation": "tanh",
        "pool": "first",
        "residual_initializer_range": values.get("initializer_range", 0.02),
    }


def encoder_from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """The shape that ``config.json`` gives, without what makes the family."""
    for key in ("is_decoder", "add_cross_attention"):
        if hf.get(key):
            raise ModelError("an encoder made into a decoder is not supported", where=key)
    if hf.get("position_embedding_type", "absolute") != "absolute":
        kind = hf["position_embedding_type"]
        raise ModelError(f"positions of the kind '{kind}' are not supported", where="position_embedding_type")
    if hf.get("type_vocab_size", 2) < 1:
        raise ModelError("an encoder without segments is not supported", where="type_vocab_size")
    width, heads = hf["hidden_size"], hf["num_attention_heads"]
    activation = hf.get("hidden_act", "gelu")
    return {
        "family": hf["model_type"],
        "layers": hf["num_hidden_layers"],
        "width": width,
        "heads": heads,
        "kv_heads": heads,
        "head_width": width // heads,
        "feedforward_width": hf["intermediate_size"],
        "vocab_size": hf["vocab_size"],
        "max_positions": hf.get("max_position_embeddings", 512),
        "segments": hf.get("type_vocab_size", 2),
        "norm_eps": hf.get("layer_norm_eps", 1e-12),
        "activation": ACTIVATIONS.get(activation, activation),
        "tied_head": hf.get("tie_word_embeddings", True),
        "initializer_range": hf.get("initializer_range", 0.02),
    }


def encoder_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``; dropout is the trainer's, so there is none."""
    activation = {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation)
    return {
        "model_type": config.family,
        "num_hidden_layers": config.layers,
        "hidden_size": config.width,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feedforward_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions + config.position_offset,
        "type_vocab_size": config.segments,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": activation,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": config.tied_head,
        "initializer_range": config.initializer_range,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def encoder_weights(config: ModelConfig, prefix: str) -> dict[str, Weight]:
    """The stack under BERT's names; prefix: what the public class calls it."""
    embeddings = f"{prefix}.embeddings"
    result = {
        "embedding.token.weight": Weight((f"{embeddings}.word_embeddings.weight",)),
        "embedding.position.weight": Weight((f"{embeddings}.position_embeddings.weight",)),
        "embedding.segment.weight": Weight((f"{embeddings}.token_type_embeddings.weight",)),
    }
    result |= renamed({"embedding.norm": f"{embeddings}.LayerNorm"})
    pairs = {
        "attention.output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feedforward.up": "intermediate.dense",
        "feedforward.down": "output.dense",
        "feedforward_norm": "output.LayerNorm",
    }
    for layer in range(config.layers):
        a, b = f"layers.{layer}", f"{prefix}.encoder.layer.{layer}"
        parts = tuple(f"{b}.attention.self.{part}" for part in ("query", "key", "value"))
        result |= fused(f"{a}.attention.qkv", parts)
        result |= renamed({f"{a}.{ours}": f"{b}.{theirs}" for ours, theirs in pairs.items()})
    return result
