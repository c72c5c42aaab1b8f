"""Which tasks have to run for a file of gates."""

from __future__ import annotations

from pathlib import Path

from .gate_config import GatesConfig
from .suites import read_task, tasks_of


def tasks_by_shots(gates: GatesConfig, folder: Path) -> dict[int, list[str]]:
    """Names or files of tasks for each number of worked examples that gates ask for.

    Args:
        gates: the gates.
        folder: that their file stands in, beside which task files are looked for.

    Raises:
        UserError: there is no such task or suite.
        ConfigError: a task's file is wrong.
    """
    files = [str(folder / name) if name.endswith((".yaml", ".yml")) else name for name in gates.tasks]
    named = {read_task(name)[0].name: name for name in tasks_of(files, gates.suites)}
    found: dict[int, dict[str, None]] = {}
    for gate in gates.measured:
        # What follows a slash is a part of the task.
        task = gate.task.split("/")[0]
        if task not in named:
            named[task] = task
            read_task(task)
        found.setdefault(gate.shots, {})[named[task]] = None
    return {shots: list(names) for shots, names in sorted(found.items())}
