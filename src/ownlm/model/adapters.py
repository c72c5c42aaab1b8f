"""Adapters: a frozen model with small trained matrices beside its own (LoRA, Hu et al. 2021).

Where we hold several of a checkpoint's projections as one (query, key and value; gate and up), each keeps its own pair
of matrices, as PEFT has them, but all pairs of a layer run as two products.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import Config
from ..errors import ConfigError, ModelError, nearest
from .config import ModelConfig
from .families import family_of
from .layers import Linear
from .transformer import Transformer


class LoraConfig(Config):
    """Low-rank adapters beside chosen projections."""

    kind: Literal["lora"] = "lora"
    """The kind of adapter."""
    rank: int = 16
    """Inner size of the two matrices."""
    alpha: float | None = None
    """The update is scaled by alpha / rank; none is 2 x rank."""
    targets: str | list[str] = "all-linear"
    """all-linear, or projections by the checkpoint's names (q_proj, gate_proj, ...) or ours (qkv, output, up, down)."""

    @property
    def scale(self) -> float:
        """What the update is multiplied by."""
        return (2 * self.rank if self.alpha is None else self.alpha) / self.rank


class LoraLinear(nn.Module):
    """A frozen projection plus ``scale * x @ A.T @ B.T`` for each of its adapted segments.

    Attributes:
        a: [adapted * rank, inputs], the adapted segments' A matrices one under another.
        b: [outputs of the adapted segments, rank], their B matrices one under another.
    """

    def __init__(self, base: Linear, segments: Sequence[int], adapted: Sequence[int], rank: int, scale: float) -> None:
        super().__init__()
        self.base, self.segments_split, self.adapted, self.rank, self.scale = (
            base,
            tuple(segments),
            tuple(adapted),
            rank,
            scale,
        )
        device = base.weight.device
        self.a = nn.Parameter(torch.zeros(len(self.adapted) * rank, base.inputs, device=device))
        self.b = nn.Parameter(torch.zeros(sum(segments[i] for i in self.adapted), rank, device=device))

    @property
    def segments(self) -> tuple[int, ...]:
        """The base's own segments."""
        return self.base.segments

    def forward(self, x: Tensor) -> Tensor:
        """x: [tokens, inputs] -> [tokens, outputs]."""
        inner = F.linear(x, self.a.to(x.dtype))  # [tokens, adapted * rank]
        return torch.addmm(self.base(x), inner, self._spread().to(x.dtype).t(), alpha=self.scale)

    def delta(self) -> Tensor:
        """What merging adds to the base's weight: [outputs, inputs] float32."""
        return self.scale * (self._spread().float() @ self.a.float())

    def _spread(self) -> Tensor:
        """The B matrices on the diagonal of [outputs, adapted * rank], so that one product serves every segment."""
        if len(self.segments_split) == 1:
            return self.b
        blocks = iter(self.b.split([self.segments_split[i] for i in self.adapted]))
        rows = []
        for index, outputs in enumerate(self.segments_split):
            if index not in self.adapted:
                rows.append(self.b.new_zeros(outputs, len(self.adapted) * self.rank))
                continue
            place = self.adapted.index(index)
            after = len(self.adapted) - place - 1
            rows.append(F.pad(next(blocks), (place * self.rank, after * self.rank)))
        return torch.cat(rows)


def attach(model: Transformer, lora: LoraConfig, seed: int) -> None:
    """Freezes the model and puts adapters beside its projections; A is random, B is zero, so nothing changes yet.

    Raises:
        ConfigError: a target that the model does not have, no target at all, a rank below 1, or an alpha not above 0.
    """
    if lora.rank < 1:
        raise ConfigError("the rank must be at least 1", where="adapter.rank")
    if lora.scale <= 0:
        raise ConfigError("alpha must be above 0", where="adapter.alpha")
    if not lora.targets:
        raise ConfigError("no projection is named, so nothing would be trained", where="adapter.targets")
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    chosen = _targets(model.config, lora.targets)
    for name, (segments, adapted) in chosen.items():
        parent_name, _, child = name.rpartition(".")
        parent = model.get_submodule(parent_name)
        base = parent.get_submodule(child)
        assert isinstance(base, Linear)
        layer = LoraLinear(base, segments or base.segments, adapted, lora.rank, lora.scale)
        # PEFT's start: uniform within sqrt(1 / inputs), as nn.Linear's own.
        bound = 1 / math.sqrt(base.inputs)
        with torch.no_grad():
            layer.a.copy_((torch.rand(layer.a.shape, generator=generator) * 2 - 1) * bound)
        setattr(parent, child, layer)


