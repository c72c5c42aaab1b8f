"""Large JSON Lines files in pieces that can be read apart from one another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from .lines import Line, read_lines
from .options import ReadLimits
from .records import Unreadable
from .sniff import HEAD, sniff
from .streams import CHUNK, open_stream

# One large file is to occupy every worker, and an appended one to cost only its end.
PIECE = 32 << 20


def piece_edges(path: str, conversation: str | None, limits: ReadLimits, size: int = PIECE) -> list[tuple[int, int]]:
    """Where the pieces of a JSON Lines file begin: (byte, number of the line there), and its end as (bytes, 0).

    Each piece but the last has at least ``size`` bytes and ends with a line; where rows of one conversation stand
    together, with its last row.

    Args:
        path: the file.
        conversation: the key of a row's conversation, or None.
        limits: a longer line than ``max_document_bytes`` is passed over without being held.
        size: of a piece.

    Raises:
        OSError: the file cannot be read.
    """
    total = Path(path).stat().st_size
    edges = [(0, 1)]
    if total > size and _is_json_lines(path):
        while edges[-1][0] + size < total:
            begin, number = edges[-1]
            target = begin + size
            number += _count_lines(path, begin, target)
            with open_stream(path, target, total) as stream:
                edge = _edge(read_lines(stream, limits.max_document_bytes, number), conversation)
            if edge is None:
                break
            edges.append((edge.begin, edge.number))
    return [*edges, (total, 0)]


def _is_json_lines(path: str) -> bool:
    with open_stream(path) as stream:
        try:
            return sniff(stream.peek(HEAD), "jsonl") == "jsonl"
        except Unreadable:
            return False


def _count_lines(path: str, begin: int, end: int) -> int:
    count = 0
    with open_stream(path, begin, end) as stream:
        while data := stream.read(CHUNK):
            count += data.count(b"\n")
    return count


def _edge(lines: Iterator[Line], conversation: str | None) -> Line | None:
    """The first line that a piece may begin with, behind the one that is being passed through."""
    next(lines, None)
    last = None
    for line in lines:
        if conversation is None:
            return line
        here = _conversation(line, conversation)
        if here is not None and last is not None and here != last:
            return line
        last = here if here is not None else last
    return None


def _conversation(line: Line, key: str) -> str | None:
    try:
        value = json.loads(line.raw or b"")
    except (ValueError, RecursionError):
        return None
    name = value.get(key) if isinstance(value, dict) else None
    return None if name is None else str(name)
