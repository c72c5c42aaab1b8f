"""Runs tasks: items and examples chosen, the model asked, what was measured as scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, UserError
from .harness import PREFIX, run_harness
from .measurement import Measurement
from .score import Score
from .scorers import MissingScorer
from .statistics import interval
from .subject import Subject
from .suites import find_data, read_task, tasks_of
from .task import Item, Measured, TaskConfig, choose, read_items

# A task, the file of its items, those to measure, and those that examples come from, where they are others.
_Read = tuple[TaskConfig, Path, list[Item], list[Item] | None]


@dataclass(frozen=True, eq=False)
class Ran:
    """One task with so many examples.

    Attributes:
        task: its name.
        shots: worked examples shown.
        measured: what it gave.
        about, source, licence: as its file has them.
        cuts: whether what is too long is cut, rather than left out.
        data: the file of its items; None of a task of the harness.
        config, items: the task and what was measured; none of a task of the harness.
    """

    task: str
    shots: int
    measured: Measured
    about: str = ""
    source: str = ""
    licence: str = ""
    cuts: bool = False
    data: Path | None = None
    config: TaskConfig | None = None
    items: Sequence[Item] = ()


def run_tasks(
    subject: Subject,
    tasks: Sequence[str],
    *,
    suites: Sequence[str] = (),
    data: Path | None = None,
    shots: Sequence[int] = (0,),
    limit: int | None = None,
) -> list[Ran]:
    """Runs tasks, each with every number of examples.

    Args:
        subject: the model.
        tasks: names of tasks, or files; with ``lm-eval:`` before it, a task of the lm-evaluation-harness.
        suites: names of suites, whose tasks are run as well.
        data: the folder that tasks' data is looked for in.
        shots: numbers of worked examples.
        limit: the most items of a task: the first ones.

    Raises:
        UserError: there is no such task or suite, nothing to run, or too few items for the examples.
        ConfigError, DataError: a task's file or data is wrong.
        ModelError: the model cannot do it.
    """
    names = tasks_of(tasks, suites)
    if not names:
        raise UserError("which tasks?", where="task", hint="name a task, or a suite such as core")
    if any(count < 0 for count in shots) or not shots:
        raise UserError("worked examples are counted from 0", where="shots")
    # All is read before anything runs: a wrong name at the end is told at once.
    read = [(name, *_read(name, data, limit)) for name in names if not name.startswith(PREFIX)]
    for name, task, *_ in read:
        if name in tasks:
            task.check(subject)
    found = _harness(
        subject, [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)], data, shots, limit
    )
    for name, task, path, items, pool in read:
        if why := None if name in tasks else _why_not(task, subject):
            # A suite is for models of all sorts, and with what is installed.
            found.append(Ran(task.name, 0, Measured([], [], notes=[why]), task.about, task.source, task.licence))
            continue
        for count in dict.fromkeys(shots) if task.takes_examples else (0,):
            chosen, examples = choose(task, items, pool if count else None, count)
            measured = task.measure(subject, chosen, examples)
            cuts = task.long == "cut"
            about = (task.about, task.source, task.licence, cuts, path)
            found.append(Ran(task.name, count, measured, *about, task, chosen))
    return found


def measure_all(
    subject: Subject,
    tasks: Sequence[str],
    data: Path | None,
    shots: Sequence[int],
    suites: Sequence[str] = (),
    limit: int | None = None,
) -> list[Measurement]:
    """The measurements of ``run_tasks``."""
    ran = run_tasks(subject, tasks, suites=suites, data=data, shots=shots, limit=limit)
    return [measurement for one in ran for measurement in one.measured.measurements]


def score_of(measurement: Measurement) -> Score:
    """A measurement as a score with its 95% interval."""
    low, high = interval(measurement)
    return Score(
        measurement.task,
        measurement.metric.name,
        measurement.value,
        low,
        high,
        len(measurement),
        measurement.shots,
        measurement.model,
        measurement.metric.best,
    )


def _harness(
    subject: Subject, names: Sequence[str], folder: Path | None, shots: Sequence[int], limit: int | None
) -> list[Ran]:
    """Tasks of the harness, whose own files may stand in the folder of --data."""
    found = []
    for count in dict.fromkeys(shots) if names else ():
        by_task: dict[str, list[Measurement]] = {}
        for one in run_harness(subject, names, folder=folder, shots=count, limit=limit):
            by_task.setdefault(one.task, []).append(one)
        about = "a task of the lm-evaluation-harness"
        found += [Ran(task, count, Measured(ones, []), about, cuts=True) for task, ones in by_task.items()]
    return found


def _why_not(task: TaskConfig, subject: Subject) -> str | None:
    """Why a task cannot be measured here, in a sentence; None where it can."""
    try:
        task.check(subject)
    except UserError as error:
        hint = f" ({error.hint})" if isinstance(error, MissingScorer) else ""
        return f"left out: {error.message}{hint}"
    return None


def read_with_items(
    tasks: Sequence[str], suites: Sequence[str], data: Path | None, limit: int | None = None
) -> dict[str, tuple[TaskConfig, list[Item]]]:
    """Tasks by name with their items, without a model; those of the harness are left out.

    Raises:
        UserError, ConfigError, DataError: as ``run_tasks``.
    """
    names = [name for name in tasks_of(tasks, suites) if not name.startswith(PREFIX)]
    if not names:
        raise UserError("which tasks?", where="task", hint="name a task, or a suite such as core")
    return {task.name: (task, items) for task, _, items, _ in (_read(name, data, limit) for name in names)}


def _read(name: str, data: Path | None, limit: int | None) -> _Read:
    task, folder = read_task(name)
    path = find_data(task.data, folder, data, task.name)
    items = read_items(path, task.columns)
    if not items:
        raise DataError("there are no items", where=str(path))
    pool = None
    if task.shots.data is not None:
        pool = read_items(find_data(task.shots.data, folder, data, task.name), task.columns)
    return task, path, items[:limit], pool