def _targets(config: ModelConfig, targets: str | Sequence[str]) -> dict[str, tuple[tuple[int, ...], list[int]]]:
    """Module name -> (its segments, empty for the layer's own; which of them are adapted)."""
    wanted = {"all-linear"} if targets == "all-linear" else {targets} if isinstance(targets, str) else set(targets)
    known: set[str] = {"all-linear"}
    used: set[str] = set()
    result: dict[str, tuple[tuple[int, ...], list[int]]] = {}
    for name, weight in family_of(config.family).module.weights(config).items():
        if not name.startswith("layers.") or not name.endswith(".weight") or "norm" in name:
            continue
        module = name.removesuffix(".weight")
        ours = module.rsplit(".", 1)[1]
        theirs = [part.removesuffix(".weight").rsplit(".", 1)[1] for part in weight.parts]
        known |= {ours, *theirs}
        adapted = [i for i, part in enumerate(theirs) if wanted & {"all-linear", ours, part}]
        used |= wanted & {"all-linear", ours, *theirs}
        if adapted:
            # One tensor in the checkpoint (GPT-2's c_attn) is one adapter, as in PEFT.
            whole = _outputs(config, ours) if len(theirs) == 1 else 0
            result[module] = ((whole,) if whole else (), adapted)
    if missing := wanted - used:
        name = sorted(missing)[0]
        raise ConfigError(f"the model has no projection '{name}'", where="adapter.targets", hint=nearest(name, known))
    return result


def _outputs(config: ModelConfig, ours: str) -> int:
    inner = config.feedforward_width * (2 if config.gated else 1)
    return {"qkv": sum(config.qkv_widths), "output": config.width, "up": inner, "down": config.width}[ours]


def adapter_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Every adapted projection by its module name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLinear)}


@torch.no_grad()
def merge(model: Transformer) -> None:
    """Adds every adapter into its base weight, in float32, and removes it; the weight keeps its dtype."""
    for name, layer in adapter_layers(model).items():
        parent_name, _, child = name.rpartition(".")
        weight = layer.base.weight
        weight.copy_((weight.float() + layer.delta()).to(weight.dtype))
        setattr(model.get_submodule(parent_name), child, layer.base)
    model.requires_grad_(True)


def peft_state(model: Transformer, lora: LoraConfig, base: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapter as PEFT stores it: (tensors of adapter_model.safetensors, content of adapter_config.json)."""
    maps: Mapping[str, Any] = family_of(model.config.family).module.weights(model.config)
    tensors: dict[str, Tensor] = {}
    modules: set[str] = set()
    transposed = False
    for name, layer in adapter_layers(model).items():
        weight = maps[f"{name}.weight"]
        transposed = transposed or weight.transposed
        sizes = [layer.segments_split[i] for i in layer.adapted]
        for index, a, b in zip(layer.adapted, layer.a.split(lora.rank), layer.b.split(sizes), strict=True):
            part = weight.parts[index].removesuffix(".weight")
            modules.add(part)
            tensors[f"base_model.model.{part}.lora_A.weight"] = a.detach().contiguous()
            tensors[f"base_model.model.{part}.lora_B.weight"] = b.detach().contiguous()
    if not tensors:
        raise ModelError("the model has no adapter to save")
    everything = {part.removesuffix(".weight") for weight in maps.values() for part in weight.parts}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.scale * lora.rank,
        "lora_dropout": 0.0,
        "target_modules": _module_names(modules, everything - modules),
        "fan_in_fan_out": transposed,
        "bias": "none",
        "inference_mode": True,
    }
    return tensors, config


def _module_names(adapted: set[str], others: set[str]) -> list[str]:
    """What PEFT calls the adapted modules: their last name, or the last two where another module has the same one."""
    taken = {name.rsplit(".", 1)[-1] for name in others}
    names = (name.rsplit(".", 2) for name in adapted)
    return sorted({last if last not in taken else f"{parent}.{last}" for _, parent, last in names})


def load_peft_state(model: Transformer, lora: LoraConfig, tensors: Mapping[str, Tensor], where: str) -> None:
    """Puts a stored adapter's tensors into the model's adapters, exactly.

    Raises:
        ModelError: a tensor is missing, unexpected or of another shape: the adapter is for another base.
    """
    expected, _ = peft_state(model, lora, "")
    if odd := sorted(set(expected) ^ set(tensors)):
        raise ModelError(f"the adapter does not fit the model: '{odd[0]}'", where=where)
    for name, tensor in expected.items():
        if tensor.shape != tensors[name].shape:
            found, wanted = list(tensors[name].shape), list(tensor.shape)
            raise ModelError(f"'{name}' has the shape {found}, the model needs {wanted}", where=where)
    with torch.no_grad():
        for name, tensor in expected.items():
            # peft_state gives views of the parameters themselves (or of their rows).
            tensor.copy_(tensors[name])
