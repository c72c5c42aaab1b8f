"""Lines and JSON: JSON Lines, lists and objects of JSON, with the byte range of every record and in bounded memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .records import Unreadable
from .streams import CHUNK, ByteStream

_BOM = b"\xef\xbb\xbf"
# What may stand at the end of JSON that is cut: the words it has, and what may follow a number's digits.
_CUT_WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity", ".", "e+", "e-", "E+", "E-")
_SPACE = re.compile(r"[ \t\r\n]*")


class Line(NamedTuple):
    """A line of a file, or a record in it.

    Attributes:
        number: from 1.
        begin, end: its byte range, without the line end.
        raw: its bytes; None where it is longer than the limit.
        ending: the line end that follows; "" at the end of the file.
    """

    number: int
    begin: int
    end: int
    raw: bytes | None
    ending: str


class Record(NamedTuple):
    """A JSON object and its place."""

    line: int
    begin: int
    end: int
    value: Mapping[str, Any]


class Broken(NamedTuple):
    """A record that is none, and why."""

    line: int
    reason: str
    message: str


def read_lines(stream: ByteStream, limit: int, number: int = 1) -> Iterator[Line]:
    """The lines of a stream, split at newlines only; a carriage return before one belongs to the line end.

    Args:
        stream: the bytes.
        limit: a longer line comes without its bytes, which are then never held in memory together.
        number: of the first line.

    Raises:
        Unreadable: the stream breaks off; the lines that were whole have been given.
    """
    begin = stream.offset
    kept: list[bytes] = []
    size = 0
    while chunk := stream.read(CHUNK):
        pieces = chunk.split(b"\n")
        for piece in pieces[:-1]:
            size += len(piece)
            raw: bytes | None = None
            if size <= limit:
                raw = b"".join([*kept, piece]) if kept else piece
            yield _line(number, begin, begin + size, raw, "\n")
            number += 1
            begin += size + 1
            kept, size = [], 0
        size += len(pieces[-1])
        if size > limit:
            kept = []
        elif pieces[-1]:
            kept.append(pieces[-1])
    if size:
        yield _line(number, begin, begin + size, b"".join(kept) if size <= limit else None, "")


def _line(number: int, begin: int, end: int, raw: bytes | None, ending: str) -> Line:
    if raw is not None:
        if begin == 0 and raw.startswith(_BOM):
            raw, begin = raw[3:], 3
        if ending and raw.endswith(b"\r"):
            raw, end, ending = raw[:-1], end - 1, "\r\n"
    return Line(number, begin, end, raw, ending)


def read_json_lines(stream: ByteStream, limit: int, number: int = 1) -> Iterator[Record | Broken]:
    """The objects of JSON Lines; empty lines are left out, a broken one is named and reading goes on.

    Raises:
        Unreadable: as ``read_lines``.
    """
    for line in read_lines(stream, limit, number):
        if line.raw is None:
            yield too_large(line.number, line.end - line.begin, limit)
            continue
        if not line.raw.strip(b" \t\r"):
            continue
        try:
            value = json.loads(line.raw.decode())
        except UnicodeDecodeError as error:
            yield Broken(line.number, "not-utf8", f"byte 0x{line.raw[error.start]:02x} is not UTF-8")
        except (ValueError, RecursionError) as error:
            cut = not line.ending and _breaks_off(error)
            yield Broken(line.number, "truncated" if cut else "invalid-json", _json_message(error))
        else:
            if isinstance(value, dict):
                yield Record(line.number, line.begin, line.end, value)
            else:
                yield not_an_object(line.number, value)


def too_large(line: int, size: int, limit: int) -> Broken:
    """A record that is longer than a document may be."""
    return Broken(line, "too-large", f"it has {size:,} bytes, more than limits.max_document_bytes ({limit:,})")


def not_an_object(line: int, value: Any) -> Broken:
    """A record that is JSON, and no object."""
    return Broken(line, "invalid-json", f"an object was expected, not {type(value).__name__}")


def _json_message(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is not valid JSON: {error.msg}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not valid JSON: {error}"


def _breaks_off(error: Exception) -> bool:
    """Whether JSON is wrong where its text ends, so that more text could mend it."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    rest = error.doc[error.pos :].rstrip()
    if error.msg.startswith("Invalid \\uXXXX escape"):
        return len(rest) < len("uXXXX") + 1
    return error.msg.startswith("Unterminated string") or any(word.startswith(rest) for word in _CUT_WORDS)


