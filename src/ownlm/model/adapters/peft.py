"""PEFT's adapter folders, in and out: adapter_config.json and adapter_model.safetensors.

| tensor, after "base_model.model." | is |
|---|---|
| MODULE.lora_A.weight, MODULE.lora_B.weight | the two matrices of a projection |
| MODULE.lora_magnitude_vector | DoRA's row lengths |
| any other name | a weight of the model that was trained whole: the config's modules_to_save |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...config import validate
from ...errors import ConfigError, DamagedError, ModelError
from ...files import read_json
from ..config import ModelConfig
from ..families import family_of
from ..naming import part_sizes, spelled, weight_map
from ..transformer import Transformer
from .attach import adapter_layers, places, put, trained_modules
from .config import LoraConfig
from .lora import DoraLinear

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"

PREFIX = "base_model.model."
A, B, MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"

_MERGE = "merge it when the base is loaded: --adapter"
# A module of one of many layers.
_IN_LAYER = re.compile(r"\.\d+\.")

TASKS = {"lm": "CAUSAL_LM", "classify": "SEQ_CLS", "span": "QUESTION_ANS", "none": "FEATURE_EXTRACTION"}


def peft_state(
    model: Transformer, lora: LoraConfig, base: str, modules: Sequence[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The adapter as PEFT stores it: (tensors of adapter_model.safetensors, content of adapter_config.json).

    Args:
        model: what the adapter is attached to.
        lora: what it was attached with.
        base: the base model's name.
        modules: what was trained whole beside it; None is ``trained_modules``.
    """
    matrices, whole = _matrices(model, lora), _whole(model, modules)
    if not matrices:
        raise ModelError("the model has no adapter to save")
    weights = weight_map(model.config)
    adapted = {name.removesuffix(A) for name in matrices if name.endswith(A)}
    config = {
        "peft_type": "LORA",
        # PEFT has no name for a masked-language model; without one it takes the model as it is.
        "task_type": TASKS.get(model.config.head),
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.strength,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "use_dora": lora.kind == "dora",
        "target_modules": _module_names(adapted, _modules(model.config) - adapted),
        "modules_to_save": _saved_modules(whole, model.config) or None,
        "fan_in_fan_out": any(weights[f"{name}.weight"].transposed for name in adapter_layers(model)),
        "bias": "none",
        "inference_mode": True,
    }
    return {PREFIX + name: slot.read() for name, slot in _bare(model, {**matrices, **whole}).items()}, config


def load_peft_state(
    model: Transformer,
    lora: LoraConfig,
    tensors: Mapping[str, Tensor],
    where: str,
    modules: Sequence[str] | None = None,
) -> None:
    """Puts a stored adapter's tensors into the model's adapters, exactly.

    Raises:
        ModelError: a tensor is missing, unexpected or of another shape: the adapter is for another base.
    """
    slots = _bare(model, {**_matrices(model, lora), **_whole(model, modules)})
    expected = {PREFIX + name: slot for name, slot in slots.items()}
    if odd := sorted(set(expected) ^ set(tensors)):
        raise ModelError(f"the adapter does not fit the model: '{odd[0]}'", where=where)
    for name, slot in expected.items():
        _check_fits(name, tensors[name], slot.shape, where)
    for name, slot in expected.items():
        slot.write(tensors[name])


