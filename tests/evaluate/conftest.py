"""Tiny models with random weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.model.checkpoint import load_model_folder, read_config, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import load_tokenizer


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


@pytest.fixture
def make_scorer(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A scorer's folder: a tiny encoder with random weights that tells harmless from toxic, and a report."""

    def make(name: str, **report: Any) -> Path:
        changes = {"head": "classify", "labels": ("harmless", "toxic"), "problem": "single"}
        config = read_config(encoder).model_copy(update=changes)
        model = load_model_folder(encoder, config=config, seed=3)
        folder = tmp_path_factory.mktemp("scorer") / "model"
        save_model_folder(model, folder, tokenizer=load_tokenizer(encoder))
        whole = {"name": name, "measures": "how bad it is", "positive": "toxic", **report}
        (folder / "scorer.json").write_text(json.dumps(whole))
        return folder

    return make
