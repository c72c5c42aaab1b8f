"""The page in a stored HTTP answer: status, headers, chunks and compression, forgiving as crawls need it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from email.message import Message
from typing import NamedTuple

from ...errors import MissingExtra
from .records import Unreadable
from .streams import Budget, ByteStream, Expansion, decompress

HEADER_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)?\s+(\d{3})")
_CHUNK_SIZE = re.compile(rb"\s*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_GZIP = b"\x1f\x8b"


class Page(NamedTuple):
    """What an HTTP answer carries.

    Attributes:
        status: 200 for a page that was found.
        media, charset: as the server declares them, in lower case; None where it does not.
        body: with chunks put together and compression undone.
    """

    status: int
    media: str | None
    charset: str | None
    body: bytes


def read_page(block: bytes, budget: Budget) -> Page:
    """The page in a stored answer.

    Args:
        block: the answer, with its head.
        budget: of the file that it is stored in.

    Raises:
        Unreadable: it is no HTTP answer, it is cut short, or its compression is broken or expands without end.
    """
    status = _STATUS.match(block)
    if status is None:
        raise Unreadable("damaged-record", "it holds no HTTP answer")
    headers, body = _split(block)
    media, charset = content_type(headers.get("content-type"))
    code = int(status[1])
    if code != 200:
        return Page(code, media, charset, b"")
    stated = headers.get("content-length", "").strip()
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _unchunk(body)
    elif stated.isdecimal() and len(body) < int(stated):
        raise Unreadable("truncated", f"the page has {len(body):,} bytes of the {int(stated):,} that its server sent")
    for encoding in reversed(headers.get("content-encoding", "").lower().split(",")):
        body = _decoded(body, encoding.strip(), budget)
    return Page(code, media, charset, body)


def header_fields(head: bytes) -> Mapping[str, str]:
    """The fields below the first line of a header, by their names in lower case; the first of each name counts."""
    fields: dict[str, str] = {}
    for line in re.split(rb"\r?\n(?![ \t])", head)[1:]:
        name, colon, value = line.decode(errors="replace").partition(":")
        if colon:
            fields.setdefault(name.strip().lower(), value.strip())
    return fields


def content_type(value: str | None) -> tuple[str | None, str | None]:
    """``text/html; charset=UTF-8`` as ("text/html", "utf-8")."""
    if not value or not value.strip():
        return None, None
    message = Message()
    message["content-type"] = " ".join(value.split())
    media = value.split(";")[0].strip().lower()
    charset = message.get_param("charset")
    return media or None, charset.strip(" \"'").lower() or None if isinstance(charset, str) else None


def _split(block: bytes) -> tuple[Mapping[str, str], bytes]:
    """Headers and the body."""
    end = HEADER_END.search(block)
    head, body = (block[: end.start()], block[end.end() :]) if end else (block, b"")
    return header_fields(head), body


def _unchunk(body: bytes) -> bytes:
    """Puts chunks together; a body that says it has chunks and has none is taken as it is, as crawlers store it."""
    parts: list[bytes] = []
    place = 0
    while (size := _CHUNK_SIZE.match(body, place)) is not None:
        count = int(size[1], 16)
        if count == 0:
            return b"".join(parts)
        part = body[size.end() : size.end() + count]
        parts.append(part)
        if len(part) < count:
            raise Unreadable("truncated", "its last chunk ends too early")
        place = size.end() + count
        place += 2 if body[place : place + 2] == b"\r\n" else 1 if body[place : place + 1] == b"\n" else 0
    if not parts:
        return body
    if place < len(body):
        raise Unreadable("damaged-record", "its chunks are broken")
    raise Unreadable("truncated", "its last chunk is missing")


def _decoded(body: bytes, encoding: str, budget: Budget) -> bytes:
    """Undoes one compression; a body that is not compressed after all is taken as it is."""
    if encoding in ("gzip", "x-gzip"):
        return _expand(body, "gz", budget) if body.startswith(_GZIP) else body
    if encoding == "zstd":
        return _expand(body, "zst", budget) if body.startswith(b"\x28\xb5\x2f\xfd") else body
    if encoding == "deflate":
        return _inflate(body, budget)
    if encoding == "br":
        return _brotli(body, budget)
    if encoding in ("", "identity", "none"):
        return body
    raise Unreadable("unsupported", f"its compression '{encoding[:40]}' is not known")


def _expand(body: bytes, kind: str, budget: Budget) -> bytes:
    stream = ByteStream(io.BytesIO(body).read)
    return decompress(stream, kind, budget).read_all(budget.limits.max_document_bytes)


def _inflate(body: bytes, budget: Budget) -> bytes:
    """ "deflate" is zlib's format by its specification, and bare deflate by many servers."""
    import zlib

    for bits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        inflater = zlib.decompressobj(bits)
        try:
            return _within(lambda size, inflater=inflater: inflater.decompress(body, size), body, budget)  # type: ignore[misc]
        except zlib.error:
            continue
    return body


def _brotli(body: bytes, budget: Budget) -> bytes:
    try:
        from fastwarc.stream_io import BrotliReader
    except ImportError:
        raise MissingExtra("reading pages compressed with Brotli", "data") from None
    try:
        return _within(BrotliReader(io.BytesIO(body)).read, body, budget)
    except OSError as error:
        raise Unreadable("damaged-record", f"its compressed data is damaged ({error})") from None


def _within(read: Callable[[int], bytes], packed: bytes, budget: Budget) -> bytes:
    limit = budget.limits.max_document_bytes
    body = read(1 + min(limit, budget.room(len(packed))))
    Expansion(budget).spend(len(body), len(packed))
    if len(body) > limit:
        raise Unreadable("too-large", f"it is larger than limits.max_document_bytes ({limit:,} bytes)")
    return body
