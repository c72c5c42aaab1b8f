"""Results of stages, kept by the hash of everything that decides them.

A result is a folder that appears whole or not at all. The same content, options and version of a stage give the same
key, so an interrupted build finds what was done, a new file costs only itself, and another threshold reads no text.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..errors import DamagedError
from ..files import new_folder, remove_partial, verify_folder


def key_of(*parts: Any) -> str:
    """A key: 128 bits of the SHA-256 of the parts as JSON, in hexadecimal."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


class Store:
    """Folders of finished results, ``<folder>/<stage>/<key>``.

    Args:
        folder: where they are; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def path(self, stage: str, key: str) -> Path:
        """Where a result is, or would be."""
        return self.folder / stage / key

    def has(self, stage: str, key: str) -> bool:
        """Whether a result is there, whole; a damaged one is removed, since it can be made again."""
        path = self.path(stage, key)
        if not path.is_dir():
            return False
        try:
            verify_folder(path)
        except DamagedError:
            shutil.rmtree(path, ignore_errors=True)
            return False
        return True

    @contextlib.contextmanager
    def new(self, stage: str, key: str) -> Iterator[Path]:
        """A folder to write a result into; it appears when the block ends well."""
        with new_folder(self.path(stage, key)) as folder:
            yield folder

    def clean(self) -> None:
        """Removes what an interrupted build left unfinished."""
        if self.folder.is_dir():
            for stage in sorted(self.folder.iterdir()):
                remove_partial(stage)

    def prune(self, used: Iterable[tuple[str, str]]) -> int:
        """Removes every result but those ``used``, given as (stage, key); returns how many were removed."""
        keep = {self.path(stage, key) for stage, key in used}
        removed = 0
        for stage in sorted(p for p in self.folder.iterdir() if p.is_dir()) if self.folder.is_dir() else []:
            for result in sorted(stage.iterdir()):
                if result.is_dir() and result not in keep:
                    shutil.rmtree(result, ignore_errors=True)
                    removed += 1
        return removed
