"""Texts with labels as a tokenized dataset: each document with its label beside its tokens.

| problem | the dataset's column "label" holds |
|---|---|
| single | int64 [1], the class |
| multi | float32 [classes], 1 for each that it has |
| regression | float32 [numbers] |

Where the model tells two texts apart, the column "second" holds the place of the second text's first token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.read import list_files
from ..errors import DataError, nearest
from .cached import cache_key, find_cached
from .flat import Rows, offsets_of
from .frame import Frame, frame_of, heads
from .labels import Labelled, LabelledFormat, read_labelled, taken_columns
from .prepare import PreparedData
from .shards import ShardWriter
from .tokenizer import Tokenizer

# Raised whenever the same files would give other datasets than before.
VERSION = 2
KIND = "label"

# Characters tokenized at once.
_BATCH = 4 * 2**20


@dataclass(frozen=True)
class Preparing:
    """How labelled texts become documents.

    Attributes:
        tokenizer: whose tokens.
        format: which columns hold what.
        labels: the classes, in the model's order.
        causal: whether the model is a decoder.
        length: the longest document, in tokens.
        too_long: what happens to a longer one: "refuse", "drop" or "cut", which keeps its beginning.
        split: keeps where a second text begins, for models that tell the two apart.
    """

    tokenizer: Tokenizer
    format: LabelledFormat
    labels: tuple[str, ...]
    causal: bool
    length: int
    too_long: str = "refuse"
    split: bool = False


def tokenize_labelled(
    path: Path, preparing: Preparing, *, cache_folder: Path, progress: Callable[[int], None] | None = None
) -> PreparedData:
    """Tokenizes labelled texts, or finds them tokenized.

    The dataset's info has "labels", "problem", and as "truncated" how many "documents" and "tokens" were cut.

    Args:
        path: a file or folder.
        preparing: how.
        cache_folder: where tokenized datasets are kept.
        progress: called with the number of rows read so far.

    Raises:
        DataError: with file and line: a label that is no class, a text that is too long, and as ``read_labelled``.
    """
    p = preparing
    pair = taken_columns([path], p.format).pair is not None
    frame = frame_of(p.tokenizer, pair=pair, causal=p.causal)
    settings = [asdict(p.format), asdict(frame), p.labels, p.length, p.too_long, p.split]
    key = cache_key(list_files([path], "chat"), [VERSION, KIND, p.tokenizer.fingerprint, settings])
    folder = Path(cache_folder) / key
    if found := find_cached(folder):
        return found
    width = 1 if p.format.problem == "single" else len(p.labels)
    columns: dict[str, tuple[str, int]] = {"label": ("int64" if p.format.problem == "single" else "float32", width)}
    if p.split:
        columns["second"] = ("int64", 1)
    info = {"tokenizer": p.tokenizer.fingerprint, "source": [str(path)], "kind": KIND}
    info |= {"labels": list(p.labels), "problem": p.format.problem}
    while True:
        mistrusted = p.tokenizer.mistrusted
        with ShardWriter(folder, p.tokenizer.vocab_size, info, columns=columns) as writer:
            work = _Work(p, frame)
            _write(writer, work, path, progress)
        # Where the fast library was found to err, it may have done so before: once more, then, without it.
        if p.tokenizer.mistrusted == mistrusted:
            return PreparedData(folder, writer.documents, writer.tokens, writer.tokens, work.dropped)


def _write(writer: ShardWriter, work: _Work, path: Path, progress: Callable[[int], None] | None) -> None:
    read = 0
    for rows in _batches(read_labelled([path], work.preparing.format)):
        work.add(writer, rows)
        read += len(rows)
        if progress is not None:
            progress(read)
    if not writer.documents:
        what = f"nothing is left to train on: every text is longer than {work.preparing.length:,} tokens"
        raise DataError(what, where=str(path), hint="raise data.length, or set data.too_long to cut")
    writer.info |= {"trained": writer.tokens, "dropped": work.dropped, "truncated": work.truncated}


@dataclass
class _Work:
    """Turns rows into documents, and counts what was dropped and cut."""

    preparing: Preparing
    frame: Frame
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=lambda: {"documents": 0, "tokens": 0})

    def add(self, writer: ShardWriter, rows: Sequence[Labelled]) -> None:
        """Tokenizes a batch of rows and writes those that fit."""
        values = self._values(rows)
        pair = rows[0].pair is not None
        if odd := [row for row in rows if (row.pair is not None) != pair]:
            raise DataError("some files have one text a row and some two", where=odd[0].where, hint="train on either")
        encode = self.preparing.tokenizer.encode_flat
        first = encode([row.text for row in rows])
        second = encode([row.pair or "" for row in rows]) if pair else None
        limit = self.preparing.length - len(self.frame)
        sizes = np.diff(first[1]) + (0 if second is None else np.diff(second[1]))
        self._check_tokens(rows, sizes, limit)
        kept = np.ones(len(rows), bool)
        if (over := sizes > limit).any():
            if self.preparing.too_long == "cut":
                first, second = self._cut(first, second, limit)
                self.truncated["documents"] += int(over.sum())
                self.truncated["tokens"] += int((sizes - limit)[over].sum())
            else:
                kept = ~over
                self._leave_out(rows, sizes + len(self.frame), over)
        (ids, offsets), begins = self.frame.rows(first, second)
        lengths = np.diff(offsets)
        begins = begins if self.frame.segments else lengths
        columns = {"label": values[kept]} | ({"second": begins[kept, None]} if self.preparing.split else {})
        writer.add_many(ids[np.repeat(kept, lengths)], offsets_of(lengths[kept]), None, columns)

    def _values(self, rows: Sequence[Labelled]) -> NDArray[Any]:
        """The column "label": [rows, width]."""
        p = self.preparing
        if p.format.problem == "regression":
            return np.array([row.numbers for row in rows], np.float32)
        places = {label: place for place, label in enumerate(p.labels)}
        for row in rows:
            if strange := [label for label in row.labels if label not in places]:
                hint = f"{nearest(strange[0], p.labels).rstrip('?')}; add it to objective.labels if it is meant"
                raise DataError(f"the label '{strange[0]}' is not one of the classes", where=row.where, hint=hint)
        if p.format.problem == "single":
            return np.array([[places[row.labels[0]]] for row in rows], np.int64)
        values = np.zeros((len(rows), len(p.labels)), np.float32)
        for number, row in enumerate(rows):
            values[number, [places[label] for label in row.labels]] = 1
        return values

    def _check_tokens(self, rows: Sequence[Labelled], sizes: NDArray[np.int64], limit: int) -> None:
        if (sizes == 0).any():
            raise DataError("the tokenizer finds no token in this text", where=rows[int(sizes.argmin())].where)
        if limit < 1:
            raise DataError(
                f"a length of {self.preparing.length} leaves no room beside {len(self.frame)} special tokens",
                where=rows[0].where,
                hint="raise data.length",
            )

    def _cut(self, first: Rows, second: Rows | None, limit: int) -> tuple[Rows, Rows | None]:
        """The beginnings that fit; of two texts the longer one gives way, and then both."""
        if second is None:
            return heads(first, np.full(len(first[1]) - 1, limit)), None
        a, b = np.diff(first[1]), np.diff(second[1])
        room_a = np.maximum(limit - b, limit - limit // 2)
        return heads(first, room_a), heads(second, limit - np.minimum(a, room_a))

    def _leave_out(self, rows: Sequence[Labelled], lengths: NDArray[np.int64], over: NDArray[np.bool_]) -> None:
        length = self.preparing.length
        if self.preparing.too_long != "drop":
            place = int(np.flatnonzero(over)[0])
            raise DataError(
                f"this text has {lengths[place]:,} tokens, more than the {length:,} of data.length",
                where=rows[place].where,
                hint="raise data.length, or set data.too_long to drop or cut",
            )
        count = self.dropped.setdefault(f"longer than {length} tokens", {"documents": 0, "tokens": 0})
        count["documents"] += int(over.sum())
        count["tokens"] += int(lengths[over].sum())


def _batches(rows: Iterable[Labelled]) -> Iterator[list[Labelled]]:
    batch: list[Labelled] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.text) + len(row.pair or "")
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
