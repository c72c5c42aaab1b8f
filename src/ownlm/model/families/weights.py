"""Where each of our weights lives in a family's checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config import ModelConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Weight:
    """One of our tensors as it stands in a checkpoint.

    Attributes:
        parts: the checkpoint's tensors, which we hold joined along the first axis (query, key and value are one).
        transposed: the checkpoint holds [inputs, outputs]; we hold [outputs, inputs].
        interleaved: the checkpoint keeps query, key and value of each of so many heads together; we hold all queries,
            then all keys, then all values. 0 is not.
        row: the checkpoint holds the vector as a matrix of one row.
        also: further names under which the checkpoint repeats the tensor; they are written and never read.
    """

    parts: tuple[str, ...]
    transposed: bool = False
    interleaved: int = 0
    row: bool = False
    also: tuple[str, ...] = ()

    def ours(self, stored: Tensor) -> Tensor:
        """A part in our layout; a view where that is possible."""
        if self.row:
            return stored.flatten()
        if self.interleaved:
            return stored.unflatten(0, (self.interleaved, 3, -1)).transpose(0, 1).flatten(0, 2)
        return stored.t() if self.transposed else stored

    def stored(self, ours: Tensor) -> Tensor:
        """A part in the checkpoint's layout; a view where that is possible."""
        if self.row:
            return ours.unsqueeze(0)
        if self.interleaved:
            return ours.unflatten(0, (3, self.interleaved, -1)).transpose(0, 1).flatten(0, 2)
        return ours.t() if self.transposed else ours


def renamed(pairs: Mapping[str, str], kinds: tuple[str, ...] = ("weight", "bias")) -> dict[str, Weight]:
    """Layers under another name, each with its weight and bias: our layers' names to the checkpoint's."""
    return {f"{ours}.{kind}": Weight((f"{theirs}.{kind}",)) for ours, theirs in pairs.items() for kind in kinds}


def fused(ours: str, theirs: tuple[str, ...]) -> dict[str, Weight]:
    """Several of the checkpoint's layers that are one of ours, with weights and biases."""
    return {f"{ours}.{kind}": Weight(tuple(f"{name}.{kind}" for name in theirs)) for kind in ("weight", "bias")}


def masked_bias(config: ModelConfig, prefix: str) -> dict[str, Weight]:
    """The bias over the vocabulary of a masked-language head, and its matrix where it is not the embedding."""
    if config.tied_head:
        return {"head.bias": Weight((f"{prefix}.bias",))}
    # The public classes hold the bias twice, and without tying add the decoder's.
    bias = Weight((f"{prefix}.decoder.bias",), also=(f"{prefix}.bias",))
    return {"head.weight": Weight((f"{prefix}.decoder.weight",)), "head.bias": bias}


def llama_weights(config: ModelConfig, span_stack: str = "transformer") -> dict[str, Weight]:
    """The map shared by Llama and the families that keep its names.

    span_stack: what the public class for question answering calls the stack.
    """
    stack = span_stack if config.head == "span" else "model"

    def linear(ours: str, *theirs: str, bias: bool) -> dict[str, Weight]:
        kinds = ("weight", "bias") if bias else ("weight",)
        return {f"{ours}.{kind}": Weight(tuple(f"{name}.{kind}" for name in theirs)) for kind in kinds}

    weights = {"embedding.token.weight": Weight((f"{stack}.embed_tokens.weight",))}
    for layer in range(config.layers):
        a, b = f"layers.{layer}", f"{stack}.layers.{layer}"
        qkv = tuple(f"{b}.self_attn.{part}_proj" for part in "qkv")
        weights |= linear(f"{a}.attention.qkv", *qkv, bias=config.qkv_bias)
        weights |= linear(f"{a}.attention.output", f"{b}.self_attn.o_proj", bias=config.output_bias)
        ups = (f"{b}.mlp.gate_proj", f"{b}.mlp.up_proj")
        weights |= linear(f"{a}.feedforward.up", *ups, bias=config.feedforward_bias)
        weights |= linear(f"{a}.feedforward.down", f"{b}.mlp.down_proj", bias=config.feedforward_bias)
        weights[f"{a}.attention_norm.weight"] = Weight((f"{b}.input_layernorm.weight",))
        before_feedforward = "post_attention_layernorm"
        if config.norm_position == "both":
            before_feedforward = "pre_feedforward_layernorm"
            weights[f"{a}.attention_out_norm.weight"] = Weight((f"{b}.post_attention_layernorm.weight",))
            weights[f"{a}.feedforward_out_norm.weight"] = Weight((f"{b}.post_feedforward_layernorm.weight",))
        weights[f"{a}.feedforward_norm.weight"] = Weight((f"{b}.{before_feedforward}.weight",))
        if config.qk_norm:
            weights[f"{a}.attention.q_norm.weight"] = Weight((f"{b}.self_attn.q_norm.weight",))
            weights[f"{a}.attention.k_norm.weight"] = Weight((f"{b}.self_attn.k_norm.weight",))
    weights["final_norm.weight"] = Weight((f"{stack}.norm.weight",))
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
