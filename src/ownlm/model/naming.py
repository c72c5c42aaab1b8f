"""From our weights to a checkpoint's and back: names, joined and transposed parts, and what is wrong with a stranger's.

A family's map says where each of our tensors lives; everything that reads or writes weights goes through here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping

import torch
from torch import Tensor

from ..errors import ModelError
from .config import ModelConfig
from .families import Weight, family_of
from .transformer import Transformer

# Buffers that old checkpoints carry: causal masks, rotary frequencies, rows of numbers. They follow from the config.
_BUFFERS = re.compile(
    r"(^|\.)(attn\.(bias|masked_bias)|rotary_emb\.inv_freq|attention\.(bias|masked_bias)|embeddings\.position_ids)$"
)


def state_to_hf(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Our weights under the names and in the layout of the family's checkpoint; views where that is possible."""
    result = {}
    for name, weight in weight_map(config).items():
        tensor = state[name].detach()
        parts = tensor.split(part_sizes(name, weight, config)) if len(weight.parts) > 1 else (tensor,)
        for part, values in zip(weight.parts, parts, strict=True):
            result[part] = weight.stored(values)
        # A file of tensors holds none that share their memory.
        result |= {name: result[weight.parts[0]].clone() for name in weight.also}
    return result


def state_from_hf(stored: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """A checkpoint's tensors as our weights, in memory of their own.

    Raises:
        ModelError: a tensor is missing, unexpected or of the wrong shape.
    """
    with torch.device("meta"):
        ours = {name: tuple(p.shape) for name, p in Transformer(config).named_parameters()}
    check_tensors(config, ours, {name: tuple(t.shape) for name, t in stored.items()}, lambda name: None)
    return {
        name: joined(weight, lambda part: stored[spelled(part, stored)]) for name, weight in weight_map(config).items()
    }


def weight_map(config: ModelConfig) -> dict[str, Weight]:
    """Our names to the checkpoint's tensors, in the checkpoint's order."""
    return family_of(config.family).module.weights(config)


def part_sizes(name: str, weight: Weight, config: ModelConfig) -> list[int]:
    """How many rows of our joined tensor each of the checkpoint's tensors holds."""
    if ".attention.qkv." in name:
        return list(config.qkv_widths)
    if ".cross.key_value." in name:
        return list(config.qkv_widths[1:])
    return [config.feedforward_width] * len(weight.parts)


def joined(weight: Weight, read: Callable[[str], Tensor]) -> Tensor:
    """One of our tensors from the checkpoint's, in memory of its own."""
    parts = [read(part) for part in weight.parts]
    if len(parts) > 1:
        return torch.cat(parts)
    return weight.ours(parts[0]).clone(memory_format=torch.contiguous_format)


def spelled(name: str, stored: Container[str]) -> str:
    """How a checkpoint spells a name.

    One saved from the bare stack lacks the prefix ("bert.", "model."), the public question-answering classes of some
    families have another, and one converted from the first BERT calls a norm's weight gamma and its bias beta.
    """
    bare = name.partition(".")[2]
    choices = [name, bare, f"model.{bare}", f"transformer.{bare}"]
    choices += [re.sub(r"LayerNorm\.(weight|bias)$", _old_norm, choice) for choice in choices]
    return next((choice for choice in choices if choice in stored), name)


def _old_norm(match: re.Match[str]) -> str:
    return "LayerNorm.gamma" if match[1] == "weight" else "LayerNorm.beta"


def check_tensors(
    config: ModelConfig,
    ours: Mapping[str, tuple[int, ...]],
    stored: Mapping[str, tuple[int, ...]],
    where: Callable[[str | None], str | None],
) -> None:
    """Compares a checkpoint's names and shapes with what the config asks for.

    Args:
        config: the model's.
        ours: our parameters' shapes.
        stored: the checkpoint's shapes.
        where: the file that holds a tensor; the folder for None.

    Raises:
        ModelError: names the first tensor that is wrong, and says how many more there are.
    """
    expected = _expected({name: w for name, w in weight_map(config).items() if name in ours}, config, ours, stored)
    if missing := [name for name in expected if name not in stored]:
        raise ModelError(
            f"the tensor '{missing[0]}' {list(expected[missing[0]])} is missing{_more(missing)}",
            where=where(None),
            hint="the weights do not belong to this config.json, or the download is not complete",
        )
    ignored = _heads(config, stored) - set(expected)
    odd = [name for name in stored if name not in expected and name not in ignored]
    if strangers := [name for name in odd if not _BUFFERS.search(name)]:
        raise ModelError(
            f"the tensor '{strangers[0]}' {list(stored[strangers[0]])} has no place in this {config.family} model"
            f"{_more(strangers)}",
            where=where(strangers[0]),
            hint="the weights do not belong to this config.json, or use a feature that is not supported",
        )
    if wrong := [name for name, shape in expected.items() if stored[name] != shape]:
        raise ModelError(
            f"the tensor '{wrong[0]}' has the shape {list(stored[wrong[0]])}, "
            f"but the config asks for {list(expected[wrong[0]])}{_more(wrong)}",
            where=where(wrong[0]),
            hint="the weights do not belong to this config.json",
        )


def new_weights(
    config: ModelConfig, ours: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]]
) -> set[str]:
    """The weights of the model's head for which a checkpoint with another head holds nothing of their shape."""
    heads = {name: weight for name, weight in weight_map(config).items() if name.startswith("head.")}
    expected = {name: _expected({name: weight}, config, ours, stored) for name, weight in heads.items()}
    return {name for name, parts in expected.items() if any(stored.get(p) != shape for p, shape in parts.items())}


def _heads(config: ModelConfig, stored: Container[str]) -> set[str]:
    """The tensors of every head that a checkpoint of the family may hold; the model's own may be another."""
    family = family_of(config.family)
    names = set(family.unused)
    for head in family.architectures:
        pair = {"next_sentence": head == "masked" and family.next_sentence, "labels": ("",)}
        kind = config.model_copy(update={"head": head, "tied_head": False, **pair})
        for name, weight in weight_map(kind).items():
            names |= {*weight.parts, *weight.also} if name.startswith("head.") else set()
    return {spelled(name, stored) for name in names}


def _expected(
    weights: Mapping[str, Weight], config: ModelConfig, ours: Mapping[str, tuple[int, ...]], stored: Container[str]
) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that the checkpoint must hold, under the checkpoint's own spelling."""
    expected = {}
    for name, weight in weights.items():
        shape = ours[name]
        sizes = part_sizes(name, weight, config) if len(weight.parts) > 1 else [shape[0]]
        for part, size in zip(weight.parts, sizes, strict=True):
            layout = (1, size) if weight.row else (size, *shape[1:])
            expected[spelled(part, stored)] = layout[::-1] if weight.transposed else layout
    return expected


def _more(names: list[str]) -> str:
    return f", and {len(names) - 1} more like it" if len(names) > 1 else ""
