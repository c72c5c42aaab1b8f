"""From a recipe's paths to units of reading: which files there are, in a fixed order, under names that travel."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from .archives import hidden, printable
from .layout import choose_files
from .options import ReadLimits, SourceOptions
from .patterns import matches, split_pattern
from .pieces import piece_edges
from .records import Failure, Place, Unit
from .sniff import kind_of_name
from .streams import open_stream

_Identity = tuple[int, int]


def list_units(source: SourceOptions, limits: ReadLimits) -> tuple[list[Unit], list[Failure]]:
    """Everything that a source has to read, sorted by name, and what of it cannot be.

    Folders are read at every depth, without hidden files. Links are followed, to folders too, unless they lead back to
    where they stand; no folder is read twice. What ``include`` and ``exclude`` leave out is no failure either.

    Args:
        source: the recipe's words on it, with files; a query or a data set of the hub is fetched first
            (``fetch_source``).
        limits: of reading.

    Raises:
        DataError: the data set has no such subset or split.
    """
    found: list[_File] = []
    failures: list[Failure] = []
    for given, prefix in zip(source.paths, _prefixes(source.paths), strict=True):
        walk = _Walk(source, given, prefix)
        walk.run()
        found += walk.files
        failures += walk.failures
    if source.subset or source.split:
        chosen = choose_files({file.name: file.path for file in found}, source)
        found = [file for file in found if file.name in chosen]
    kept = [file for file in _told_apart(found) if _is_wanted(file.name, source)]
    if found and not kept:
        message = f"include and exclude leave none of its {len(found):,} files"
        failures.append(Place(source.name, ", ".join(source.paths)).failure("missing", message))
    units: list[Unit] = []
    for file in sorted(kept, key=lambda file: file.name):
        try:
            units += _units(file, source, limits)
        except OSError as error:
            message = f"it cannot be read: {(error.strerror or str(error)).lower()}"
            failures.append(Place(source.name, file.name).failure("unreadable", message))
    return units, sorted(failures, key=lambda failure: failure.file)


def content_key(unit: Unit) -> str:
    """SHA-256 of all that decides what ``read_unit`` gives, but for options and limits: the bytes and their name.

    Raises:
        OSError: the file cannot be read.
    """
    about = [unit.source, unit.name, unit.kind, unit.begin, unit.line, unit.whole]
    digest = hashlib.sha256(json.dumps(about).encode())
    with open_stream(unit.path, unit.begin, unit.end) as stream:
        while data := stream.read():
            digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _File:
    """A file that was found: its name, where it is, whether the user named it itself, and its size."""

    name: str
    path: str
    explicit: bool
    size: int


def _prefixes(paths: tuple[str, ...]) -> list[str]:
    """What stands before the names of each path's files: of several folders, each its own name."""
    bases = [split_pattern(path)[0] for path in paths]
    if len(paths) == 1:
        return [""]
    return [f"{base.resolve().name}/" if base.is_dir() else "" for base in bases]


def _told_apart(files: Iterable[_File]) -> list[_File]:
    """Each file once, and each name once: further ones get their number as a folder of their own."""
    seen: set[str] = set()
    names: dict[str, int] = {}
    kept: list[_File] = []
    for file in files:
        place = str(Path(file.path).absolute())
        if place in seen:
            continue
        seen.add(place)
        names[file.name] = names.get(file.name, 0) + 1
        number = names[file.name]
        kept.append(file if number == 1 else replace(file, name=f"{number}/{file.name}"))
    return kept


def _is_wanted(name: str, source: SourceOptions) -> bool:
    included = not source.include or matches(name, source.include)
    return included and not matches(name, source.exclude)


def _units(file: _File, source: SourceOptions, limits: ReadLimits) -> Iterator[Unit]:
    """A file as units: one, or the pieces of a large JSON Lines file."""
    kind = kind_of_name(file.name)
    if not kind and (file.explicit or source.include):
        kind = "text"  # the user asks for it, whatever its suffix
    edges = [(0, 1), (file.size, 0)]
    if kind == "jsonl":
        edges = piece_edges(file.path, source.columns.conversation, limits)
    for (begin, line), (end, _) in itertools.pairwise(edges):
        yield Unit(source.name, file.name, file.path, kind, begin, end, line, file.size)


