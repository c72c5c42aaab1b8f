"""Bytes read in order, within limits: files, pieces of files, and what gzip, bzip2, xz and zstd hold.

Nothing here holds more than some buffers in memory, whatever a compressed file claims or expands to.
"""

from __future__ import annotations

import bz2
import contextlib
import lzma
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from ...errors import MissingExtra
from ...files import storage_errors
from .options import ReadLimits
from .records import Unreadable

CHUNK = 1 << 18
# Compressed bytes are fed in small steps, so that damage is noticed near where it is.
_STEP = 1 << 14
# A block of zstd's may expand to 128 KiB from 4 bytes, and its library has no way to ask for less than all of it: with
# this step the most that it returns at once is 16 MiB.
_ZSTD_STEP = 512
# What all streams in one file may together expand to beyond the ratio: a small blank file is packed in next to nothing.
_FREE = 16 << 20
# The memory that a compressed file may ask for to be read: what the tools themselves allow without being told.
_WINDOW = 128 << 20
# What is kept in memory before a file that needs seeking goes to a temporary one.
_SPOOL = 8 << 20


class Budget:
    """How many bytes a file may still expand to: all that lies in it, archives in archives included, together.

    Args:
        limits: of reading.
        size: bytes of the file itself.
    """

    def __init__(self, limits: ReadLimits, size: int) -> None:
        self.limits = limits
        self._left = limits.max_archive_bytes
        self._left_by_ratio = _FREE + limits.max_ratio * size
        self._free = float(_FREE)

    @property
    def exhausted(self) -> bool:
        """Whether nothing more of the file may be expanded."""
        return self._left < 0 or self._left_by_ratio < 0

    def room(self, consumed: int) -> int:
        """The most bytes that a stream of ``consumed`` compressed ones may expand to now."""
        by_ratio = self.limits.max_ratio * consumed + max(0.0, self._free)
        return int(max(0, min(by_ratio, self._left, self._left_by_ratio)))

    def take(self, size: int, beyond: float) -> None:
        """Takes ``size`` new bytes off, of which ``beyond`` are more than the ratio allows the stream they come from.

        Raises:
            Unreadable: more than the limits allow.
        """
        by_ratio = f"it expands to more than {self.limits.max_ratio:g} times its size (limits.max_ratio)"
        # What is refused costs nothing, so that a bomb leaves the rest of its archive to be read.
        if beyond > max(0.0, self._free):
            raise Unreadable("archive-bomb", by_ratio)
        self._left -= size
        self._left_by_ratio -= size
        self._free -= beyond
        if self._left < 0:
            limit = self.limits.max_archive_bytes
            raise Unreadable("archive-bomb", f"it expands to more than limits.max_archive_bytes ({limit:,} bytes)")
        if self._left_by_ratio < 0:
            raise Unreadable("archive-bomb", by_ratio)


class Expansion:
    """What one compressed stream has expanded to, at the cost of its file's budget."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._produced = 0
        self._beyond = 0.0

    def spend(self, size: int, consumed: int) -> None:
        """Takes ``size`` new bytes off; the stream was read up to ``consumed`` compressed ones.

        Raises:
            Unreadable: more than the limits allow.
        """
        self._produced += size
        before = self._beyond
        self._beyond = max(0.0, self._produced - self._budget.limits.max_ratio * consumed)
        self._budget.take(size, self._beyond - before)


class ByteStream:
    """Bytes that are read once, in order, with a look ahead.

    An error met while looking ahead is raised only after the bytes before it have been read.

    Args:
        read: gives at most so many bytes, b"" at the end; may raise ``Unreadable``.
        offset: where the stream begins.
        file: the file itself, where the stream is the whole of it and it can be sought in.
        resync: goes on behind a damaged place; whether there is anything.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        *,
        offset: int = 0,
        file: BinaryIO | None = None,
        resync: Callable[[], bool] | None = None,
    ) -> None:
        self.offset = offset
        self.file = file
        self._read = read
        self._resync = resync
        self._buffer = b""
        self._place = 0
        self._ended = False
        self._error: Unreadable | None = None

    def _fill(self, size: int) -> None:
        """Buffers ``size`` bytes, or all that are left."""
        parts = [self._buffer[self._place :]]
        have = len(parts[0])
        while have < size and not self._ended and self._error is None:
            try:
                more = self._read(max(CHUNK, size - have))
            except Unreadable as error:
                self._error = error
                break
            self._ended = not more
            parts.append(more)
            have += len(more)
        self._buffer = b"".join(parts)
        self._place = 0

    def peek(self, size: int) -> bytes:
        """The next bytes, which stay to be read: ``size`` of them, or all that are left or readable."""
        if len(self._buffer) - self._place < size:
            self._fill(size)
        return self._buffer[self._place : self._place + size]

    def read(self, size: int = CHUNK) -> bytes:
        """At least one byte and at most ``size``; b"" at the end.

        Raises:
            Unreadable: the stream cannot be read further.
        """
        if self._place == len(self._buffer):
            self._fill(1)
            if not self._buffer and self._error is not None:
                raise self._error
        data = self._buffer[self._place : self._place + size]
        self._place += len(data)
        self.offset += len(data)
        return data

    def read_exactly(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end."""
        parts = []
        while size > 0 and (part := self.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def read_all(self, limit: int) -> bytes:
        """All that is left.

        Raises:
            Unreadable: more than ``limit`` bytes, or the stream cannot be read to its end.
        """
        data = self.read_exactly(limit + 1)
        if len(data) > limit:
            raise Unreadable("too-large", f"it is larger than limits.max_document_bytes ({limit:,} bytes)")
        return data

    def skip(self, size: int) -> int:
        """Leaves out ``size`` bytes; how many there were."""
        left = size
        while left > 0 and (part := self.read(min(left, CHUNK))):
            left -= len(part)
        return size - left

    def resync(self) -> bool:
        """After an error, goes on behind the damaged place; False where nothing more can be read."""
        if self._resync is None or not self._resync():
            return False
        self._error = None
        self._ended = False
        return True


@contextlib.contextmanager
def open_stream(path: str, begin: int = 0, end: int | None = None) -> Iterator[ByteStream]:
    """A file, or a range of its bytes."""
    with Path(path).open("rb") as file:
        if end is None:
            yield ByteStream(file.read, file=file)
            return
        file.seek(begin)

        def read(size: int) -> bytes:
            return file.read(max(0, min(size, end - file.tell())))

        yield ByteStream(read, offset=begin)


@contextlib.contextmanager
def seekable(stream: ByteStream) -> Iterator[BinaryIO]:
    """The stream as a file that can be sought in: itself, or a temporary copy that has no name on the disk."""
    if stream.file is not None:
        stream.file.seek(0)
        yield stream.file
        return
    with tempfile.SpooledTemporaryFile(max_size=_SPOOL) as copy:
        while data := stream.read():
            with storage_errors(Path(tempfile.gettempdir())):
                copy.write(data)
        copy.seek(0)
        yield cast(BinaryIO, copy)


def decompress(stream: ByteStream, kind: str, budget: Budget) -> ByteStream:
    """What a compressed stream holds: all its members, one after another.

    Args:
        stream: the compressed bytes.
        kind: "gz", "bz2", "xz" or "zst".
        budget: of the file.

    Raises:
        MissingExtra: zstd needs the extra 'data'.
    """
    members = _Members(stream, kind, budget)
    return ByteStream(members.read, resync=members.resync)


class _Decompressor(Protocol):
    """What the decompressors of bz2 and lzma offer, which the others are brought to."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def unconsumed(self) -> bytes:
        """What was fed and not yet needed."""
        return self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(0, max_length))


