"""Zip and tar: their members one after another as streams; nothing is ever written under a member's name."""

from __future__ import annotations

import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, BinaryIO, NamedTuple, Self, cast

from .options import ReadLimits
from .records import Failure, Place, Unreadable
from .streams import Budget, ByteStream, Expansion

_READ = 1 << 16
# The zip library expands all of what it has read of bzip2 and LZMA at once, so it is to read little.
_READ_UNBOUNDED = 1 << 12
_UNBOUNDED = (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# The headers of one tar member; longer ones are made to fill the memory.
_TAR_HEADER = 1 << 20
# The smallest entry of a zip's directory, and a generous one: names are paths.
_ZIP_ENTRY, _ZIP_NAMED_ENTRY = 46, 1024
# What the zip library lets through; a damaged LZMA header may ask for all the memory there is.
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, struct.error, MemoryError)


class Member(NamedTuple):
    """A file in an archive, to be read before the next one is asked for."""

    name: str
    stream: ByteStream


def unsafe_name(name: str) -> bool:
    """Whether a member's name leads out of the folder that an archive would be unpacked into."""
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or parts[0] == "" or parts[0].endswith(":") or "\0" in name


def hidden(name: str) -> bool:
    """Whether a path is what listings leave out: dot files, and the folder that macOS adds to zips."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def open_zip(file: BinaryIO, limits: ReadLimits) -> zipfile.ZipFile:
    """A zip whose directory is small enough to be read.

    Raises:
        Unreadable: it is damaged, or has too many members.
    """
    directory = _directory_bytes(file)
    if directory > limits.max_members * _ZIP_NAMED_ENTRY:
        raise _too_many(limits)
    file.seek(0)
    try:
        archive = zipfile.ZipFile(file)
    except NotImplementedError as error:
        raise Unreadable("unsupported", f"it needs a newer reader of zips ({error})") from None
    except _DAMAGED as error:
        reason = "truncated" if directory < 0 else "damaged-record"
        raise Unreadable(reason, f"its directory cannot be read ({error})") from None
    if len(archive.infolist()) > limits.max_members:
        raise _too_many(limits)
    return archive


def has_member(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether a zip has a member of this name."""
    try:
        archive.getinfo(name)
    except KeyError:
        return False
    return True


def _directory_bytes(file: BinaryIO) -> int:
    """The size of a zip's directory, as the record at its end says (PKWARE's APPNOTE 4.3.16); -1 without one."""
    size = file.seek(0, 2)
    file.seek(max(0, size - (1 << 16) - 22))
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or place + 22 > len(tail):
        return -1
    (stated,) = struct.unpack_from("<L", tail, place + 12)
    # A directory of 4 GiB and more writes this; it cannot be larger than the file.
    return size if stated == 0xFFFFFFFF else stated


def _too_many(limits: ReadLimits) -> Unreadable:
    return Unreadable("archive-bomb", f"it has more than {limits.max_members:,} members (limits.max_members)")


def zip_members(archive: zipfile.ZipFile, place: Place, budget: Budget) -> Iterator[Member | Failure]:
    """The files of a zip in the order of its directory, and a failure for every member that cannot be read."""
    for info in archive.infolist():
        # Some Windows programs write their own separator.
        name = info.filename.replace("\\", "/")
        here = place.inside(printable(name))
        if unsafe_name(info.filename):
            yield here.failure("unsafe-path", "its name leads out of the archive")
        elif info.is_dir() or name.endswith("/") or hidden(name):
            continue
        elif stat.S_ISLNK(info.external_attr >> 16):
            yield here.failure("unsafe-path", "it is a link")
        elif info.flag_bits & 1:
            yield here.failure("encrypted", "it is protected by a password")
        else:
            try:
                file = archive.open(info)
            except NotImplementedError:
                yield here.failure("unsupported", f"its compression (method {info.compress_type}) is not known")
                continue
            except (*_DAMAGED, RuntimeError) as error:
                yield here.failure("damaged-record", f"it cannot be opened ({error})")
                continue
            with file:
                yield Member(name, _zip_stream(file, info, budget))