class _Folder(NamedTuple):
    """A folder to be read: where it is, its name below the root, and the folders it stands in, itself among them."""

    path: Path
    name: str
    above: frozenset[_Identity]


class _Walk:
    """Finds the files of one path."""

    def __init__(self, source: SourceOptions, given: str, prefix: str) -> None:
        self._source = source
        self._given = given
        self._prefix = prefix
        self._base, self._pattern = split_pattern(given)
        self._links: list[_Folder] = []
        self._read: set[_Identity] = set()
        self.files: list[_File] = []
        self.failures: list[Failure] = []

    def run(self) -> None:
        try:
            status = self._base.stat()
        except OSError as error:
            self._fail("", error)
            return
        if not stat.S_ISDIR(status.st_mode):
            self._file(self._base, self._base.name, status, explicit=True)
            return
        self._read.add(_identity(status))
        self._folders(_Folder(self._base, "", frozenset(self._read)))
        # Links to folders come last, so that what they lead to keeps its own name wherever it has one.
        while self._links:
            self._link(self._links.pop(0))
        if not self.files and not self.failures:
            what = "this pattern matches nothing" if self._pattern else "this folder has no file to read"
            self._add_failure("", "missing", what)

    def _link(self, link: _Folder) -> None:
        """Reads the folder that a link leads to, once."""
        try:
            identity = _identity(link.path.stat())
        except OSError as error:
            self._fail(link.name, error)
            return
        if identity in link.above:
            # What is in that folder is read in its own place.
            self._add_failure(link.name, "symlink-loop", "this link leads back to a folder that it stands in")
        elif identity not in self._read:
            self._read.add(identity)
            self._folders(link._replace(above=link.above | {identity}))

    def _folders(self, root: _Folder) -> None:
        """Reads a folder and those below it; links to folders are put off."""
        waiting = [root]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(folder.path) as entries:
                    inside = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._fail(folder.name, error, any_name=True)
                continue
            for entry in inside:
                if not hidden(entry.name):
                    name = f"{folder.name}/{entry.name}" if folder.name else entry.name
                    below = self._entry(entry, name, folder.above)
                    waiting += [below] if below is not None else []

    def _entry(self, entry: os.DirEntry[str], name: str, above: frozenset[_Identity]) -> _Folder | None:
        """Takes in a file or a link; a folder is given back to be read."""
        path = Path(entry.path)
        try:
            status = entry.stat()
        except OSError as error:
            self._fail(name, error)
            return None
        if not stat.S_ISDIR(status.st_mode):
            self._file(path, name, status, explicit=False)
            return None
        if entry.is_symlink():
            self._links.append(_Folder(path, name, above))
            return None
        self._read.add(_identity(status))
        return _Folder(path, name, above | {_identity(status)})

    def _file(self, path: Path, name: str, status: os.stat_result, *, explicit: bool) -> None:
        if not self._is_meant(name):
            return
        if not stat.S_ISREG(status.st_mode):
            self._add_failure(name, "unsupported", f"this is {_special(status.st_mode)}, not a file")
        elif not os.access(path, os.R_OK):
            self._add_failure(name, "unreadable", "this file may not be read")
        else:
            named = explicit or bool(self._pattern)
            self.files.append(_File(self._prefix + printable(name), str(path), named, status.st_size))

    def _is_meant(self, name: str) -> bool:
        return not self._pattern or matches(name, (self._pattern,))

    def _fail(self, name: str, error: OSError, *, any_name: bool = False) -> None:
        if error.errno == errno.ENOENT:
            link = bool(name) or self._base.is_symlink()
            self._add_failure(name, "missing", f"{'this link leads to nothing' if link else 'nothing is there'}")
        elif error.errno == errno.ELOOP:
            self._add_failure(name, "symlink-loop", "this link leads back to itself")
        else:
            self._add_failure(
                name, "unreadable", f"it cannot be read: {(error.strerror or str(error)).lower()}", any_name=any_name
            )

    def _add_failure(self, name: str, reason: str, message: str, *, any_name: bool = False) -> None:
        """Notes a failure; of what is not meant only folders matter, since their files might be."""
        shown = self._prefix + printable(name) if name else self._given
        if name and matches(shown, self._source.exclude):
            return
        if any_name or not name or (self._is_meant(name) and _is_wanted(shown, self._source)):
            self.failures.append(Place(self._source.name, shown).failure(reason, message))


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"
