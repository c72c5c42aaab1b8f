"""A smaller model made of some layers of a larger one: what a student may begin as (Sanh et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import ConfigError
from .config import ModelConfig
from .families.windows import layer_types, window_values
from .transformer import Transformer


def config_of_layers(config: ModelConfig, layers: Sequence[int]) -> ModelConfig:
    """The shape of a model with these layers of another, in this order.

    Args:
        config: the larger model's.
        layers: by number, from 0.

    Raises:
        ConfigError: no layer, or one that the model does not have.
    """
    if not layers:
        raise ConfigError("no layer is named", where="layers")
    for layer in layers:
        if not 0 <= layer < config.layers:
            raise ConfigError(
                f"the model has no layer {layer}", where="layers", hint=f"they are 0 to {config.layers - 1}"
            )
    types = layer_types(config)
    windows = window_values([types[layer] for layer in layers], config.sliding_window, len(layers))
    return config.model_copy(update={"layers": len(layers), **windows})


def take_layers(model: Transformer, layers: Sequence[int]) -> Transformer:
    """A model with these layers of another, in this order, and everything else as it is; it shares no memory with it.

    Raises:
        ConfigError: as ``config_of_layers``.
    """
    config = config_of_layers(model.config, layers)
    with torch.device(model.device):
        result = Transformer(config)
    state = model.state_dict()
    taken = {name: tensor for name, tensor in state.items() if not name.startswith("layers.")}
    for place, layer in enumerate(layers):
        prefix = f"layers.{layer}."
        taken |= {
            f"layers.{place}.{name.removeprefix(prefix)}": tensor
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
    result.load_state_dict({name: tensor.clone() for name, tensor in taken.items()}, assign=True)
    result.compute_dtype = model.compute_dtype
    return result.train(model.training)
