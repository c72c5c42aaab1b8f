"""Putting adapters beside a model's projections, and counting what is then trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...errors import ConfigError, nearest
from ..config import ModelConfig
from ..layers import Linear
from ..naming import weight_map
from ..quantized import QuantizedLinear, replace_layer
from ..transformer import Transformer
from .config import LoraConfig
from .lora import DoraLinear, LoraLinear, Projection


@dataclass(frozen=True)
class Place:
    """A projection that can be adapted.

    Attributes:
        layer: our layer.
        parts: the checkpoint's modules that it joins.
        segments: the outputs of each of them.
    """

    layer: Projection
    parts: tuple[str, ...]
    segments: tuple[int, ...]


def attach(model: Transformer, lora: LoraConfig, seed: int, modules: Sequence[str] | None = None) -> None:
    """Freezes the model and puts adapters beside its projections; A is random, B is zero, so nothing changes yet.

    Args:
        model: what is adapted, quantized or not.
        lora: how.
        seed: decides A.
        modules: what else is trained, whole and in float32; None is ``trained_modules``.

    Raises:
        ConfigError: a target that the model does not have, no target at all, a rank below 1, or an alpha not above 0.
    """
    if lora.rank < 1:
        raise ConfigError("the rank must be at least 1", where="adapter.rank")
    if lora.scale <= 0:
        raise ConfigError("alpha must be above 0", where="adapter.alpha")
    if not lora.targets:
        raise ConfigError("no projection is named, so nothing would be trained", where="adapter.targets")
    assert not adapter_layers(model), "the model has an adapter already"
    found = places(model)
    chosen = {name: (found[name], adapted) for name, adapted in _targets(found, lora.targets).items()}
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, (place, adapted) in chosen.items():
        layer = put(model, name, place, adapted, lora)
        # PEFT's start: uniform within sqrt(1 / inputs), as nn.Linear's own.
        bound = 1 / math.sqrt(place.layer.inputs)
        with torch.no_grad():
            layer.a.copy_((torch.rand(layer.a.shape, generator=generator) * 2 - 1) * bound)
    for module in trained_modules(model.config) if modules is None else modules:
        model.get_submodule(module).float().requires_grad_(True)


def put(model: Transformer, name: str, place: Place, adapted: Sequence[int], lora: LoraConfig) -> LoraLinear:
    """One adapter of zeros beside one projection."""
    kind = DoraLinear if lora.kind == "dora" else LoraLinear
    layer = kind(place.layer, place.segments, adapted, lora.rank, lora.scale, lora.dropout)
    replace_layer(model, name, layer)
    return layer


def adapter_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Every adapted projection by its module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


def trained_modules(config: ModelConfig) -> tuple[str, ...]:
    """What is trained whole beside an adapter: a head that no base comes with."""
    return ("head",) if config.head in ("classify", "span") else ()


def adapter_parameters(config: ModelConfig, lora: LoraConfig) -> int:
    """The exact number of parameters that an adapter trains, a head that is trained whole included.

    Raises:
        ConfigError: a target that the model does not have.
    """
    with torch.device("meta"):
        model = Transformer(config)
    found, total = places(model), 0
    for name, adapted in _targets(found, lora.targets).items():
        outputs = sum(found[name].segments[i] for i in adapted)
        total += lora.rank * (len(adapted) * found[name].layer.inputs + outputs)
        total += outputs if lora.kind == "dora" else 0
    whole = (model.get_submodule(name) for name in trained_modules(config))
    return total + sum(p.numel() for module in whole for p in module.parameters())


def places(model: Transformer) -> dict[str, Place]:
    """Every projection by its module name, those of a head too; adapted ones as they were before."""
    result = {}
    for name, weight in weight_map(model.config).items():
        module, _, leaf = name.rpartition(".")
        layer = model.get_submodule(module) if leaf == "weight" else None
        if isinstance(layer, LoraLinear):
            layer = layer.base
        if isinstance(layer, Linear | QuantizedLinear):
            # One tensor in the checkpoint (GPT-2's c_attn) is one adapter, as in PEFT.
            segments = layer.segments if len(weight.parts) > 1 else (layer.outputs,)
            parts = tuple(part.removesuffix(".weight") for part in weight.parts)
            result[module] = Place(layer, parts, segments)
    return result


def _targets(found: dict[str, Place], targets: str | Sequence[str]) -> dict[str, list[int]]:
    """Module name -> which of its segments are adapted; only what stands under the blocks."""
    wanted = {targets} if isinstance(targets, str) else set(targets)
    known, used = {"all-linear"}, set()
    result: dict[str, list[int]] = {}
    for module, place in found.items():
        if module.startswith("head"):
            continue
        ours = module.rsplit(".", 1)[1]
        known |= {ours, *(part.rsplit(".", 1)[1] for part in place.parts)}
        adapted = []
        for index, part in enumerate(place.parts):
            # By the last of its names, as PEFT has it, or by the last few.
            fits = {t for t in wanted if t in ("all-linear", ours) or f".{part}".endswith(f".{t}")}
            used |= fits
            if fits:
                adapted.append(index)
        if adapted:
            result[module] = adapted
    if missing := wanted - used:
        name = sorted(missing)[0]
        raise ConfigError(f"the model has no projection '{name}'", where="adapter.targets", hint=nearest(name, known))
    return result
