"""A step's memory, worked out from one and two layers, against what the whole model's step then allocates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.tokens.batch import Batch
from ownlm.train.config import TrainConfig, read_train_config
from ownlm.train.data import TrainingData, prepare_data
from ownlm.train.plan.memory import step_bytes
from ownlm.train.plan.probe import Measured, Probe, allocations, probe
from ownlm.train.run import make_model
from ownlm.train.setup import Setup, set_up
from ownlm.train.workers import ALONE

CPU = torch.device("cpu")
LAYERS = 5
# Large enough that the tensors, and not the small change between them, are what is measured.
SHAPE = {"layers": LAYERS, "width": 256, "heads": 4, "vocab_size": 320, "max_positions": 128}
GPT2 = SHAPE | {"family": "gpt2"}
LLAMA = SHAPE | {"family": "llama", "kv_heads": 2}
Ready = tuple[TrainConfig, Setup, TrainingData]


@pytest.fixture
def ready(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ready]:
    """Config, setup and data of a run on texts of 128 tokens."""
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    draw = torch.Generator().manual_seed(0)
    rows = [" ".join(map(str, torch.randint(10**6, (60,), generator=draw).tolist())) for _ in range(60)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))

    def make(**changes: Any) -> Ready:
        values: dict[str, Any] = {
            "tokenizer": str(corpus / "tokenizer"),
            "data": {"train": str(tmp_path / "texts.jsonl")},
        }
        config = read_train_config(values | {"batch_tokens": 2048, "precision": "fp32"} | changes)
        setup = set_up(config)
        return config, setup, prepare_data(config, setup, lambda line: None)

    return make


def measured(ready: Ready, micro: int) -> int:
    """The most that a step of the whole model allocates, gradients of earlier micro-batches included."""
    config, setup, data = ready
    model = make_model(config, setup, CPU, ALONE).train()
    model.recomputed = 0 if config.recompute == "auto" else config.recompute
    trained = [p for p in model.parameters() if p.requires_grad]
    most = 0

    def loss_of(batch: Batch) -> Callable[[], torch.Tensor]:
        return lambda: setup.objective.loss(model, batch, 1e-3)

    for turn in range(2):
        # Once before, for what is made only once.
        for batch in (setup.objective.batch(batch, 0) for batch in data.loader.micro_batches(0, micro)):
            before = sum(p.grad.nbytes for p in trained if p.grad is not None)
            _, *peaks = allocations(loss_of(batch), lambda loss: loss.backward(), CPU)
            most = max(most, before + max(peaks)) if turn else 0
        for parameter in trained:
            parameter.grad = None
    return most


def predicted(ready: Ready, micro: int) -> int:
    config, setup, data = ready
    batch = setup.objective.batch(max(data.loader.micro_batches(0, micro), key=len), 0)
    probed = probe(config, setup.shape, setup.objective, batch, CPU)
    assert probed is not None
    trained = setup.shape.parameters()
    recomputed = 0 if config.recompute == "auto" else config.recompute
    block_input = probed.tokens * setup.shape.width * 4
    count = len(data.loader.micro_batches(0, micro))
    return step_bytes(probed, setup.shape.layers, 4 * trained, count, recomputed, block_input)


@pytest.mark.parametrize("shape", [GPT2, LLAMA], ids=["gpt2", "llama"])
@pytest.mark.parametrize("recompute", [0, 2, LAYERS])
@pytest.mark.parametrize("micro", [2048, 600])
def test_a_steps_memory_is_that_of_its_layers(
    shape: dict[str, Any], recompute: int, micro: int, ready: Callable[..., Ready]
) -> None:
    here = ready(model=shape, recompute=recompute)
    found, expected = predicted(here, micro), measured(here, micro)
    # A block that is computed again as a whole does not make what its feedforward activated twice, as the probe's does.
    spared = 4 * micro * 4 * SHAPE["width"] if recompute == LAYERS else 0
    assert 0.95 * expected <= found <= 1.05 * expected + spared


def probed(one: Measured, two: Measured, trained: tuple[int, int]) -> Probe:
    return Probe(one, two, 100, trained)


def test_by_hand() -> None:
    """Layers that keep 10 and leave a gradient of 4 x 3 each; the head keeps 2 and works in 5, the last layer in 6 more."""
    one, two = Measured(12, 17, 18, 0, 0), Measured(22, 27, 28, 0, 0)
    found = probed(one, two, (1, 4))
    # At the loss all layers keep 10: 17 + 30. Backwards the last works in 18 + 30, the one below it in 18 + 20 + 12.
    assert step_bytes(found, 4, 0, 1, 0, 1) == max(47, 48, 18 + 20 + 12, 18 + 10 + 24, 18 + 36) == 54
    # Two of four are computed again and keep 1: the last one works beside 1 + 1 + 10.
    assert step_bytes(found, 4, 0, 1, 2, 1) == max(17 - 10 + 22, 18 + 12, 18 + 2 + 12, 18 + 1 + 24, 18 + 36) == 54
    # Gradients there before: 40 beside the loss of the second micro-batch, and beside the last layer's work.
    assert step_bytes(found, 4, 40, 2, 0, 1) == 40 + 18 + 30
    # Of a step that keeps next to nothing, the gradients at its end.
    assert step_bytes(found, 1, 1000, 1, 0, 1) == 1000
