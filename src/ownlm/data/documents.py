"""The documents table: one row a document, in Arrow, from extraction to the finished data set.

Extraction writes ``TEXT``: what was read and where it came from. The finished table, ``documents`` in the built folder,
has these columns, then every signal, then what was decided: duplicate cluster, split, and the reason where a document
was dropped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingExtra

if TYPE_CHECKING:
    import pyarrow as pa

# Bytes of text in one row group: what a stage holds in memory at once.
GROUP_BYTES = 4 * 2**20

# Column, Arrow type, what it holds.
TEXT = (
    ("id", "string", "content hash: BLAKE2b-128 of the text, in hexadecimal"),
    ("text", "large_string", "the document; for a conversation, its messages' contents with an empty line between"),
    ("messages", "large_string", "a conversation's messages as JSON, else null"),
    ("turns", "int64", "a conversation's messages; 0 for any other document"),
    ("source", "string", "the recipe's source"),
    ("file", "string", "the file inside the source; members of archives after '!'"),
    ("begin", "int64", "where the record begins in that file, in bytes; -1 where unknown"),
    ("end", "int64", "where it ends"),
    ("line", "int64", "its line, row or record number from 1; 0 where it has none"),
    ("title", "string", "a title, where the file has one"),
    ("url", "string", "its address, where known"),
    ("group", "string", "records of one group never cross splits"),
    ("metadata", "large_string", "whatever else was carried along, as JSON"),
)
DECIDED = (
    ("cluster", "string", "the smallest id among a document's near-duplicates; its own where it has none"),
    ("split", "string", "train, validation or test; null where dropped"),
    ("reason", "string", "why it was dropped; null where kept"),
)


def text_schema() -> pa.Schema:
    """The Arrow schema of an extracted shard."""
    pa = pyarrow()
    return pa.schema([pa.field(name, pa.type_for_alias(kind)) for name, kind, _ in TEXT])


def document_id(text: str, messages: str | None) -> str:
    """BLAKE2b-128 of the text, and of the messages where there are some, since roles matter too."""
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    if messages is not None:
        digest.update(b"\0" + messages.encode())
    return digest.hexdigest()


def join_messages(messages: Sequence[dict[str, Any]]) -> str:
    """A conversation's text: what its messages say, with an empty line between two."""
    return MESSAGE_BREAK.join(str(message.get("content") or "") for message in messages)


MESSAGE_BREAK = "\n\n"


def compact_json(value: Any) -> str:
    """A value as JSON on one line, the same for the same value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class TableWriter:
    """Writes rows into a Parquet file, a row group for every few megabytes of text.

    Args:
        path: the file.
        schema: its columns.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        import pyarrow.parquet as pq

        # Checksums of pages: a damaged table is noticed where it is read.
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, write_page_checksum=True)
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        self._size = 0
        self.rows = 0

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: dict[str, Any], size: int) -> None:
        """Adds one row of about ``size`` bytes."""
        self._rows.append(row)
        self._size += size
        self.rows += 1
        if self._size >= GROUP_BYTES:
            self._flush()

    def add_table(self, table: pa.Table) -> None:
        """Adds a whole row group."""
        self._writer.write_table(table.cast(self._schema), row_group_size=max(1, table.num_rows))
        self.rows += table.num_rows

    def _flush(self) -> None:
        if self._rows:
            pa = pyarrow()
            table = pa.Table.from_pylist(self._rows, self._schema)
            self._writer.write_table(table, row_group_size=len(self._rows))
            self._rows, self._size = [], 0


def read_groups(path: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """A Parquet file's row groups, one at a time."""
    pyarrow()
    import pyarrow.parquet as pq

    with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=None if columns is None else list(columns), use_threads=False)


def text_column(table: pa.Table, name: str = "text") -> pa.LargeStringArray:
    """A table's column of texts as one array, as the stages take it."""
    pa = pyarrow()
    column = table.column(name)
    return (
        column.chunk(0)
        if column.num_chunks == 1
        else pa.concat_arrays(column.chunks)
        if column.num_chunks
        else pa.array([], pa.large_string())
    )


def pyarrow() -> Any:
    """The Arrow library.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtra("preparing data", "data") from None
    return pa