def read_json(stream: ByteStream, limit: int) -> Iterator[Record | Broken]:
    """The objects of a JSON file: those of its list, or those that follow one another in it.

    A record's number is its place, from 1. Behind a broken object nothing can be told apart, so reading stops there.

    Args:
        stream: the bytes.
        limit: the longest object.

    Raises:
        Unreadable: the stream breaks off, or is not UTF-8.
    """
    text = _Window(stream, limit)
    listed = text.next_character() == "["
    if listed:
        text.advance(1)
    decode = json.JSONDecoder().raw_decode
    number = 0
    while (first := text.next_character()) and not (listed and first == "]"):
        if first == "," and listed and number:
            text.advance(1)
            first = text.next_character()
        number += 1
        try:
            value, size = text.decode(decode)
        except (ValueError, RecursionError) as error:
            cut = text.ended and _breaks_off(error)
            yield Broken(number, "truncated" if cut else "invalid-json", f"{_json_message(error)}; the rest is lost")
            return
        if size < 0:
            yield Broken(
                number, "too-large", f"it is larger than limits.max_document_bytes ({limit:,}); the rest is lost"
            )
            return
        begin = text.offset
        text.advance(size)
        if text.offset - begin > limit:
            yield too_large(number, text.offset - begin, limit)
        elif isinstance(value, dict):
            yield Record(number, begin, text.offset, value)
        else:
            yield not_an_object(number, value)
        if listed and text.next_character() not in (",", "]"):
            message = "the list ends too early" if text.ended else "a comma is missing between two objects"
            yield Broken(number + 1, "truncated" if text.ended else "invalid-json", f"{message}; the rest is lost")
            return
    yield from _nothing_follows(text, listed, number)


def _nothing_follows(text: _Window, listed: bool, number: int) -> Iterator[Broken]:
    if listed and not text.next_character():
        yield Broken(number + 1, "truncated", "the list ends too early")
    elif listed:
        text.advance(1)
        if text.next_character():
            yield Broken(number + 1, "invalid-json", "something follows the list")


class _Window:
    """The part of a JSON file's text that is being looked at."""

    def __init__(self, stream: ByteStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._place = 0
        self.offset = stream.offset
        self.ended = False
        if stream.peek(3) == _BOM:
            stream.read(3)
            self.offset += 3

    def _more(self, size: int) -> None:
        """Takes in some ``size`` bytes more, or notes the end."""
        data = self._stream.read_exactly(size)
        self.ended = not data
        try:
            more = self._decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise Unreadable("not-utf8", f"byte 0x{error.object[error.start]:02x} is not UTF-8") from None
        self._text = self._text[self._place :] + more
        self._place = 0

    def next_character(self) -> str:
        """The first character that is no white space, moved to; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._place)
            assert space is not None
            self.advance(space.end() - self._place)
            if self._place < len(self._text):
                return self._text[self._place]
            if self.ended:
                return ""
            self._more(CHUNK)

    def advance(self, size: int) -> None:
        """Moves by ``size`` characters."""
        self.offset += len(self._text[self._place : self._place + size].encode())
        self._place += size

    def decode(self, raw_decode: Any) -> tuple[Any, int]:
        """The value that begins here and its characters; -1 where it is longer than the limit.

        Raises:
            ValueError: it is no JSON.
        """
        while True:
            have = len(self._text) - self._place
            try:
                value, end = raw_decode(self._text, self._place)
                # A number at the window's end may go on behind it.
                if end < len(self._text) or self.ended:
                    return value, end - self._place
            except json.JSONDecodeError as error:
                if self.ended or not _breaks_off(error):
                    raise
            if have > self._limit:
                return None, -1
            self._more(max(CHUNK, have))
