"""How often a run passes over each source, known before the first step."""

from __future__ import annotations

from ..report.memorisation import SOURCE as CANARIES
from ..report.passes import repeat_warnings
from .data import TrainingData


def passes(data: TrainingData, steps: int) -> dict[str, float]:
    """How often a run of ``steps`` passes over each source; of the last epoch, its share of the epoch's steps."""
    epoch, place = data.loader.locate(steps - 1)
    epochs = epoch + (place + 1) / data.loader.steps_in_epoch(epoch)
    names = (source.name for source in data.sources)
    return {name: round(epochs * repeat, 2) for name, repeat in zip(names, data.loader.repeats, strict=True)}


def repeats(data: TrainingData, steps: int) -> list[str]:
    """A sentence for each source that the run passes too often; canaries are repeated on purpose."""
    return repeat_warnings(passes(data, steps), wanted=[CANARIES])
