"""Adapters that answers choose among: each adds a low-rank product to projections of one base, in one and the same pass.

``y = W x + B (A x)``: the base's product is computed once for all rows of a pass, and B and A are those of a row's own
adapter. Nothing of the base changes, so rows without an adapter keep their bits, and adapters come and go while others
are answered with.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import ModelError, UserError, nearest
from ..model.adapters import adapter_layers, load_adapter
from ..model.config import ModelConfig
from ..model.transformer import Transformer

# The projections of a block that an adapter may add to, as the kernels number them (kernels/adapters.h).
PLACES = ("attention.qkv", "attention.output", "feedforward.up", "feedforward.down")


@dataclass(frozen=True)
class LowRank:
    """What is added to one projection.

    Attributes:
        a: [inner, inputs] float32; of joined projections, each one's matrix under the other's.
        b: [outputs, inner] float32, the adapter's scale in it; zeros where a projection has nothing to do with a row.
    """

    a: Tensor
    b: Tensor


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter, read.

    Attributes:
        layers: what is added, by the projection's module name.
        digest: of everything that shapes an answer, so that others with the same name never pass for this one.
    """

    layers: Mapping[str, LowRank]
    digest: bytes


class Prepares(Protocol):
    """Who computes with adapters: a decoder."""

    def prepared(self, adapter: Adapter) -> Any:
        """The adapter as the decoder's passes take it; it lasts as long as somebody holds it."""
        ...


@dataclass(frozen=True)
class Ready:
    """An adapter that answers may be asked of.

    Attributes:
        namespace: what keeps its pages apart from those of others; the base's is empty.
        prepared: as the decoder takes it; None for the base.
    """

    namespace: bytes = b""
    prepared: Any = None


class Adapters:
    """The adapters of one engine by name.

    Args:
        config: the base's.
        decoder: what computes with them.
        folders: those that there are from the start.
    """

    def __init__(self, config: ModelConfig, decoder: Prepares, folders: Mapping[str, str | Path]) -> None:
        self._config, self._decoder = config, decoder
        self._ready: dict[str, Ready] = {}
        for name, folder in folders.items():
            self.load(name, self.read(Path(folder)))

    @property
    def digests(self) -> dict[str, str]:
        """The hash of each one's content, by name, in hexadecimal; may be looked at from any thread."""
        return {name: ready.namespace.hex() for name, ready in self._ready.items()}

    def read(self, folder: Path) -> Adapter:
        """An adapter for this base; may be called from any thread.

        Raises:
            ModelError: as ``read_adapter``.
        """
        return read_adapter(self._config, folder)

    def load(self, name: str, adapter: Adapter) -> None:
        """Takes an adapter in; one that has the name already is replaced for whatever is asked from now on.

        Raises:
            UserError: the name is empty.
        """
        if not name:
            raise UserError("an adapter's name is empty", where="adapters", hint="give it one")
        self._ready = {**self._ready, name: Ready(adapter.digest, self._decoder.prepared(adapter))}

    def remove(self, name: str) -> None:
        """Forgets an adapter; what was asked of it before goes on with it.

        Raises:
            UserError: there is none of this name.
        """
        self.find(name)
        self._ready = {other: ready for other, ready in self._ready.items() if other != name}

    def find(self, name: str | None) -> Ready:
        """The adapter of a name; None is the base alone.

        Raises:
            UserError: there is none.
        """
        if name is None:
            return Ready()
        if name not in self._ready:
            hint = nearest(name, self._ready) if self._ready else "the engine has none"
            raise UserError(f"there is no adapter '{name[:200]}'", where="adapter", hint=hint)
        return self._ready[name]


def read_adapter(config: ModelConfig, folder: Path) -> Adapter:
    """The adapter of a PEFT folder for a base of this shape.

    Raises:
        ModelError: as ``load_adapter``; or the adapter is more than low-rank products beside the blocks'.
    """
    structure = _structure(config)
    load_adapter(structure, Path(folder), beside_only=True)
    layers, content = {}, hashlib.blake2b(digest_size=16)
    for name, layer in sorted(adapter_layers(structure).items()):
        if _place(name) is None:
            message = f"the adapter adds to '{name}', and only projections of the blocks can differ between answers"
            raise ModelError(message, where=str(folder), hint="merge it when the base is loaded: --adapter")
        with torch.no_grad():
            low = LowRank(layer.a.float().clone(), layer.scale * layer.spread().float())
        layers[name] = low
        content.update(f"{name} {tuple(low.a.shape)} {tuple(low.b.shape)} ".encode())
        for values in (low.a, low.b):
            content.update(values.contiguous().view(torch.uint8).numpy().tobytes())
    return Adapter(layers, content.digest())


def _place(name: str) -> str | None:
    """Which projection of a block a module is."""
    first, _, rest = name.partition(".")
    place = rest.partition(".")[2]
    return place if first == "layers" and place in PLACES else None


def _structure(config: ModelConfig) -> Transformer:
    """The model's modules over parameters that take no memory, to attach an adapter to."""
    with torch.device("meta"):
        model = Transformer(config)
    memo: dict[int, Any] = {}
    for weight in model.parameters():
        hollow = torch.zeros((), dtype=weight.dtype).expand(weight.shape)
        memo[id(weight)] = nn.Parameter(hollow, requires_grad=False)
    return copy.deepcopy(model, memo)
