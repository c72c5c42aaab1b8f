"""What tests of reading share: one call that lists and reads."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ownlm.data.sources import Failure, RawDocument, ReadLimits, SourceOptions, list_units, read_unit

Read = Callable[..., tuple[list[RawDocument], list[Failure]]]


@pytest.fixture
def read() -> Read:
    """Lists and reads a path: its documents and its failures."""

    def read_path(path: Any, limits: ReadLimits | None = None, **options: Any) -> Any:
        limits = limits or ReadLimits()
        paths = str(path) if isinstance(path, str | Path) else [str(p) for p in path]
        source = SourceOptions(name="src", path=paths, **options)
        units, failures = list_units(source, limits)
        found = [record for unit in units for record in read_unit(unit, source, limits)]
        documents = [record for record in found if isinstance(record, RawDocument)]
        return documents, failures + [record for record in found if isinstance(record, Failure)]

    return read_path


@pytest.fixture
def peak(read: Read) -> Callable[..., int]:
    """Reads a path, and says how many bytes of Python's memory that took at most; what was found goes into ``into``."""

    def run(path: Any, limits: ReadLimits, into: list[Any]) -> int:
        tracemalloc.start()
        try:
            into += read(path, limits)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return run
