"""Tiny models with random weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Transformer]:
    """A model of a family by name, with weights wide enough that what it finds likely varies."""

    def make(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: object) -> Transformer:
        shape = {
            "layers": 2,
            "width": 32,
            "heads": 4,
            "vocab_size": 96,
            "max_positions": 128,
            "initializer_range": 0.15,
        }
        model = Transformer(config_from_user({"family": name, **shape, **changes}))
        model.initialize(seed)
        model.compute_dtype = dtype
        return model.to(dtype).eval()

    return make
