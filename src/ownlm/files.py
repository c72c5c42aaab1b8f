"""Files that are either whole or not there: temporary name, flush, checksum, rename.

A file or folder appears under its final name only once every byte is on the disk, so a run killed at any moment leaves
either the old state or the new one. Folders carry ``checksums.json`` (SHA-256 of each file), so damage is noticed when
the folder is read, and named.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from .errors import DamagedError, DataError, StorageError, UserError

CHECKSUMS = "checksums.json"
PARTIAL = ".partial-"


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns the operating system's write errors into one sentence that says what to do."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "free some space and run the same command again; nothing that was saved before is lost",
            errno.EFBIG: "the file is larger than this disk or your limits (ulimit -f) allow",
            errno.EDQUOT: "your disk quota is used up; free some space and run the same command again",
            errno.EACCES: "choose a folder you may write to",
            errno.EPERM: "choose a folder you may write to",
            errno.EROFS: "choose a folder on a writable disk",
            errno.ENAMETOOLONG: "choose a shorter name",
            errno.EEXIST: "a file stands where a folder is to be; move it away",
            errno.ENOTDIR: "a file stands where a folder is to be; move it away",
            errno.EISDIR: "a folder stands where a file is to be; move it away",
            errno.EIO: "the disk may be failing; choose a folder on another one",
        }
        if error.errno not in hints:
            raise
        reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()
        raise StorageError(f"cannot write: {reason}", where=str(path), hint=hints[error.errno]) from error


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable; not every platform lets a folder be opened, and there the rename alone must do."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sync_file(path: Path) -> None:
    """Waits until what a file holds is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        StorageError: the disk is full or may not be written to; what stood under the name before stays.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}{PARTIAL}", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes private files; give them the rights any other new file would get.
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_text(path: Path, content: str) -> None:
    """Writes UTF-8 text whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_text(path: Path) -> str:
    """A UTF-8 file's text.

    Raises:
        DataError: the file is missing, a folder, binary, or not UTF-8 (with the byte's position).
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(path), hint="check the path") from None
    except IsADirectoryError:
        raise DataError("this is a folder, a file was expected", where=str(path)) from None
    except PermissionError:
        raise DataError("this file may not be read", where=str(path), hint="check its permissions") from None
    if b"\0" in content[:8192]:
        raise DataError("this is a binary file, text was expected", where=str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"this is not UTF-8 text: byte 0x{content[error.start]:02x} at position {error.start}",
            where=f"{path}:{line}",
            hint=f"convert it first, for example: iconv -f latin1 -t utf-8 '{path.name}' > fixed.txt",
        ) from None


def read_json(path: Path) -> Any:
    """A JSON file's value.

    Raises:
        DataError: the file is missing, or is not JSON (with its line).
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f"{path}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else str(path)
        raise DataError(f"this is not valid JSON: {json_fault(error)}", where=where) from None


def json_fault(error: ValueError | RecursionError) -> str:
    """Why Python's reader refuses a JSON text, in a few words."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    # A limit of the interpreter's, against numbers that would take it minutes to read.
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"


@contextlib.contextmanager
def new_folder(path: Path, *, checksums: bool = True) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends well, with a checksum of every file.

    Yields a temporary folder beside ``path`` to write into. A folder already at ``path`` is replaced.
    """
    path = Path(path)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}{PARTIAL}", dir=path.parent))
        try:
            yield partial
            partial.chmod(0o755)
            files = sorted(p for p in partial.rglob("*") if p.is_file())
            if checksums:
                sums = {p.relative_to(partial).as_posix(): sha256_file(p) for p in files}
                write_json(partial / CHECKSUMS, sums)
            for file in files:
                sync_file(file)
            _sync_folder(partial)
            replace_folder(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync_folder(path.parent)


def check_replaceable(out: Path, names: Collection[str]) -> None:
    """Before work whose result replaces what stands at ``out``: only an older result may stand there.

    Args:
        out: where the result goes.
        names: what such a result's folder holds.

    Raises:
        UserError: it is a file, or a folder with anything else in it.
    """
    if not out.exists():
        return
    if not out.is_dir() or not {path.name for path in out.iterdir()} <= {*names, CHECKSUMS}:
        raise UserError("something else stands here already", where=str(out), hint="give another --out")


def replace_folder(new: Path, path: Path) -> None:
    """Renames ``new`` to ``path``; a folder cannot be renamed over another, so the old one steps aside first."""
    if not path.exists():
        new.rename(path)
        return
    aside = path.with_name(f".{path.name}{PARTIAL}old-{os.getpid()}")
    path.rename(aside)
    new.rename(path)
    shutil.rmtree(aside, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Removes what an interrupted write left in ``folder``, and brings back a folder caught between two renames."""
    if not folder.is_dir():
        return
    for left in folder.glob(f".*{PARTIAL}*"):
        name = left.name[1:].split(PARTIAL)[0]
        if f"{PARTIAL}old-" in left.name and not (folder / name).exists():
            left.rename(folder / name)
        elif left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def verify_folder(folder: Path) -> None:
    """Checks every file of a folder against its ``checksums.json``.

    Raises:
        DamagedError: names the first file that is missing or differs.
    """
    sums = folder / CHECKSUMS
    if not sums.is_file():
        raise DamagedError(f"{CHECKSUMS} is missing, so the folder was not written to its end", where=str(folder))
    try:
        expected: dict[str, str] = json.loads(sums.read_text())
    except ValueError:
        raise DamagedError("this file is damaged", where=str(sums)) from None
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise DamagedError("this file is missing", where=str(path))
        if sha256_file(path) != digest:
            raise DamagedError("this file is damaged: its checksum differs from the one saved with it", where=str(path))


def home() -> Path:
    """Where fetched models and caches live: ``$OWNLM_HOME``, or the platform's cache folder."""
    if given := os.environ.get("OWNLM_HOME"):
        return Path(given).expanduser()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local")).expanduser() / "ownlm"
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "ownlm"


def existing_file(path: str | Path) -> Path:
    """The path, if a file stands there.

    Raises:
        UserError: nothing there, or a folder.
    """
    found = Path(path)
    if not found.exists():
        raise UserError("there is no such file", where=str(found), hint="check the path")
    if not found.is_file():
        raise UserError("this is a folder, a file was expected", where=str(found))
    return found
