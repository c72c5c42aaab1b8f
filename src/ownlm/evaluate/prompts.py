"""The user's own prompts, from the file they stand in, as a task that needs no file of its own.

A text file holds a prompt a line. JSON Lines, JSON, CSV and TSV hold ``prompt``, ``messages``, or one of the keys that
training data has (``instruction``, ``question``, ``text``); other keys and columns are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import validate
from ..data.read import TEXT_SUFFIXES, read_rows
from ..errors import DataError, UserError, nearest
from ..files import read_text
from .kinds.counterfactual import CounterfactualTask
from .subject import Subject
from .swaps import SWAPS
from .task import Item

KEYS = ("prompt", "messages", "instruction", "question", "text")
"""What a row's prompt may be called; the first that is there counts."""


def read_prompts(path: Path) -> list[Item]:
    """The prompts of a file, each an item with ``prompt``.

    Raises:
        DataError: as ``read_rows``; there is no prompt in the file, or in a row.
    """
    if path.suffix.lower() in TEXT_SUFFIXES:
        lines = read_text(path).split("\n")
        items = [Item({"prompt": line.strip()}, f"{path}:{n}") for n, line in enumerate(lines, 1) if line.strip()]
    else:
        items = [Item({"prompt": _prompt(row.values, row.where)}, row.where) for row in read_rows([path])]
    if not items:
        raise DataError("there are no prompts in this file", where=str(path), hint="write one a line")
    return items


def _prompt(values: Mapping[str, Any], where: str) -> Any:
    for key in KEYS:
        if values.get(key):
            return values[key]
    raise DataError("there is no prompt in this row", where=where, hint=f"name it {', '.join(KEYS[:-1])} or {KEYS[-1]}")


def prompts_task(path: Path, subject: Subject, swaps: Sequence[str] = ()) -> CounterfactualTask:
    """The ready-made task on a file of prompts, in the model's chat template where it has one.

    Args:
        path: the file, after which the task is named.
        subject: the model.
        swaps: kinds of swaps; else all.

    Raises:
        UserError: there is no such kind of swap.
    """
    check_swaps(swaps)
    name = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in path.stem.lower()).lstrip("_.-")
    values: dict[str, Any] = {
        "name": name or "prompts",
        "about": "the user's own prompts, asked about several groups of people",
        "data": str(path),
        "chat": subject.tokenizer.chat_template is not None and subject.writes,
    }
    return validate(CounterfactualTask, values | ({"swaps": list(swaps)} if swaps else {}))


def check_swaps(swaps: Sequence[str]) -> None:
    """Checks the names of kinds of swaps.

    Raises:
        UserError: there is no such kind.
    """
    for name in swaps:
        if name not in SWAPS:
            hint = nearest(name, list(SWAPS)) or f"one of: {', '.join(SWAPS)}"
            raise UserError(f"there is no swap '{name}'", where="swaps", hint=hint)
