"""Runs tasks: items and examples chosen, the model asked, what was measured as scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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

# A task, the file of its items, all of these, and those that examples come from, where they are others.
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


@dataclass(frozen=True, eq=False)
class Ready:
    """Tasks whose files and data are read and found good.

    Attributes:
        tasks: each with its name as asked for, its file, all its items and, where they do not come from these, those that examples come from.
        harness: names of tasks of the lm-evaluation-harness.
        data, shots, limit: as asked.
        named: tasks that were asked for by name, not by a suite: these must be possible.
        most: of the items that would be measured, only so many are.
    """

    tasks: Sequence[tuple[str, *_Read]]
    harness: Sequence[str]
    data: Path | None = None
    shots: Sequence[int] = (0,)
    limit: int | None = None
    named: Sequence[str] = ()
    most: int | None = None

    def shortened(self, items: int) -> Ready:
        """The same with so many items of each task at most, to see whether a model can do it."""
        return replace(self, most=items)


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
    return list(run_ready(subject, read_tasks(tasks, suites=suites, data=data, shots=shots, limit=limit)))


def read_tasks(
    tasks: Sequence[str],
    *,
    suites: Sequence[str] = (),
    data: Path | None = None,
    shots: Sequence[int] = (0,),
    limit: int | None = None,
) -> Ready:
    """Reads all that ``run_tasks`` needs but the model, so that a wrong name at the end is told at once.

    Arguments and errors are those of ``run_tasks``, but for ModelError.
    """
    names = tasks_of(tasks, suites)
    if not names:
        raise UserError("which tasks?", where="task", hint="name a task, or a suite such as core")
    if any(count < 0 for count in shots) or not shots:
        raise UserError("worked examples are counted from 0", where="shots")
    counts = tuple(dict.fromkeys(shots))
    read = [(name, *_read(name, data)) for name in names if not name.startswith(PREFIX)]
    for _, task, _, items, pool in read:
        choose(task, items[:limit], pool, max(counts) if task.takes_examples else 0)
    harness = [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]
    return Ready(read, harness, data, counts, limit, tuple(tasks))


def run_ready(subject: Subject, ready: Ready) -> Iterator[Ran]:
    """What ``run_tasks`` gives, one after another as it is measured.

    Raises:
        ModelError: the model cannot do it.
    """
    for name, task, *_ in ready.tasks:
        if name in ready.named:
            task.check(subject)
    yield from _harness(subject, ready)
    for name, task, path, items, pool in ready.tasks:
        if why := None if name in ready.named else _why_not(task, subject):
            # A suite is for models of all sorts, and with what is installed.
            yield Ran(task.name, 0, Measured([], [], notes=[why]), task.about, task.source, task.licence)
            continue
        for count in ready.shots if task.takes_examples else (0,):
            chosen, examples = choose(task, items[: ready.limit], pool if count else None, count)
            yield run_task(subject, task, chosen[: ready.most], examples, path)


def run_task(
    subject: Subject, task: TaskConfig, items: Sequence[Item], examples: Sequence[Item] = (), data: Path | None = None
) -> Ran:
    """Runs one task on items that were read, after worked examples; data: the file that they are from.

    Raises:
        DataError: an item is wrong.
        ModelError: the model cannot do it.
    """
    measured = task.measure(subject, items, examples)
    cuts = task.long == "cut"
    return Ran(task.name, len(examples), measured, task.about, task.source, task.licence, cuts, data, task, items)


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


def _harness(subject: Subject, ready: Ready) -> list[Ran]:
    """Tasks of the harness, whose own files may stand in the folder of --data."""
    found = []
    for count in ready.shots if ready.harness else ():
        by_task: dict[str, list[Measurement]] = {}
        for one in run_harness(subject, ready.harness, folder=ready.data, shots=count, limit=ready.most or ready.limit):
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
    return {task.name: (task, items[:limit]) for task, _, items, _ in (_read(name, data) for name in names)}


def _read(name: str, data: Path | None) -> _Read:
    task, folder = read_task(name)
    path = find_data(task.data, folder, data, task.name)
    items = read_items(path, task.columns)
    if not items:
        raise DataError("there are no items", where=str(path))
    pool = None
    if task.shots.data is not None:
        pool = read_items(find_data(task.shots.data, folder, data, task.name), task.columns)
    return task, path, items, pool