def load_adapter(model: Transformer, folder: Path, *, beside_only: bool = False) -> LoraConfig:
    """Attaches the adapter of a PEFT folder to its base, which is left frozen.

    Args:
        model: the base, loaded; it may be quantized.
        folder: holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        beside_only: refuses an adapter that is more than products beside the base's: which several could share.

    Returns:
        What the adapter is, as ``peft_state`` needs it.

    Raises:
        ModelError: a missing file, a kind of adapter that is not supported, or one for another base; the model stays
            as it was.
        DamagedError: the weights are cut short.
    """
    folder = Path(folder)
    values = _read_config(folder)
    lora = _lora_config(values, str(folder / CONFIG))
    if beside_only and lora.kind != "lora":
        raise ModelError(
            "a DoRA adapter changes the base's rows, so no other can run beside it", where=str(folder), hint=_MERGE
        )
    where = str(folder / WEIGHTS)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in _read_weights(folder).items()}
    matrices = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    chosen, slots = _chosen(model, lora, matrices, where), _whole(model, [""])
    _check_layers(model, values, matrices, where)
    if model.config.tied_head and model.config.head in ("lm", "masked"):
        # The public library would train it apart from the head.
        slots = {name: slot for name, slot in slots.items() if slot.view.data_ptr() != model.head_weight.data_ptr()}
    slots = {spelled(name, tensors): slot for name, slot in slots.items()}
    whole = tensors.keys() - matrices.keys()
    if beside_only and whole:
        message = f"the adapter replaces '{min(whole)}' of the base, so no other can run beside it"
        raise ModelError(message, where=where, hint=_MERGE)
    for name in sorted(whole):
        if name not in slots:
            raise _misfit(name, model, where)
        _check_fits(PREFIX + name, tensors[name], slots[name].shape, where)
    model.requires_grad_(False)
    found = places(model)
    for name, adapted in chosen.items():
        put(model, name, found[name], adapted, lora)
    for name, slot in _matrices(model, lora).items():
        slot.write(matrices[spelled(name, matrices)])
    for name in whole:
        slots[name].write(tensors[name])
    model.eval()
    parts = {found[name].parts[i] for name, adapted in chosen.items() for i in adapted}
    return lora.model_copy(update={"targets": _module_names(parts, _modules(model.config) - parts)})


@dataclass(frozen=True)
class _Slot:
    """Where a stored tensor lives: some of a parameter's rows.

    Attributes:
        view: the rows.
        stored: from our layout to the checkpoint's.
        ours: and back.
    """

    view: Tensor
    stored: Callable[[Tensor], Tensor]
    ours: Callable[[Tensor], Tensor]

    @property
    def shape(self) -> list[int]:
        """Of the stored tensor."""
        return list(self.read().shape)

    def read(self) -> Tensor:
        """The stored tensor; a view where that is possible."""
        return self.stored(self.view)

    def write(self, tensor: Tensor) -> None:
        """Puts a stored tensor in."""
        self.view.copy_(self.ours(tensor))


def _matrices(model: Transformer, lora: LoraConfig) -> dict[str, _Slot]:
    """Every adapter's parameters under PEFT's names, without its prefix."""
    slots: dict[str, _Slot] = {}
    found, weights = places(model), weight_map(model.config)
    for name, layer in adapter_layers(model).items():
        assert (layer.rank, layer.scale) == (lora.rank, lora.scale), "it was attached with another config"
        weight = weights[f"{name}.weight"]
        # B's rows, and the lengths of rows, stand in the order of the weight's own; it is A that meets the inputs.
        inputs = (_same, _same)
        rows = (weight.stored, weight.ours) if weight.interleaved else inputs
        parameters = [(A, layer.a.detach().split(layer.rank), inputs), (B, layer.b.detach().split(layer.sizes), rows)]
        if isinstance(layer, DoraLinear):
            parameters.append((MAGNITUDE, layer.magnitude.detach().split(layer.sizes), rows))
        for kind, parts, layouts in parameters:
            for index, part in zip(layer.adapted, parts, strict=True):
                slots[found[name].parts[index] + kind] = _Slot(part, *layouts)
    return slots


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _whole(model: Transformer, modules: Sequence[str] | None) -> dict[str, _Slot]:
    """The parameters of some of the model's modules under the checkpoint's names; "" is the whole model."""
    modules = trained_modules(model.config) if modules is None else modules
    parameters = dict(model.named_parameters())
    slots: dict[str, _Slot] = {}
    adapted = adapter_layers(model)
    for name, weight in weight_map(model.config).items():
        inside = any(not module or name.startswith(f"{module}.") for module in modules)
        # An adapted projection is frozen, inside such a module too.
        if not inside or name not in parameters or name.rpartition(".")[0] in adapted:
            continue
        rows = parameters[name].detach()
        parts = rows.split(part_sizes(name, weight, model.config)) if len(weight.parts) > 1 else (rows,)
        slots |= {part: _Slot(view, weight.stored, weight.ours) for part, view in zip(weight.parts, parts, strict=True)}
    return slots


