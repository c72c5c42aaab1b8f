"""Tables: comma- and tab-separated values with the byte range of every row, and Parquet."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from typing import Any, BinaryIO

from ...errors import MissingExtra
from .lines import Broken, Record, read_lines, too_large
from .options import Columns
from .records import Unreadable
from .rows import USUAL, has_content, unknown_columns
from .streams import ByteStream

# Rows taken out of Parquet at a time: few, since a row may be a whole book.
_ROWS = 16
_DELIMITERS = ",;\t|"


def read_csv(stream: ByteStream, kind: str, columns: Columns, limit: int) -> Iterator[Record | Broken]:
    """The rows of a table whose first row names the columns.

    Fields are text where they are UTF-8 and bytes where they are not. The delimiter of a .csv file is the one of
    ``, ; tab |`` that its header has most of.

    Raises:
        Unreadable: no column can hold a document, or the stream breaks off.
    """
    # The csv module refuses fields beyond 128 KiB unless told otherwise; documents are longer.
    csv.field_size_limit(2**31 - 1)
    converted = stream.peek(2) in (b"\xff\xfe", b"\xfe\xff")
    if converted:
        stream = _as_utf8(stream)
    lines = _Rows(stream, limit)
    delimiter = "\t" if kind == "tsv" else _delimiter(stream)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        lines.start_row()
        try:
            row = next(rows, None)
        except csv.Error as error:
            # A quote that is never closed takes in the rest of the file.
            reason = "truncated" if lines.ended else "damaged-record"
            yield Broken(lines.line, reason, f"it is not a valid row: {error}")
            continue
        except _TooLong as error:
            yield too_large(lines.line, error.size, limit)
            continue
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = [_name(field) for field in row]
            if not has_content(header, columns):
                raise unknown_columns(header)
        elif len(row) != len(header):
            yield Broken(lines.line, "damaged-record", f"it has {len(row)} fields, the header {len(header)}")
        else:
            values = {name: _field(field) for name, field in zip(header, row, strict=True)}
            begin, end = (-1, -1) if converted else (lines.begin, lines.end)
            yield Record(lines.line, begin, end, values)


class _TooLong(Exception):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class _Rows:
    """A table's lines for the csv module, which says when a row begins and knows where it stands.

    Bytes become characters one to one (Latin-1), since delimiters and quotes are ASCII in every encoding that this is
    meant for; ``_field`` turns them back.
    """

    def __init__(self, stream: ByteStream, limit: int) -> None:
        self._lines = read_lines(stream, limit)
        self._limit = limit
        self._new = True
        self.line = 1
        self.begin = self.end = 0
        self.ended = False

    def start_row(self) -> None:
        self._new = True

    def __iter__(self) -> _Rows:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        if line is None:
            self.ended = True
            raise StopIteration
        if self._new:
            self.line, self.begin, self._new = line.number, line.begin, False
        self.end = line.end
        # A row may have many lines: a quote that is never closed must not collect them all.
        if line.raw is None or line.end - self.begin > self._limit:
            raise _TooLong(line.end - self.begin)
        return line.raw.decode("latin-1") + line.ending


def _delimiter(stream: ByteStream) -> str:
    header = stream.peek(1 << 14).split(b"\n")[0].decode("latin-1")
    # Of equals the first: a comma, if there is none at all.
    return max(_DELIMITERS, key=header.count)


def _field(field: str) -> str | bytes:
    if field.isascii():
        return field
    raw = field.encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def _name(field: str) -> str:
    name = _field(field)
    return (name if isinstance(name, str) else field).strip()


def _as_utf8(stream: ByteStream) -> ByteStream:
    """A table in UTF-16, as spreadsheets write it, a piece at a time."""
    decoder = codecs.getincrementaldecoder("utf-16")()

    def read(size: int) -> bytes:
        while True:
            data = stream.read(size)
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError:
                raise Unreadable("damaged-record", "it begins as UTF-16 and is not") from None
            if text or not data:
                return text.encode(errors="surrogatepass")

    return ByteStream(read)


def read_parquet(file: BinaryIO, columns: Columns) -> Iterator[Record | Broken]:
    """The rows of a Parquet file; only columns that are named or usual are read.

    Raises:
        MissingExtra: pyarrow is not installed.
        Unreadable: the file is damaged, or no column can hold a document.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("reading Parquet", "data") from None
    number = 0
    try:
        # Pages are read one by one, not a whole column of a row group, which may be all of the file.
        parquet = pyarrow.parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        names = parquet.schema_arrow.names
        if not has_content(names, columns):
            raise unknown_columns(names)
        wanted = [name for name in names if name in USUAL or name in columns.named()]
        for batch in parquet.iter_batches(_ROWS, columns=wanted, use_threads=False):
            yield from _rows(batch, number + 1)
            number += batch.num_rows
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise Unreadable(*_parquet_error(error, number)) from None


def _rows(batch: Any, number: int) -> Iterator[Record | Broken]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        for i in range(batch.num_rows):
            try:
                yield Record(number + i, -1, -1, batch.slice(i, 1).to_pylist()[0])
            except UnicodeDecodeError:
                yield Broken(number + i, "not-utf8", "a text in this row is not UTF-8")
        return
    for i, row in enumerate(rows):
        yield Record(number + i, -1, -1, row)


def _parquet_error(error: Exception, rows: int) -> tuple[str, str]:
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "magic bytes" in said or "footer" in said.lower():
        return "truncated", "it has no Parquet footer, so it was not written to its end"
    return "damaged-record", f"it cannot be read beyond row {rows}: {said}"
