"""DistilBERT (Sanh et al. 2019): BERT with half the layers and no segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from .encoder import encoder_defaults
from .gpt2 import ACTIVATIONS
from .weights import Weight, fused, renamed

# Sanh et al. 2019, section 2.
SIZES: dict[str, dict[str, Any]] = {
    "base": {"layers": 6, "width": 768, "heads": 12, "vocab_size": 30522, "max_positions": 512},
}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a DistilBERT of the given width."""
    return encoder_defaults(values) | {"head_activation": "relu"}


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    width, heads = hf.get("dim", 768), hf.get("n_heads", 12)
    activation = hf.get("activation", "gelu")
    values = {
        "family": "distilbert",
        "layers": hf.get("n_layers", 6),
        "width": width,
        "heads": heads,
        "kv_heads": heads,
        "head_width": width // heads,
        "feedforward_width": hf.get("hidden_dim", 3072),
        "vocab_size": hf["vocab_size"],
        "max_positions": hf.get("max_position_embeddings", 512),
        "activation": ACTIVATIONS.get(activation, activation),
        "tied_head": hf.get("tie_word_embeddings", True),
        "initializer_range": hf.get("initializer_range", 0.02),
    }
    return defaults(values) | values


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``; dropout is the trainer's, so there is none."""
    return {
        "model_type": "distilbert",
        "n_layers": config.layers,
        "dim": config.width,
        "n_heads": config.heads,
        "hidden_dim": config.feedforward_width,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "activation": {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
        "sinusoidal_pos_embds": False,
        "tie_word_embeddings": config.tied_head,
        "initializer_range": config.initializer_range,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "qa_dropout": 0.0,
        "seq_classif_dropout": 0.0,
    }


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    embeddings = "distilbert.embeddings"
    result = {
        "embedding.token.weight": Weight((f"{embeddings}.word_embeddings.weight",)),
        "embedding.position.weight": Weight((f"{embeddings}.position_embeddings.weight",)),
    }
    result |= renamed({"embedding.norm": f"{embeddings}.LayerNorm"})
    pairs = {
        "attention.output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "feedforward.up": "ffn.lin1",
        "feedforward.down": "ffn.lin2",
        "feedforward_norm": "output_layer_norm",
    }
    for layer in range(config.layers):
        a, b = f"layers.{layer}", f"distilbert.transformer.layer.{layer}"
        result |= fused(f"{a}.attention.qkv", tuple(f"{b}.attention.{part}_lin" for part in "qkv"))
        result |= renamed({f"{a}.{ours}": f"{b}.{theirs}" for ours, theirs in pairs.items()})
    return result | _head(config)


def _head(config: ModelConfig) -> dict[str, Weight]:
    if config.head == "classify":
        return renamed({"head.dense": "pre_classifier", "head.out": "classifier"})
    if config.head == "span":
        return renamed({"head.out": "qa_outputs"})
    if config.head != "masked":
        return {}
    result = renamed({"head.dense": "vocab_transform", "head.norm": "vocab_layer_norm"})
    if not config.tied_head:
        result["head.weight"] = Weight(("vocab_projector.weight",))
    return result | {"head.bias": Weight(("vocab_projector.bias",))}
