"""Where in a YAML file a key stands, for errors that are found once the file was read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml


def line_of(path: Path, location: Sequence[str], means: Callable[[Any], bool]) -> int | None:
    """The line of a key, counted from 1.

    Args:
        path: the file.
        location: the keys that lead to it; of a list, the number of an item.
        means: whether a value is the one meant: what was given on the command line instead stands in no line.

    Returns:
        None where there is no such file, key or value.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    try:
        node = loader.get_single_node()
        line = None
        for part in location:
            key, node = _step(node, part)
            if node is None:
                return None
            line = key.start_mark.line + 1
        return line if line is not None and means(loader.construct_document(node)) else None
    except yaml.YAMLError:
        return None
    finally:
        loader.dispose()


def _step(node: Any, part: str) -> tuple[Any, Any]:
    """The key and the value of one step of the way, the item itself being the key of a list's."""
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == part), (None, None))
    if isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
        return node.value[int(part)], node.value[int(part)]
    return None, None
