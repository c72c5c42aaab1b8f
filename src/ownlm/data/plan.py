"""Shards: the input's files grouped into pieces of work, so that the same files always meet.

Small files are grouped in the order of their names, and a group ends where the hash of a name says so (content-defined
chunking): a new file changes its own group and, seldom, the next; all other groups stay what they are and are found
among the finished results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .sources.records import Unit

# Bytes at which a shard ends; the least it has, where there is more; and how often a name ends one in between.
MOST_BYTES = 8 * 2**20
LEAST_BYTES = 2**20
ONE_NAME_IN = 8


@dataclass(frozen=True)
class Shard:
    """Units of one source that are worked on together.

    Attributes:
        source: the source's name.
        units: in order.
        contents: the content key of each.
    """

    source: str
    units: tuple[Unit, ...]
    contents: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes to read, as they are stored."""
        return sum(unit.end - unit.begin for unit in self.units)

    def without(self, names: Collection[str]) -> Shard:
        """The shard without the files of these names."""
        kept = [n for n, unit in enumerate(self.units) if unit.name not in names]
        return Shard(self.source, tuple(self.units[n] for n in kept), tuple(self.contents[n] for n in kept))

    @property
    def identity(self) -> list[Any]:
        """What decides the shard's records: the names and contents of its files."""
        return [[u.name, u.kind, u.begin, u.end, content] for u, content in zip(self.units, self.contents, strict=True)]


def plan_shards(source: str, units: Sequence[Unit], contents: Sequence[str]) -> list[Shard]:
    """Groups a source's units, which are in order, into shards."""
    return [
        Shard(source, tuple(u for u, _ in group), tuple(c for _, c in group))
        for group in _groups(zip(units, contents, strict=True))
    ]


def _groups(units: Iterable[tuple[Unit, str]]) -> Iterable[list[tuple[Unit, str]]]:
    group: list[tuple[Unit, str]] = []
    size = 0
    for unit, content in units:
        bytes_of_unit = unit.end - unit.begin
        if group and size + bytes_of_unit > MOST_BYTES:
            yield group
            group, size = [], 0
        group.append((unit, content))
        size += bytes_of_unit
        if size >= MOST_BYTES or (size >= LEAST_BYTES and _ends(unit.name)):
            yield group
            group, size = [], 0
    if group:
        yield group


def _ends(name: str) -> bool:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()[0] % ONE_NAME_IN == 0
