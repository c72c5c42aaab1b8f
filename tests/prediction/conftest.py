"""Small encoders with each head, as folders that the public library reads too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.model.checkpoint import load_model_folder, read_config, save_model_folder
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(scope="session")
def headed(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The tiny encoder with another head, as a folder."""

    def make(head: str, **changes: Any) -> Path:
        config = read_config(encoder).model_copy(update={"head": head, **changes})
        model = load_model_folder(encoder, config=config, seed=3)
        folder = tmp_path_factory.mktemp(head) / "model"
        save_model_folder(model, folder, tokenizer=load_tokenizer(encoder))
        return folder

    return make


@pytest.fixture
def loaded() -> Callable[[Path], tuple[Transformer, Tokenizer]]:
    """A folder's model, as ``ownlm.load_model`` gives it, and its tokenizer."""

    def load(folder: Path) -> tuple[Transformer, Tokenizer]:
        model = load_model_folder(folder)
        model.source = folder
        return model, load_tokenizer(folder)

    return load
