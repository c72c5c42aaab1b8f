"""Tiny models of every architecture, trained until they say something: random ones toss a coin for each token.

llama.cpp's Python binding is compiled from source, which takes minutes, so that CI has none: tests that need it are
skipped where it is not installed (see CONTRIBUTING.md).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.model.checkpoint import random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.tokens.tokenizer import Tokenizer
from ownlm.tokens.train_bpe import train_tokenizer

WORDS = ["the", "a", "model", "reads", "text", "learns", "token", "by", "word", "and", "writes", "what", "it", "has"]
WORDS += ["seen", "before", "while", "loss", "falls", "quick", "fox"]
LENGTH, ROWS, STEPS = 64, 4, 40

# A model's section of a config.
Shape = dict[str, Any]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Sentences of a small language."""
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 14))).capitalize() + "." for _ in range(400)]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> Tokenizer:
    """Byte-level BPE with ChatML's tokens and template."""
    return train_tokenizer(texts, 320)


@pytest.fixture(scope="session")
def trained(
    texts: list[str], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Shape], Path]:
    """The folder of a tiny model of a given shape, trained on the texts; of the same shape the same folder."""
    stream = [token for text in texts for token in [*tokenizer.encode(text), tokenizer.eos_id]]
    made: dict[str, Path] = {}

    def get(shape: Shape) -> Path:
        if str(shape) not in made:
            # Rows beyond the tokenizer's ids, as many models have them.
            shared = {"layers": 2, "width": 64, "heads": 4, "vocab_size": tokenizer.vocab_size + 5}
            shared |= {"max_positions": 128, "initializer_range": 0.05}
            model = random_model(config_from_user({**shared, **shape}), 1)
            _train(model, stream)
            made[str(shape)] = tmp_path_factory.mktemp("trained") / "tiny"
            save_model_folder(model, made[str(shape)], tokenizer=tokenizer)
        return made[str(shape)]

    return get


def _train(model: Any, stream: list[int]) -> None:
    optimizer, draw = torch.optim.AdamW(model.train().parameters(), 3e-3), random.Random(0)
    positions, starts = torch.arange(LENGTH).repeat(ROWS), [LENGTH * row for row in range(ROWS + 1)]
    weights = torch.ones(LENGTH * ROWS)
    weights[LENGTH - 1 :: LENGTH] = 0
    for _ in range(STEPS):
        begins = [draw.randrange(len(stream) - LENGTH) for _ in range(ROWS)]
        tokens = torch.tensor([token for begin in begins for token in stream[begin : begin + LENGTH]])
        loss, count = model.loss(tokens, positions, starts, tokens.roll(-1), weights)
        optimizer.zero_grad()
        (loss / count).backward()
        optimizer.step()
    model.eval()


@pytest.fixture
def llama() -> Iterator[Callable[..., Any]]:
    """Opens a file in llama.cpp, with keys and values in float32 so that logits can be compared."""
    binding = pytest.importorskip(
        "llama_cpp", reason="llama.cpp's Python binding is not installed: see CONTRIBUTING.md"
    )
    opened = []

    def open_file(path: Path, **options: Any) -> Any:
        float32 = binding.GGML_TYPE_F32
        settings = {"logits_all": True, "verbose": False, "n_threads": 1, "type_k": float32, "type_v": float32}
        opened.append(binding.Llama(str(path), **{**settings, **options}))
        return opened[-1]

    yield open_file
    for one in opened:
        one.close()
