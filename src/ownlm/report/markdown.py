"""Texts from elsewhere as Markdown that means just themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .page import visible


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers are set to the right. Texts must have been through ``plain_text`` or ``inline_code``."""
    numeric = [any(isinstance(row[i], int) for row in rows) for i in range(len(columns))]
    lines = [
        columns,
        ["---:" if right else "---" for right in numeric],
        *([_cell(value) for value in row] for row in rows),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def plain_text(value: Any) -> str:
    """A text from elsewhere as one line of Markdown that means just itself."""
    line = " ".join(visible(str(value)).split())
    return re.sub(r"([\\`*_\[\]<>|~&$#!])", r"\\\1", line)


def inline_code(value: Any) -> str:
    """A text from elsewhere as code in a table, where a bar must be escaped even in code."""
    line = " ".join(visible(str(value)).split()).replace("|", "\\|")
    fence = fence_for(line, 1)
    space = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{space}{line}{space}{fence}" if line else ""


def fence_for(text: str, least: int) -> str:
    """More backticks in a row than stand anywhere in the text."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