def _zip_stream(file: IO[bytes], info: zipfile.ZipInfo, budget: Budget) -> ByteStream:
    most = _READ_UNBOUNDED if info.compress_type in _UNBOUNDED else _READ
    expansion = Expansion(budget)
    produced = 0

    def read(size: int) -> bytes:
        nonlocal produced
        try:
            data = file.read(min(size, most))
        except _DAMAGED as error:
            raise Unreadable("damaged-record", f"its compressed data is damaged ({error})") from None
        if not data and produced < info.file_size:
            raise Unreadable("truncated", "its compressed data ends too early")
        produced += len(data)
        # The directory tells how many compressed bytes there are; how many were taken so far the library does not.
        expansion.spend(len(data), info.compress_size)
        return data

    return ByteStream(read)


def tar_members(stream: ByteStream, place: Place, budget: Budget) -> Iterator[Member | Failure]:
    """The files of a tar in their order, and a failure for every member that cannot be read.

    Raises:
        Unreadable: the tar is damaged or cut short; what was whole has been given.
    """
    guard = _Guard(stream)
    file = cast(BinaryIO, guard)
    try:
        archive = tarfile.open(fileobj=file, mode="r|", bufsize=1 << 14, tarinfo=_Header)  # noqa: SIM115
    except tarfile.TarError as error:
        raise Unreadable("damaged-record", f"it is no tar ({error})") from None
    with archive:
        count = 0
        while (info := _next(archive)) is not None:
            guard.allow(archive.offset)
            # The library remembers every member; there may be millions.
            archive.members = []  # type: ignore[attr-defined]
            count += 1
            if count > budget.limits.max_members:
                raise _too_many(budget.limits)
            found = _tar_member(archive, info, place.inside(printable(info.name)))
            if found is not None:
                yield found


def _next(archive: tarfile.TarFile) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except (tarfile.TarError, ValueError, OSError) as error:
        raise Unreadable("truncated", f"the archive breaks off ({error})") from None


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo, here: Place) -> Member | Failure | None:
    name = info.name.removeprefix("./")
    if unsafe_name(info.name):
        return here.failure("unsafe-path", "its name leads out of the archive")
    if info.isdir():
        return None
    if info.issym() or info.islnk():
        return here.failure("unsafe-path", "it is a link")
    if not info.isreg():
        return here.failure("unsafe-path", "it is a device or a pipe")
    if hidden(name):
        return None
    if info.issparse():
        return here.failure("unsupported", "it is a file with holes")
    file = archive.extractfile(info)
    assert file is not None
    left = info.size

    def read(size: int) -> bytes:
        nonlocal left
        try:
            data = file.read(min(size, _READ))
        except (tarfile.TarError, OSError) as error:
            raise Unreadable("truncated", f"the archive ends in it ({error})") from None
        left -= len(data)
        if not data and left > 0:
            raise Unreadable("truncated", "the archive ends in it")
        return data

    return Member(name, ByteStream(read))


class _Header(tarfile.TarInfo):
    """A member's header; the library takes a broken one for the archive's end and says nothing."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf.strip(b"\0"):
                raise  # a block of zeros, or none: the end
            if len(buf) < tarfile.BLOCKSIZE:
                raise Unreadable("truncated", "the archive ends in a member's header") from None
            raise Unreadable("damaged-record", f"a member's header is damaged ({error}); the rest is lost") from None


class _Guard:
    """What the tar library reads from: it would take in a header of any length, so that is bounded here."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._begin = stream.offset
        self._allowed = _TAR_HEADER

    def allow(self, next_header: int) -> None:
        """Lets it read up to the next member, and that one's headers."""
        self._allowed = next_header + _TAR_HEADER

    def read(self, size: int) -> bytes:
        if self._stream.offset - self._begin > self._allowed:
            raise Unreadable("archive-bomb", "a member's header is longer than any real one")
        return self._stream.read_exactly(size)


def printable(name: str) -> str:
    """A name as reports can show it: what is not UTF-8 is written as escapes."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
