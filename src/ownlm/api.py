"""The library's nouns: load a model, load a tokenizer, train, generate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .config import merge
from .devices import choose_device, choose_dtype
from .engine.engine import Engine
from .engine.requests import SamplingOptions
from .errors import UserError, nearest
from .model.checkpoint import load_model_folder
from .model.registry import find_model
from .model.transformer import Transformer
from .tokens.tokenizer import load_tokenizer as load_tokenizer_folder
from .tokens.tokenizer import Tokenizer
from .train.config import read_train_config
from .train.run import Run, run_training

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(name: str | Path, dtype: str = "auto", device: str = "auto") -> Transformer:
    """A model by folder, ``hf:ORG/NAME[@REVISION]``, ``.gguf`` file or known name, ready to compute.

    Args:
        name: the model.
        dtype: float32, bfloat16, float16, or auto for the fastest that this machine computes natively.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        UserError: there is no such model, or it is of a kind we do not have.
    """
    if dtype not in ("auto", *DTYPES):
        raise UserError(f"unknown dtype '{dtype}'", where="dtype", hint=nearest(dtype, ["auto", *DTYPES]))
    place = choose_device(device)
    wanted = choose_dtype("auto", place) if dtype == "auto" else DTYPES[dtype]
    model = load_model_folder(find_model(str(name)), dtype=wanted, device=place)
    model.compute_dtype = wanted
    model.source = str(name)
    return model


def load_tokenizer(name: str | Path) -> Tokenizer:
    """The tokenizer of a model (named as in ``load_model``) or of a folder that holds one."""
    return load_tokenizer_folder(find_model(str(name)))


def train(config: str | Path | dict[str, Any], **overrides: Any) -> Run:
    """Trains by a config file or mapping; overrides are dotted keys: ``train("c.yaml", **{"optimizer.lr": 3e-4})``."""
    values = merge(config, overrides) if isinstance(config, dict) else config
    return run_training(read_train_config(values, {} if isinstance(config, dict) else overrides))
