"""ownlm: build, fine-tune, evaluate, serve and keep improving a language model you own."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import evaluate, generate, load_model, load_tokenizer, predict, train, train_tokenizer

__all__ = ["__version__", "evaluate", "generate", "load_model", "load_tokenizer", "predict", "train", "train_tokenizer"]


def __getattr__(name: str) -> Any:
    """Loads the library's nouns on first use, so that ``import ownlm`` stays instant and imports no torch."""
    if name in __all__:
        return getattr(importlib.import_module(".api", __name__), name)
    raise AttributeError(f"module 'ownlm' has no attribute '{name}'")
