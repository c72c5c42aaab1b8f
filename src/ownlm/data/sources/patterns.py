"""Patterns of file names, as shells and ignore files write them."""

from __future__ import annotations

import functools
import re
from pathlib import Path

_MAGIC = re.compile(r"[*?\[]")
_TOKENS = re.compile(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", re.S)
_MEANINGS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a name matches one of the patterns.

    ``*`` and ``?`` stand for what is within one part of a path, ``**`` for any parts. A pattern without "/" means a
    file's own name, wherever it is; one that matches a folder means all in it.
    """
    return any(_compiled(_anywhere(pattern)).fullmatch(name) for pattern in patterns)


def split_pattern(given: str) -> tuple[Path, str]:
    """A path as its folders before the first pattern, and the pattern; "" where it has none, or is there as it is."""
    path = Path(given).expanduser()
    if not _MAGIC.search(given) or path.exists():
        return path, ""
    first = next(i for i, part in enumerate(path.parts) if _MAGIC.search(part))
    return Path(*path.parts[:first]), "/" + "/".join(path.parts[first:])


def _anywhere(pattern: str) -> str:
    return pattern.lstrip("/") if "/" in pattern.rstrip("/") else f"**/{pattern}"


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = []
    for token in _TOKENS.findall(pattern.rstrip("/")):
        if token.startswith("[") and len(token) > 1:
            parts.append(token.replace("[!", "[^", 1).replace("\\", "\\\\"))
        else:
            parts.append(_MEANINGS.get(token) or re.escape(token))
    return re.compile("".join(parts) + "(?:/.*)?", re.S)
