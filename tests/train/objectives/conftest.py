"""A step of an objective, as the loop makes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ownlm.model.checkpoint import load_model_folder, read_config
from ownlm.model.transformer import Transformer
from ownlm.tokens.batch import Batch
from ownlm.tokens.loader import Loader
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.data import prepare_data
from ownlm.train.objectives import Objective, Reading
from ownlm.train.setup import set_up

Gradients = dict[str, Tensor]


class Ready:
    """An objective with its model and data, before the first step."""

    def __init__(self, base: Path, data: Path, batch_tokens: int, **objective: Any) -> None:
        values = {"base": str(base), "data": {"train": str(data)}, "objective": objective, "batch_tokens": batch_tokens}
        config = read_train_config(values)
        setup = set_up(config)
        self.objective: Objective[Any] = setup.objective
        self.model: Transformer = load_model_folder(base, config=setup.shape, seed=2)
        self.data = prepare_data(config, setup, lambda line: None)
        self.objective.begin(self.model, self.data, Path())
        self.loader: Loader = self.data.loader

    def step(self, batches: Iterable[Batch]) -> tuple[float, Gradients]:
        """The loss and the gradients of a step, as the loop adds them up over its micro-batches and workers."""
        ready = [self.objective.batch(batch, 0) for batch in batches]
        counted = [self.objective.all_units(batch) for batch in ready]
        units = [sum(column) for column in zip(*counted, strict=True)]
        self.model.zero_grad(set_to_none=True)
        total = 0.0
        for batch in ready:
            loss = self.objective.loss(self.model, batch, *(1.0 / part for part in units))
            loss.backward()
            total += loss.item()
        return total, {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}


@pytest.fixture
def ready(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ready]:
    """Makes an objective ready on a file, with the tiny encoder."""
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))

    def make(data: Path, batch_tokens: int = 4096, **objective: Any) -> Ready:
        return Ready(encoder, data, batch_tokens, **objective)

    return make


@pytest.fixture
def equal() -> Callable[[tuple[float, Gradients], tuple[float, Gradients]], None]:
    """Asserts that two steps are one, up to float32's sums in another order."""

    def check(found: tuple[float, Gradients], expected: tuple[float, Gradients]) -> None:
        assert found[0] == pytest.approx(expected[0], rel=1e-5)
        assert set(found[1]) == set(expected[1])
        for name, gradient in expected[1].items():
            # A key's bias moves every score of a row alike, so that its gradient is nothing but rounding.
            scale = max(gradient.abs().max().item(), 1e-2)
            assert (found[1][name] - gradient).abs().max() <= 2e-5 * scale, name

    return check


@pytest.fixture
def read(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., TokenDataset]:
    """Reads a file as an objective does that knows its shape."""
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))

    def make(objective: Objective[Any], path: Path, **changes: Any) -> TokenDataset:
        objective.shape(read_config(encoder), [str(path)])
        options: dict[str, Any] = {"length": 64, "too_long": "refuse", **changes}
        return TokenDataset(objective.read(path, Reading(load_tokenizer(encoder), **options)).folder)

    return make


@pytest.fixture(autouse=True)
def exact() -> None:
    """Sums in one order, whatever the machine has."""
    torch.set_num_threads(1)


@pytest.fixture
def ready_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ready]:
    """The same with any model's folder: the folder, the data, ``batch_tokens``, and the objective's keys."""
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    return Ready
