"""Which validation is the best: by the loss, or by another measure that the objective takes of the held-out data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ConfigError, nearest
from .checkpoint import TrainingState
from .objectives import Objective

LOSS = "loss"
WHERE = "validate.best"


def check_best(name: str, objective: Objective[Any], held_out: bool) -> None:
    """Checks before the first step that the measure is one of the objective's, and that there is data to take it on.

    Raises:
        ConfigError: names those that are known.
    """
    if name == LOSS:
        return
    if name not in objective.measures:
        hint = nearest(name, [LOSS, *objective.measures])
        raise ConfigError(f"the objective '{objective.kind}' has no measure '{name}'", where=WHERE, hint=hint)
    if not held_out:
        raise ConfigError(f"nothing is held out to measure {name} on", where=WHERE, hint="set data.validation")


def enter_best(
    state: TrainingState, name: str, objective: Objective[Any], loss: float, measured: Mapping[str, float]
) -> bool:
    """Puts a validation of the state's step into the state; returns whether it is the best so far.

    Args:
        state: where the run stands.
        name: what decides, as ``check_best`` lets through.
        objective: knows which way is better.
        loss: the held-out loss, which is kept of the best whatever decides.
        measured: the objective's other measures.
    """
    value = loss if name == LOSS else measured[name]
    before = state.best_loss if name == LOSS else state.best_value
    higher = name != LOSS and objective.measures[name]
    if before is not None and not (value > before if higher else value < before):
        state.since_best += 1
        return False
    state.best_loss, state.best_value = loss, None if name == LOSS else value
    state.best_step, state.since_best = state.step, 0
    return True


def in_words(name: str) -> str:
    """What decides, in a sentence: "held-out loss", "held-out macro_f1"."""
    return f"held-out {name}"


def check_measured(name: str, measured: Mapping[str, float]) -> None:
    """Checks that a validation took the measure, which may need more than this held-out data says.

    Raises:
        ConfigError: it did not.
    """
    if name != LOSS and name not in measured:
        raise ConfigError(
            f"{name} cannot be measured on this held-out data",
            where=WHERE,
            hint="name the files themselves in data.validation, or set it to loss",
        )
