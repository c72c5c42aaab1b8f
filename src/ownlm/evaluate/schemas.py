"""JSON Schemas of the files that a user writes here, for editors: tasks and gates."""

from __future__ import annotations

import functools
import operator
from typing import Annotated, Any

from pydantic import Field, RootModel

from ..config import editor_schema
from .gate_config import GatesConfig
from .kinds import KINDS


def gates_schema() -> dict[str, Any]:
    """The JSON Schema of gates.yaml."""
    return editor_schema(GatesConfig)


def task_schema() -> dict[str, Any]:
    """The JSON Schema of a task's file: of every kind, told apart by ``kind``."""
    kinds = functools.reduce(operator.or_, KINDS.values())
    task = RootModel[Annotated[kinds, Field(discriminator="kind")]]  # type: ignore[valid-type]
    schema = editor_schema(task)
    for one in KINDS.values():
        # A task's class knows its kind without being told; a file says it.
        schema["$defs"][one.__name__]["required"].append("kind")
    return schema | {"title": "TaskConfig"}
