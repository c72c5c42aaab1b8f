"""Tasks that are measured while a run goes on.

What measures stands further down the house (evaluate/during.py) and is handed in by whoever starts the run. It sees the weights as
they would result just then: the averaged ones, where the run keeps them. A measurement changes nothing that a step is made of, so the
steps' losses are the same bits with and without it. Its line in metrics.jsonl is cut off with the steps that a killed run makes again,
and so it is made again with them: none is missing, and none stands there twice.
"""

from __future__ import annotations

import contextlib
import gc
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import ConfigError
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from ..units import plural
from .checkpoint import Saved
from .config import EvaluateConfig
from .sharding import is_spread
from .workers import Workers

# Items of each task on which it is tried whether the model can do it, where that is not known yet.
TRIED = 2
# Scores of a task that are said; all are written.
SHOWN = 4

ScoreLine = Mapping[str, Any]
"""A score as metrics.jsonl has it: task, metric, value, low, high, n, shots; ``long`` where items did not fit the context."""


class Measure(Protocol):
    """Measures a model on the tasks of a config, whose files were read before."""

    def __call__(self, model: Transformer, most: int | None = None) -> Iterator[Sequence[ScoreLine]]:
        """The scores of one task after another.

        Args:
            model: as it is just then; it is left as it was.
            most: of the items, only so many.

        Raises:
            ModelError: the model cannot do it.
        """
        ...


Prepare = Callable[[EvaluateConfig, Tokenizer, Callable[[str], None]], Measure]
"""Reads a config's tasks, and is told how to say something to the user; raises UserError where one is not there, or its data is not."""


def prepared(
    config: EvaluateConfig | None, prepare: Prepare | None, tokenizer: Tokenizer, say: Callable[[str], None]
) -> Measure | None:
    """What measures in a run, with everything read that it needs; None where nothing is asked for.

    Raises:
        UserError: there is no such task, or its data is missing.
    """
    if config is None:
        return None
    if prepare is None:
        hint = "train by 'ownlm train' or ownlm.train, which can"
        raise ConfigError("this run has nothing to evaluate with", where="evaluate", hint=hint)
    return prepare(config, tokenizer, say)


class Evaluations:
    """The evaluations of one run.

    Args:
        measure: measures the tasks.
        saved: the model, and its averages.
        workers: who trains together; the first measures, and the others wait for it.
        copy: makes a whole model of one whose weights are spread over workers, on the first of them; all must ask together.
    """

    def __init__(
        self, measure: Measure, saved: Saved, workers: Workers, copy: Callable[[], Transformer | None]
    ) -> None:
        self._measure, self._saved, self._workers, self._copy = measure, saved, workers, copy

    def scores(self, stops: Callable[[], bool], most: int | None = None) -> list[ScoreLine] | None:
        """All tasks' scores of the model as it is; None where ``stops`` said so between two tasks. Of the first worker alone.

        Args:
            stops: whether to leave.
            most: of the items, only so many.

        Raises:
            ModelError: the model cannot do a task.
        """
        saved = self._saved
        found: list[ScoreLine] = []
        spread = is_spread(saved.named[0][1])
        with contextlib.nullcontext() if saved.ema is None else saved.ema.swapped(), untouched(saved.model):
            model = self._copy() if spread else saved.model
            tasks = iter(self._measure(model, most)) if self._workers.first and model is not None else iter(())
            # All meet after each task, so that nobody waits for longer than one takes.
            while True:
                one = next(tasks, None)
                found += one or []
                over, left = self._workers.agreed((one is None, stops()))
                if over:
                    return found
                if left:
                    return None


def is_due(every: int, step: int, last: bool) -> bool:
    """Whether there is an evaluation after so many steps."""
    return step % every == 0 or last


def is_made(metrics: Sequence[Mapping[str, Any]], step: int) -> bool:
    """Whether metrics.jsonl has the evaluation of a step."""
    return any("scores" in row and row["step"] == step for row in metrics)


def tracked(scores: Sequence[ScoreLine]) -> dict[str, Any]:
    """Scores as trackers take them: a number a name, such as ``eval/boolq/accuracy``."""
    found: dict[str, Any] = {}
    for score in scores:
        shots = f"/{score['shots']}_shots" if score["shots"] else ""
        name = f"eval/{score['task']}/{score['metric']}{shots}"
        found |= {name: score["value"], f"{name}/low": score["low"], f"{name}/high": score["high"]}
    return found


def in_words(scores: Sequence[ScoreLine]) -> list[str]:
    """A line for each task: its scores with their intervals, the first few where they are many."""
    by_task: dict[tuple[str, int], list[ScoreLine]] = {}
    for score in scores:
        by_task.setdefault((score["task"].partition("/")[0], score["shots"]), []).append(score)
    return [_line(task, shots, rows) for (task, shots), rows in by_task.items()]


def _line(task: str, shots: int, rows: Sequence[ScoreLine]) -> str:
    told = []
    for row in rows[:SHOWN]:
        part = row["task"].partition("/")[2]
        between = f" ({_number(row['low'])} to {_number(row['high'])})"
        told.append(f"{part} {row['metric']} {_number(row['value'])}{between}".strip())
    more = f", and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
    more += f"; {plural(rows[0]['long'], 'item')} too long" if rows[0].get("long") else ""
    examples = f" ({plural(shots, 'example')})" if shots else ""
    return f"{task}{examples}: {', '.join(told)}{more}"


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


@contextlib.contextmanager
def untouched(model: Transformer) -> Iterator[None]:
    """Whatever is drawn inside, and in whatever mode the model is left, outside all is as it was; what was taken is freed."""
    device = model.device
    devices = [device] if device.type == "cuda" else []
    modes = {module: module.training for module in model.modules()}
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        for module, training in modes.items():
            module.training = training
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
