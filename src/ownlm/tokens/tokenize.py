"""One shard's finished documents as tokens: a piece of every split, joined later."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.documents import TableWriter, read_groups
from ..data.finish import FINISHED
from ..data.read import Kind, Record
from ..data.stages import TABLE
from ..data.store import Store, key_of
from ..data.workers import Beat
from ..files import write_json
from .prepare import VERSION, Preparation
from .shards import ShardWriter
from .tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    import pyarrow as pa

TOKENS = "tokens"
COUNTS = "counts.json"
# Raised when the files of a shard's tokens change.
FORMAT = 2


@dataclass(frozen=True)
class TokenWork:
    """What a worker process gets to tokenize one shard.

    Attributes:
        store: the folder of finished results.
        finished: the key of the shard's finished table.
        tokenizer: its folder.
        fingerprint: the tokenizer's.
        kind: "text" or "chat".
        max_length: the longest conversation, in tokens; None for any.
    """

    store: Path
    finished: str
    tokenizer: Path
    fingerprint: str
    kind: Kind
    max_length: int | None

    @property
    def key(self) -> str:
        """The key of the shard's tokens."""
        return key_of(TOKENS, FORMAT, VERSION, self.finished, self.fingerprint, self.kind, self.max_length)

    @property
    def folder(self) -> Path:
        """Where they are: a folder of each split that has documents, and the counts."""
        return Store(self.store).path(TOKENS, self.key)


def tokenize_shard(work: TokenWork, lost: dict[int, str], beat: Beat) -> bool:
    """Writes the tokens of a shard's kept documents.

    A conversation that the tokenizer's template refuses, or that is too long, is dropped with that reason: then the
    documents table is written once more, beside the tokens.

    Returns:
        whether the fast library was found to err meanwhile: then shards it worked on before must be done again.
    """
    store = Store(work.store)
    table = store.path(FINISHED, work.finished) / TABLE
    tokenizer = _tokenizer(work.tokenizer)
    before = tokenizer.mistrusted
    with store.new(TOKENS, work.key) as folder:
        dropped: dict[int, str] = {}
        counts: dict[str, dict[str, int]] = {}
        columns = [group.column("split").to_pylist() for group in read_groups(table, ["split"])]
        for split in sorted({split for column in columns for split in column if split}):
            written = _write_split(work, tokenizer, table, split, folder / split)
            dropped |= {record.line: f"tokens/{reason}" for record, reason in written.pop("left_out")}
            counts[split] = written
        if dropped:
            _write_without(table, folder / TABLE, dropped)
        reasons = Counter(dropped.values())
        late = _about(table, dropped)
        write_json(folder / COUNTS, {"splits": counts, "dropped": dict(sorted(reasons.items())), "late": late})
    return tokenizer.mistrusted and not before


def _write_split(work: TokenWork, tokenizer: Tokenizer, table: Path, split: str, folder: Path) -> dict[str, Any]:
    """Writes a split's tokens; counts the documents of the table that are kept, the tokens, and those trained."""
    length, too_long = work.max_length or 2**62, "drop" if work.kind == "chat" else "split"
    preparation = Preparation(tokenizer, work.kind, length, too_long, going_on=True)  # type: ignore[arg-type]
    info = {"tokenizer": tokenizer.fingerprint, "kind": work.kind}
    read = 0
    with ShardWriter(folder, tokenizer.vocab_size, info, may_be_empty=True) as writer:
        for records in _records(table, split, work.kind):
            preparation.add(writer, records)
            read += len(records)
    left_out = preparation.left_out
    kept = read - len(left_out)
    return {"kept": kept, "tokens": writer.tokens, "trained": preparation.trained, "left_out": left_out}


def _about(table: Path, dropped: dict[int, str]) -> dict[str, dict[str, int]]:
    """What was counted as kept of documents that tokenizing dropped: characters and bytes by split, languages, and
    lengths as the finished table's summary bins them."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("characters", "bytes", "languages", "lengths")}
    first = 0
    for group in read_groups(table, ["text", "split", "language", "words"]) if dropped else ():
        rows = group.take([number - first for number in dropped if first <= number < first + group.num_rows])
        for row in rows.to_pylist():
            counts["characters"][row["split"]] += len(row["text"])
            counts["bytes"][row["split"]] += len(row["text"].encode())
            counts["languages"][row["language"]] += 1
            counts["lengths"][str(int(row["words"]).bit_length())] += 1
        first += group.num_rows
    return {name: dict(sorted(counter.items())) for name, counter in counts.items()}


def texts_of(table: Path, split: str) -> Iterator[str]:
    """The kept texts of a finished table's split, for training a tokenizer."""
    for group in read_groups(table, ["text", "split"]):
        chosen = zip(group.column("text").to_pylist(), group.column("split").to_pylist(), strict=True)
        yield from (text for text, its_split in chosen if its_split == split)


def _records(table: Path, split: str, kind: Kind) -> Iterator[list[Record]]:
    """A split's documents, a row group at a time; a record's line is its row in the table."""
    first = 0
    for group in read_groups(table, ["text", "messages", "split", "file"]):
        rows = enumerate(group.to_pylist(), first)
        yield [_record(number, row, kind) for number, row in rows if row["split"] == split]
        first += group.num_rows


def _record(number: int, row: dict[str, Any], kind: Kind) -> Record:
    messages = json.loads(row["messages"]) if kind == "chat" else None
    return Record(None if messages else row["text"], messages, row["file"], number)


def _write_without(table: Path, path: Path, dropped: dict[int, str]) -> None:
    """The documents table, with the documents that tokenizing dropped."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with TableWriter(path, pq.read_schema(table)) as writer:
        first = 0
        for group in read_groups(table):
            writer.add_table(_dropped(group, first, dropped, pa))
            first += group.num_rows


def _dropped(group: pa.Table, first: int, dropped: dict[int, str], arrow: Any) -> pa.Table:
    gone = [number in dropped for number in range(first, first + group.num_rows)]
    for name in ("text", "messages", "split"):
        values = [None if out else value for out, value in zip(gone, group.column(name).to_pylist(), strict=True)]
        group = group.set_column(
            group.schema.get_field_index(name),
            group.schema.field(name),
            arrow.array(values, group.schema.field(name).type),
        )
    reasons = [dropped.get(number, reason) for number, reason in enumerate(group.column("reason").to_pylist(), first)]
    return group.set_column(group.schema.get_field_index("reason"), "reason", arrow.array(reasons, arrow.string()))


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> Tokenizer:
    """A worker's tokenizer, read once."""
    return load_tokenizer(folder)
