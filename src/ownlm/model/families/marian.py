"""The original Transformer (Vaswani et al. 2017): an encoder, a decoder that looks at its output, sinusoidal positions.

Under the name by which Transformers reads it: Marian's models (Junczys-Dowmunt et al. 2018) are that network, with one
embedding for both texts and the output, and a bias on the logits. The sines stand before the cosines there, and not in
turn as in the paper: the same network, its dimensions in another order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig
from .gpt2 import ACTIVATIONS
from .weights import Weight, fused, renamed

# Vaswani et al. 2017, table 3; the vocabulary is their English-German one's.
_SHARED = {"layers": 6, "encoder_layers": 6, "vocab_size": 37000, "max_positions": 512}
SIZES: dict[str, dict[str, Any]] = {
    "base": _SHARED | {"width": 512, "heads": 8},
    "big": _SHARED | {"width": 1024, "heads": 16},
}

# What old checkpoints repeat, or what follows from the config.
UNUSED = (
    "model.encoder.embed_tokens.weight",
    "model.decoder.embed_tokens.weight",
    "model.encoder.embed_positions.weight",
    "model.decoder.embed_positions.weight",
    "lm_head.weight",
)

_ACTIVATIONS = ACTIVATIONS | {"swish": "silu"}


def defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """What makes an original Transformer of the given width."""
    return {
        "encoder_layers": values.get("layers", 0),
        "feedforward_width": 4 * values["width"],
        "norm": "layernorm",
        "norm_eps": 1e-5,
        "norm_position": "post",
        "activation": "relu",
        "gated": False,
        "position": "sinusoidal",
        "embedding_scale": True,
        "qkv_bias": True,
        "output_bias": True,
        "feedforward_bias": True,
        "tied_head": True,
        "head": "seq2seq",
        "residual_initializer_range": values.get("initializer_range", 0.02),
    }


def from_hf(hf: Mapping[str, Any]) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``."""
    for key in ("share_encoder_decoder_embeddings", "tie_word_embeddings"):
        if not hf.get(key, True):
            raise ModelError("an embedding for each side is not supported", where=key)
    if (hf.get("decoder_vocab_size") or hf["vocab_size"]) != hf["vocab_size"]:
        raise ModelError("a vocabulary for each side is not supported", where="decoder_vocab_size")
    for part in ("attention_heads", "ffn_dim"):
        if hf[f"encoder_{part}"] != hf[f"decoder_{part}"]:
            raise ModelError("an encoder and a decoder of different sizes are not supported", where=f"decoder_{part}")
    width, heads = hf["d_model"], hf["decoder_attention_heads"]
    activation = hf.get("activation_function", "gelu")
    values = {
        "family": "marian",
        "layers": hf["decoder_layers"],
        "encoder_layers": hf["encoder_layers"],
        "width": width,
        "heads": heads,
        "kv_heads": heads,
        "head_width": width // heads,
        "feedforward_width": hf["decoder_ffn_dim"],
        "vocab_size": hf["vocab_size"],
        "max_positions": hf.get("max_position_embeddings", 1024),
        "activation": _ACTIVATIONS.get(activation, activation),
        "embedding_scale": hf.get("scale_embedding", False),
        "initializer_range": hf.get("init_std", 0.02),
        "start_token": None if hf.get("ownlm_no_start_token") else hf.get("decoder_start_token_id", 58100),
    }
    return defaults(values) | values


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``; dropout is the trainer's, so there is none."""
    hf: dict[str, Any] = {
        "model_type": "marian",
        "is_encoder_decoder": True,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.layers,
        "d_model": config.width,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.feedforward_width,
        "decoder_ffn_dim": config.feedforward_width,
        "vocab_size": config.vocab_size,
        "decoder_vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "activation_function": {"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
        "scale_embedding": config.embedding_scale,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "init_std": config.initializer_range,
        "forced_eos_token_id": None,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    }
    start = config.start_token
    # The public class wants a number, within the vocabulary, where none is known yet.
    hf |= {"decoder_start_token_id": start or 0, "pad_token_id": start or 0}
    return hf | ({"ownlm_no_start_token": True} if start is None else {})


def weights(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's."""
    result = {"embedding.token.weight": Weight(("model.shared.weight",))}
    for layer in range(config.encoder_layers):
        result |= _block(f"encoder.{layer}", f"model.encoder.layers.{layer}")
    for layer in range(config.layers):
        ours, theirs = f"layers.{layer}", f"model.decoder.layers.{layer}"
        result |= _block(ours, theirs)
        cross = f"{theirs}.encoder_attn"
        result |= renamed({f"{ours}.cross.query": f"{cross}.q_proj", f"{ours}.cross.output": f"{cross}.out_proj"})
        result |= fused(f"{ours}.cross.key_value", (f"{cross}.k_proj", f"{cross}.v_proj"))
        result |= renamed({f"{ours}.cross_norm": f"{theirs}.encoder_attn_layer_norm"})
    return result | {"head.bias": Weight(("final_logits_bias",), row=True)}


def _block(ours: str, theirs: str) -> dict[str, Weight]:
    pairs = {
        "attention.output": "self_attn.out_proj",
        "attention_norm": "self_attn_layer_norm",
        "feedforward.up": "fc1",
        "feedforward.down": "fc2",
        "feedforward_norm": "final_layer_norm",
    }
    result = fused(f"{ours}.attention.qkv", tuple(f"{theirs}.self_attn.{part}_proj" for part in "qkv"))
    return result | renamed({f"{ours}.{a}": f"{theirs}.{b}" for a, b in pairs.items()})
