"""Models side by side: facts of each, what each was measured at, and what their differences mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from .differences import Difference, correct, differences
from .facts import Facts, facts_of
from .measurement import Measurement
from .run import run_tasks
from .scorers import MissingScorer
from .subject import Subject
from .suites import tasks_of


@dataclass(frozen=True, eq=False)
class Compared:
    """One model.

    Attributes:
        facts: counted and timed.
        measurements: of the tasks that it can do.
        cannot: tasks that it cannot do, and why.
    """

    facts: Facts
    measurements: list[Measurement]
    cannot: list[str]


@dataclass(frozen=True, eq=False)
class Comparison:
    """All of them.

    Attributes:
        models: in the order that they were named.
        differences: of each of the others from the first, p-values corrected for all.
    """

    models: list[Compared]
    differences: list[Difference]


def compare_models(
    names: Sequence[str],
    load: Callable[[str], Subject],
    tasks: Sequence[str] = (),
    *,
    suites: Sequence[str] = (),
    data: Path | None = None,
    shots: Sequence[int] = (0,),
    limit: int | None = None,
    price_per_hour: float | None = None,
) -> Comparison:
    """Compares models, one in memory at a time.

    A task that a model cannot do, as a masked one cannot write, is told of it and does not stop the others.

    Args:
        names: the models'.
        load: makes the subject of a name.
        tasks: as ``run_tasks`` has them, and so the others.
        price_per_hour: what an hour of this machine costs.

    Raises:
        UserError: as ``run_tasks``.
    """
    found = []
    for name in names:
        subject = load(name)
        measurements: list[Measurement] = []
        cannot: list[str] = []
        # By themselves, so that what a model cannot do costs it that task alone.
        for task in tasks_of(tasks, suites):
            try:
                ran = run_tasks(subject, [task], data=data, shots=shots, limit=limit)
            except (ModelError, MissingScorer) as error:
                cannot.append(f"{task}: {error.message}")
                continue
            measurements += [measurement for one in ran for measurement in one.measured.measurements]
        found.append(Compared(facts_of(subject, price_per_hour), measurements, cannot))
    first, *others = found
    told = [one for other in others for one in differences(other.measurements, first.measurements)]
    return Comparison(found, correct(told))
