"""Data that comes with ownlm: where it is, and whether it is still what was packed.

``data/SOURCE.md`` says where each file is from and under which licence, ``data/SHA256SUMS`` what is in it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import DataError

SHIPPED = Path(__file__).parent / "data"


def shipped(name: str) -> Path | None:
    """The file that comes along for a task's data, such as ``boolq.jsonl``; None where none does."""
    for path in (SHIPPED / name, SHIPPED / f"{name}.gz"):
        # Only files of data, and nothing that a path leads to.
        if path.parent == SHIPPED and name in _sums() and path.is_file():
            return path
    return None


def comes_along(path: Path) -> bool:
    """Whether a file is one of those that come with ownlm."""
    return path.resolve().parent == SHIPPED.resolve()


def check_shipped(path: Path, content: bytes) -> None:
    """Checks what a file that comes along holds, unpacked.

    Raises:
        DataError: it is not what was packed, and the file is named.
    """
    expected = _sums().get(path.name.removesuffix(".gz"))
    if hashlib.sha256(content).hexdigest() != expected:
        hint = "install ownlm again, or name a folder with a good one by --data"
        raise DataError("this file, which comes with ownlm, is damaged", where=str(path), hint=hint)


def _sums() -> dict[str, str]:
    """The sum of each file's content, by its name."""
    lines = (SHIPPED / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {name: total for total, name in map(str.split, lines)}
