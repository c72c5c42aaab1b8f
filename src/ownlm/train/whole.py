"""A run's model as one that stands for itself: beside its base, or gathered from the workers that it is spread over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..model.adapters import attach
from ..model.checkpoint import load_model_folder, random_model
from ..model.config import ModelConfig
from ..model.transformer import Transformer
from . import checkpoint
from .checkpoint import Saved
from .config import TrainConfig
from .sharding import gathered_all
from .workers import Workers


@torch.no_grad()
def with_adapter(config: TrainConfig, shape: ModelConfig, weights: Mapping[str, Tensor], base: Path) -> Transformer:
    """The base as it is stored, with the trained adapter, and what else was trained, beside it."""
    assert config.adapter is not None
    model = load_model_folder(base, config=shape, seed=config.seed)
    attach(model, config.adapter, config.seed)
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])
    return model


@torch.no_grad()
def whole_copy(config: TrainConfig, saved: Saved, base: Path | None, workers: Workers) -> Transformer | None:
    """The model as it is just then, whole and on its device; of the first worker alone, though all must ask together."""
    trained, shape = saved.model, saved.model.config
    weights = gathered_all(checkpoint.trained_weights(saved), workers)
    if not workers.first:
        return None
    if config.adapter is not None and base is not None:
        model = with_adapter(config, shape, weights, base)
    else:
        model = random_model(shape, config.seed)
        model.load_state_dict(weights)
    model.compute_dtype = trained.compute_dtype
    return model.to(trained.device).eval()
