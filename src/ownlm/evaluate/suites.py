"""Which tasks and suites there are, and where their files are.

A task is known by a name, or is a YAML file of the user's own. Its data stands beside its file, or in the folder of
``--data``, there or one level down; what is in neither may come with ownlm (shipped.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from ..config import Config, read_yaml, validate
from ..config_lines import line_of
from ..errors import ConfigError, DataError, UserError, nearest
from .kinds import KINDS
from .shipped import shipped
from .task import TaskConfig

TASKS, SUITES = Path(__file__).parent / "tasks", Path(__file__).parent / "suites"


class SuiteConfig(Config):
    """Tasks that are run together."""

    about: str = ""
    """What they are for, in a line."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Their names."""


def task_names() -> list[str]:
    """The tasks that come with ownlm."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))


def suite_names() -> list[str]:
    """The suites that come with ownlm."""
    return sorted(path.stem for path in SUITES.glob("*.yaml"))


def read_task(name: str) -> tuple[TaskConfig, Path]:
    """A task by name, or by its file, and the folder that its file stands in.

    Raises:
        UserError: there is no such task.
        ConfigError: its file is wrong, with key and line.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else TASKS / f"{name}.yaml"
    if not path.is_file():
        if path.parent == TASKS:
            hint = nearest(name, task_names()) or "name a task file, ending in .yaml, or one of: " + ", ".join(
                task_names()
            )
            raise UserError(f"there is no task '{name}'", where="task", hint=hint)
        raise UserError("this task file is not there", where=str(path))
    values = read_yaml(path)
    if not values:
        raise ConfigError("this task file is empty", where=str(path), hint="it needs at least: name, kind, data")
    kind = values.get("kind")
    if kind not in KINDS:
        what = "'kind' is missing" if kind is None else f"unknown kind '{kind}'"
        near = None if kind is None else nearest(str(kind), list(KINDS))
        line = line_of(path, ["kind"], lambda value: True)
        where = f"kind in {path}" + (f":{line}" if line else "")
        raise ConfigError(what, where=where, hint=near or f"one of: {', '.join(KINDS)}")
    return validate(KINDS[kind], values, source=str(path)), path.parent


def tasks_of(tasks: Sequence[str], suites: Sequence[str]) -> list[str]:
    """The names of some tasks and of all tasks of some suites, each once.

    Raises:
        UserError: there is no such suite.
    """
    names = list(tasks)
    for suite in suites:
        path = SUITES / f"{suite}.yaml"
        if not path.is_file():
            hint = nearest(suite, suite_names()) or f"one of: {', '.join(suite_names())}"
            raise UserError(f"there is no suite '{suite}'", where="suite", hint=hint)
        names += validate(SuiteConfig, read_yaml(path), source=str(path)).tasks
    return list(dict.fromkeys(names))


def find_data(name: str, folder: Path, data: Path | None, task: str) -> Path:
    """A task's data file.

    Args:
        name: as the task calls it.
        folder: that the task's own file stands in.
        data: the folder of --data.
        task: the task's name.

    Raises:
        DataError: it is nowhere, or in several places.
    """
    if Path(name).is_absolute():
        return Path(name)
    if (folder / name).is_file():
        return folder / name
    found = [] if data is None else _below(data, name)
    if not found:
        along = shipped(name)
        if along is not None:
            return along
        if data is None:
            raise DataError(
                f"the data of task '{task}' is not here: {name}", where=task, hint="name its folder with --data"
            )
        raise DataError(f"the data of task '{task}' is not in this folder: {name}", where=str(data))
    if found[0].parent != data and len(found) > 1:
        raise DataError(
            f"the data of task '{task}' is there {len(found)} times: {found[0]}, {found[1]}", where=str(data)
        )
    return found[0]


def _below(data: Path, name: str) -> list[Path]:
    """The files of that name in a folder and one level down, as they are or compressed; its own come first."""
    if not data.is_dir():
        raise DataError("there is no such folder", where=f"--data {data}")
    names = (name, f"{name}.gz") if name.endswith(".jsonl") else (name,)
    places = (data, *sorted(path for path in data.iterdir() if path.is_dir()))
    return [place / one for place in places for one in names if (place / one).is_file()]