class _Zstd:
    def __init__(self) -> None:
        self._inner = _zstandard().ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._input = b""
        self._output = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof) and not self._output

    @property
    def needs_input(self) -> bool:
        return not self._input and not self._output

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + self._input

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        self._input += data
        if not self._output and self._input and not self._inner.eof:
            step, self._input = self._input[:_ZSTD_STEP], self._input[_ZSTD_STEP:]
            self._output = self._inner.decompress(step)
        taken, self._output = self._output[:max_length], self._output[max_length:]
        return taken


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingExtra("reading zstd", "data") from None
    return zstandard


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(memlimit=_WINDOW)


_KINDS: dict[str, tuple[Callable[[], _Decompressor], tuple[bytes, ...]]] = {
    "gz": (_Gzip, (b"\x1f\x8b",)),
    "bz2": (bz2.BZ2Decompressor, (b"BZh",)),
    "xz": (_xz, (b"\xfd7zXZ\0",)),
    # Any of sixteen magic numbers begins a frame to be skipped.
    "zst": (_Zstd, (b"\x28\xb5\x2f\xfd", *(bytes([0x50 + i]) + b"\x2a\x4d\x18" for i in range(16)))),
}


class _Members:
    """The members of a compressed stream."""

    def __init__(self, source: ByteStream, kind: str, budget: Budget) -> None:
        self._source = source
        self._new, self._magics = _KINDS[kind]
        self._expansion = Expansion(budget)
        self._errors: tuple[type[Exception], ...] = (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError)
        if kind == "zst":
            self._errors += (_zstandard().ZstdError,)
        self._member: _Decompressor | None = None
        self._input = b""
        self._consumed = 0

    def read(self, size: int) -> bytes:
        while True:
            if self._member is None:
                if not self._begin_member():
                    return b""
                self._member = self._new()
            if self._member.eof:
                self._input = self._member.unused_data
                self._member = None
                continue
            ended = not self._input and self._member.needs_input and not self._take()
            # Kept to be searched for the next member, should this one turn out to be damaged.
            kept = self._member.unconsumed if isinstance(self._member, _Gzip) else b""
            fed, self._input = self._input, b""
            try:
                data = self._member.decompress(fed, min(size, CHUNK))
            except self._errors as error:
                self._input = kept + fed
                raise Unreadable("damaged-record", f"its compressed data is damaged ({error})") from None
            if data:
                self._expansion.spend(len(data), self._consumed)
                return data
            if ended and not self._member.eof:
                raise Unreadable("truncated", "its compressed data ends too early")

    def _take(self) -> bool:
        more = self._source.read(_STEP)
        self._consumed += len(more)
        self._input += more
        return bool(more)

    def _begin_member(self) -> bool:
        """Whether another member follows; zeros between and behind members are padding."""
        while len(self._input) < 6:
            self._input = self._input.lstrip(b"\0")
            if not self._take():
                break
        self._input = self._input.lstrip(b"\0")
        if not self._input:
            return False
        if not self._input.startswith(self._magics):
            raise Unreadable("damaged-record", "something else follows its compressed data")
        return True

    def resync(self) -> bool:
        """Goes to the next place that looks like a member's beginning, behind a damaged one."""
        magic = self._magics[0]
        self._member = None
        self._input = self._input[1:]
        while (found := self._input.find(magic)) < 0:
            self._input = self._input[-len(magic) + 1 :]
            if not self._take():
                return False
        self._input = self._input[found:]
        return True
