"""What a command hands back: an object for scripts, a text for people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """A command's result; ``main`` prints either the one or the others.

    Attributes:
        data: the JSON object that ``--json`` prints to stdout.
        text: what people read, on stderr.
        output: what the user asked to be produced (a model's words, token ids), on stdout, so that it can be piped.
        printed: the object was printed already, as by a server that says where it is and then goes on.
        exit_code: of the process.
    """

    data: Mapping[str, Any]
    text: str = ""
    output: str = ""
    printed: bool = False
    exit_code: int = 0


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Rows as aligned text columns."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append((indent + "  ".join(cells)).rstrip())
    return "\n".join(lines)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: paths as text, and numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
