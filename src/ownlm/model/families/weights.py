"""Where each of our weights lives in a family's checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import ModelConfig


@dataclass(frozen=True)
class Weight:
    """One of our tensors as it stands in a checkpoint.

    Attributes:
        parts: the checkpoint's tensors, which we hold joined along the first axis (query, key and value are one).
        transposed: the checkpoint holds [inputs, outputs]; we hold [outputs, inputs].
    """

    parts: tuple[str, ...]
    transposed: bool = False


def llama_weights(config: ModelConfig) -> dict[str, Weight]:
    """The map shared by Llama and the families that keep its names."""

    def linear(ours: str, *theirs: str, bias: bool) -> dict[str, Weight]:
        kinds = ("weight", "bias") if bias else ("weight",)
        return {f"{ours}.{kind}": Weight(tuple(f"{name}.{kind}" for name in theirs)) for kind in kinds}

    weights = {"embedding.token.weight": Weight(("model.embed_tokens.weight",))}
    for layer in range(config.layers):
        a, b = f"layers.{layer}", f"model.layers.{layer}"
        qkv = tuple(f"{b}.self_attn.{part}_proj" for part in "qkv")
        weights |= linear(f"{a}.attention.qkv", *qkv, bias=config.qkv_bias)
        weights |= linear(f"{a}.attention.output", f"{b}.self_attn.o_proj", bias=config.output_bias)
        ups = (f"{b}.mlp.gate_proj", f"{b}.mlp.up_proj")
        weights |= linear(f"{a}.feedforward.up", *ups, bias=config.feedforward_bias)
        weights |= linear(f"{a}.feedforward.down", f"{b}.mlp.down_proj", bias=config.feedforward_bias)
        weights[f"{a}.attention_norm.weight"] = Weight((f"{b}.input_layernorm.weight",))
        weights[f"{a}.feedforward_norm.weight"] = Weight((f"{b}.post_attention_layernorm.weight",))
        if config.qk_norm:
            weights[f"{a}.attention.q_norm.weight"] = Weight((f"{b}.self_attn.q_norm.weight",))
            weights[f"{a}.attention.k_norm.weight"] = Weight((f"{b}.self_attn.k_norm.weight",))
    weights["final_norm.weight"] = Weight(("model.norm.weight",))
    return weights | decoder_head(config)


def decoder_head(config: ModelConfig, lm: str = "lm_head.weight") -> dict[str, Weight]:
    """Where a decoder's head lives: our names to the checkpoint's."""
    if config.head == "lm":
        return {} if config.tied_head else {"head.weight": Weight((lm,))}
    if config.head == "classify":
        return {"head.out.weight": Weight(("score.weight",))}
    if config.head == "span":
        return {f"head.out.{kind}": Weight((f"qa_outputs.{kind}",)) for kind in ("weight", "bias")}
    return {}
