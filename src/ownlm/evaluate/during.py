"""Evaluation in the midst of training: what train/evaluation.py is handed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from ..train.evaluation import EvaluateConfig, Measure
from .run import Ran, read_tasks, run_ready, score_of
from .scorers import choose_scorers
from .subject import Subject

# What a score's line in metrics.jsonl holds.
_KEPT = ("task", "metric", "value", "low", "high", "n", "shots")


def prepare(config: EvaluateConfig, tokenizer: Tokenizer, say: Callable[[str], None]) -> Measure:
    """Reads the tasks of a training config.

    Raises:
        UserError: there is no such task or suite, or its file or data is wrong.
    """
    data = None if config.data is None else Path(config.data)
    try:
        ready = read_tasks(config.tasks, suites=config.suites, data=data, shots=config.shots, limit=config.limit)
    except UserError as error:
        raise _placed(error) from None

    told: set[str] = set()

    def measure(model: Transformer, most: int | None = None) -> Iterator[Sequence[Mapping[str, Any]]]:
        asked = ready if most is None else ready.shortened(most)
        # Made anew each time: an engine keeps weights packed, and these change.
        subject = Subject(model, tokenizer, "the model in training", hidden=True, scorers=choose_scorers(()))
        try:
            for ran in run_ready(subject, asked):
                # Such as what was left out, which is the same each time; of a few items alone it would be misleading.
                for note in ran.measured.notes if most is None else ():
                    if (line := f"{ran.task}: {note}") not in told:
                        told.add(line)
                        say(line)
                yield score_lines(ran)
        except UserError as error:
            raise _placed(error) from None

    return measure


def score_lines(ran: Ran) -> list[dict[str, Any]]:
    """A task's scores as metrics.jsonl has them, with null for what is no number, and how many items were too long."""
    rows = [asdict(score_of(measurement)) for measurement in ran.measured.measurements]
    long = {"long": ran.measured.long} if ran.measured.long else {}
    return [{key: _finite(row[key]) for key in _KEPT} | long for row in rows]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _placed(error: UserError) -> UserError:
    """The same error, which says that it is about the config's ``evaluate``."""
    where = "evaluate" if error.where is None else f"evaluate: {error.where}"
    hint = error.hint
    if hint is not None and "--data" in hint:
        hint = "name its folder in evaluate.data"
    return type(error)(error.message, where=where, hint=hint)
