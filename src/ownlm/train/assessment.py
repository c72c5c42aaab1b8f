"""What is known of a run's result on its held-out data beyond the loss: accuracy, confusions, how answers are judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..files import write_json
from ..tokens.batch import Batch
from .config import TrainConfig
from .loop import Loop, validation_batches

HELD_OUT = "held_out.json"


@torch.no_grad()
def assess_result(config: TrainConfig, loop: Loop) -> dict[str, Any]:
    """What the objective says of the result; every worker reads all of the held-out data, if there is any."""
    batches: Iterator[Batch] = iter(())
    if loop.validation is not None:
        batches = validation_batches(loop.validation, loop.gradients.micro_batch_tokens, config.validate_.tokens)
    loop.model.eval()
    return loop.objective.assess(loop.model, (loop.objective.batch(batch, None) for batch in batches))


def write_assessment(folder: Path, assessed: Mapping[str, Any]) -> None:
    """Writes held_out.json into the run's folder, for the report; nothing where nothing is known."""
    if assessed:
        write_json(folder / HELD_OUT, assessed)


def kept_with_model(assessed: Mapping[str, Any]) -> dict[str, Any]:
    """What the model's folder says of it: all but large tables."""
    return {name: value for name, value in assessed.items() if name != "confusion"}
