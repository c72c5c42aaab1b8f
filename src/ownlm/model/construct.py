"""Models made of nothing, of random numbers, or of weights that are there already."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .embedding import rotary_frequencies
from .transformer import Transformer


def random_model(config: ModelConfig, seed: int) -> Transformer:
    """A model with freshly drawn float32 weights, the same on every machine for the same seed."""
    model = unset_model(config, "cpu")
    for name, parameter in list(model.named_parameters()):
        assign(model, name, torch.empty(parameter.shape))
    model.initialize(seed)
    return model


def model_with(config: ModelConfig, state: Mapping[str, Tensor]) -> Transformer:
    """A model of weights that are there already, which it keeps as they are."""
    model = unset_model(config, "cpu")
    for name, _ in list(model.named_parameters()):
        assign(model, name, state[name])
    return model.eval()


def unset_model(config: ModelConfig, device: torch.device | str) -> Transformer:
    """A model whose parameters take no memory yet, with its computed buffers on the device."""
    with torch.device("meta"):
        model = Transformer(config)
    if config.position == "rotary":
        model.frequencies = rotary_frequencies(config).to(device)
    left = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    assert not left, f"buffers with no values: {left}"
    return model


def assign(model: Transformer, name: str, tensor: Tensor) -> None:
    """Makes a tensor the model's parameter of that name."""
    module, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(module), leaf, nn.Parameter(tensor))
