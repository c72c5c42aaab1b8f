"""Sliding windows in a config: which layers have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ModelError
from ..config import ModelConfig

KINDS = {"full_attention": False, "sliding_attention": True}


def alternating(layers: int, *, first: int, every: int = 2) -> tuple[int, ...]:
    """Layers ``first``, ``first + every``, ... of a model."""
    return tuple(range(first, layers, every))


def window_values(types: Sequence[str], window: int | None, layers: int) -> dict[str, Any]:
    """ModelConfig's values from ``config.json``'s ``layer_types`` and ``sliding_window``.

    Raises:
        ModelError: a kind of layer that is not known, or not as many of them as layers.
    """
    for kind in types:
        if kind not in KINDS:
            raise ModelError(f"a layer of the kind '{kind}' is not supported", where="layer_types")
    if len(types) != layers:
        raise ModelError(f"{len(types)} kinds of layers are named, and there are {layers} layers", where="layer_types")
    windowed = tuple(layer for layer, kind in enumerate(types) if KINDS[kind])
    if window is None or not windowed:
        return {"sliding_window": None, "windowed_layers": None}
    return {"sliding_window": window, "windowed_layers": None if len(windowed) == len(types) else windowed}


def layer_types(config: ModelConfig) -> list[str]:
    """The kind of each layer, as ``config.json`` names it."""
    return [
        "full_attention" if config.window_of(layer) is None else "sliding_attention" for layer in range(config.layers)
    ]


def late_windows(hf: Mapping[str, Any]) -> dict[str, Any]:
    """What Qwen's ``config.json`` says of windows: layers have one from a number on, unless each is named."""
    layers, first = hf["num_hidden_layers"], hf.get("max_window_layers", 28)
    types = ["sliding_attention" if layer >= first else "full_attention" for layer in range(layers)]
    window = hf.get("sliding_window", 4096) if hf.get("use_sliding_window") else None
    return window_values(hf.get("layer_types") or types, window, layers)


def late_hf(config: ModelConfig) -> dict[str, Any]:
    """The same for ``config.json``."""
    if config.sliding_window is None:
        return {"use_sliding_window": False}
    types = layer_types(config)
    return {
        "use_sliding_window": True,
        "sliding_window": config.sliding_window,
        "max_window_layers": next((n for n, kind in enumerate(types) if KINDS[kind]), config.layers),
        "layer_types": types,
    }
