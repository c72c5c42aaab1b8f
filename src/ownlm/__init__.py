"""ownlm: build, fine-tune, evaluate, serve and keep improving a language model you own."""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .api import generate, load_model, load_tokenizer, train, train_tokenizer

__all__ = ["__version__", "generate", "load_model", "load_tokenizer", "train", "train_tokenizer"]


def __getattr__(name: str) -> Any:
    """Loads the library's nouns on first use, so that ``import ownlm`` stays instant and imports no torch."""
    if name in __all__:
        return getattr(importlib.import_module(".api", __name__), name)
    raise AttributeError(f"module 'ownlm' has no attribute '{name}'")


class _Package(types.ModuleType):
    """Lets ``ownlm.train`` be the function although ``ownlm/train/`` is a room of the same name.

    Importing a subpackage sets it as an attribute of its parent; for our nouns that is not wanted. The room's files are
    imported as ever: ``from ownlm.train.config import TrainConfig``.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