def _bare(model: Transformer, slots: Mapping[str, _Slot]) -> dict[str, _Slot]:
    """As the class of the model's head calls them: the one without a head is the stack alone, and lacks its name."""
    strip = model.config.head == "none"
    return {name.partition(".")[2] if strip else name: slot for name, slot in slots.items()}


def _chosen(model: Transformer, lora: LoraConfig, matrices: Mapping[str, Tensor], where: str) -> dict[str, list[int]]:
    """Our modules that a stored adapter adapts, with the segments, after checking that its every tensor fits."""
    chosen: dict[str, list[int]] = {}
    expected: set[str] = set()
    for name, place in places(model).items():
        for index, part in enumerate(place.parts):
            kinds = (A, B, MAGNITUDE) if lora.kind == "dora" else (A, B)
            names = [spelled(part + kind, matrices) for kind in kinds]
            if not any(name in matrices for name in names):
                continue
            outputs = place.segments[index]
            shapes = ([lora.rank, place.layer.inputs], [outputs, lora.rank], [outputs])
            for stored, shape in zip(names, shapes, strict=False):
                if stored not in matrices:
                    raise ModelError(f"the tensor '{PREFIX}{stored}' is missing", where=where)
                _check_fits(PREFIX + stored, matrices[stored], shape, where)
            chosen.setdefault(name, []).append(index)
            expected.update(names)
    for name in matrices:
        if name not in expected:
            raise _misfit(name, model, where)
    if not chosen:
        raise ModelError("there is no adapter's matrix in this file", where=where)
    return chosen


def _check_layers(model: Transformer, values: Mapping[str, Any], matrices: Mapping[str, Tensor], where: str) -> None:
    """Checks that an adapter of every layer is one of every layer of this model.

    Raises:
        ModelError: a projection that its config names has no matrices in some layer.
    """
    targets = values.get("target_modules")
    if not isinstance(targets, list) or values.get("layers_to_transform") is not None or values.get("exclude_modules"):
        return
    for place in places(model).values():
        for part in place.parts:
            named = any(f".{part}".endswith(f".{target}") for target in targets)
            if named and _IN_LAYER.search(part) and spelled(part + A, matrices) not in matrices:
                hint = "the adapter is for another base, with other layers"
                raise ModelError(f"the tensor '{PREFIX}{part}{A}' is missing", where=where, hint=hint)


def _misfit(name: str, model: Transformer, where: str) -> ModelError:
    return ModelError(
        f"the tensor '{PREFIX}{name}' has no place in this {model.config.family} model",
        where=where,
        hint="the adapter is for another base, or for one with another head",
    )


def _check_fits(name: str, tensor: Tensor, wanted: list[int], where: str) -> None:
    if not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ModelError(f"'{name}' holds {kind} numbers, not floating-point ones", where=where)
    if list(tensor.shape) != wanted:
        message = f"'{name}' has the shape {list(tensor.shape)}, the model needs {wanted}"
        raise ModelError(message, where=where, hint="the adapter is for another base")


def _modules(config: ModelConfig) -> set[str]:
    """Every module of the checkpoint, with those of other heads: a file for one head may be read into another class."""
    names = {part for weight in weight_map(config).values() for part in weight.parts}
    for head in family_of(config.family).architectures:
        anything = {"head": head, "tied_head": False, "next_sentence": head == "masked", "labels": ("",)}
        other = weight_map(config.model_copy(update=anything))
        names |= {part for name, weight in other.items() if name.startswith("head.") for part in weight.parts}
    return {name.rpartition(".")[0] for name in names}


