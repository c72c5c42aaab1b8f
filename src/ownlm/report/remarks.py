"""What the page of an evaluation says of a task beside its scores: what it is, what was left out, what to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .page import Report


def about(task: Mapping[str, Any]) -> str:
    """What a task measures and where it comes from; task: as ``evaluation_report`` has it."""
    parts = [
        task["about"],
        task["source"] and f"Source: {task['source']}",
        task["licence"] and f"Licence: {task['licence']}",
        task.get("data") and f"Data: {task['data']}",
    ]
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


def add_remarks(report: Report, task: Mapping[str, Any]) -> None:
    """A task's items that were too long, and its notes."""
    if task["long"]:
        what = f"{task['long']:,} item{'s' * (task['long'] > 1)} of {task['task']} ({task['shots']} shots)"
        report.note(f"{what} did not fit the model's context, and {task['long_was']}.", warning=True)
    for note in task["notes"]:
        report.note(f"{task['task']}: {note}.")