def _module_names(adapted: set[str], others: set[str]) -> list[str]:
    """What PEFT calls the adapted modules: as few of their last names as tell them from all others."""
    result = set()
    for module in adapted:
        names = module.split(".")
        ends = [".".join(names[-count:]) for count in range(1, len(names) + 1)]
        result.add(next(e for e in ends if e == module or not any(f".{o}".endswith(f".{e}") for o in others)))
    return sorted(result)


def _saved_modules(whole: Iterable[str], config: ModelConfig) -> list[str]:
    """What PEFT calls the modules trained whole: a head by its first name, what is inside the stack by its last ones."""
    stack = weight_map(config)["embedding.token.weight"].parts[0].partition(".")[0]
    result = set()
    for name in whole:
        first, _, rest = name.partition(".")
        result.add(rest.rpartition(".")[0] if first == stack else first)
    return sorted(result)


# What each key of adapter_config.json may hold: what changes nothing about the weights, or what is read below.
_ANY = frozenset({
    "auto_mapping", "base_model_name_or_path", "exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights",
    "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "megatron_core", "modules_to_save",
    "peft_type", "peft_version", "qalora_group_size", "r", "revision", "runtime_config", "target_modules", "task_type",
    "use_dora", "use_rslora", "ensure_weight_tying",
})  # fmt: skip
# Starts that leave the base's own weights alone. After any other the adapter is none for the base as it is stored.
_STARTS = ("true", "false", "gaussian", "eva", "orthogonal", "mica")


def _lora_config(values: Mapping[str, Any], where: str) -> LoraConfig:
    """What adapter_config.json says, where all of it is supported."""
    if values.get("peft_type") != "LORA":
        raise ModelError(f"an adapter of the kind '{values.get('peft_type')}' is not supported", where=where)
    for key, value in sorted(values.items()):
        if value and key not in _ANY and (key, value) != ("bias", "none"):
            raise ModelError(f"an adapter with {key} is not supported", where=where)
    start = str(values.get("init_lora_weights", True))
    if start.lower() not in _STARTS:
        raise ModelError(
            f"an adapter that began as '{start}' is for a base that was changed with it",
            where=where,
            hint="save it with PEFT's path_initial_model_for_weight_conversion",
        )
    try:
        read = {
            "kind": "dora" if values.get("use_dora") else "lora",
            "rank": values["r"],
            "alpha": values["lora_alpha"],
            "rslora": bool(values.get("use_rslora")),
            "dropout": values.get("lora_dropout", 0.0),
        }
        lora = validate(LoraConfig, read)
    except KeyError as error:
        raise ModelError(f"the key {error} is missing", where=where) from None
    except ConfigError as error:
        raise ModelError(error.message, where=where) from None
    if lora.rank < 1:
        raise ModelError("the rank must be at least 1", where=f"{where}: r")
    if lora.alpha is None or abs(lora.alpha) > torch.finfo(torch.float32).max:
        raise ModelError(f"a number was expected (got {lora.alpha})", where=f"{where}: lora_alpha")
    return lora


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        missing = "there is no adapter_config.json here" if folder.is_dir() else "there is no such folder"
        raise ModelError(missing, where=str(folder), hint="name the folder of an adapter, as PEFT saves it")
    values = read_json(path)
    if not isinstance(values, dict):
        raise ModelError("a JSON object was expected", where=str(path))
    return values


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = next(folder.glob("adapter_model.bin"), None)
        hint = (
            "save it with PEFT again: a .bin file can run code when it is opened" if pickled else "the copy is partial"
        )
        raise ModelError(f"there is no {WEIGHTS} here", where=str(folder), hint=hint)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedError(
            f"this file is cut short or damaged: {error}", where=str(path), hint="copy or fetch it again"
        ) from None
