"""The fingerprints of all shards, mapped into memory: documents are numbered through, in the order of the shards."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import DamagedError, MissingExtra
from ..words import Hashes, Integers, mix
from .fingerprint import schema
from .options import DuplicateOptions, bands_of

if TYPE_CHECKING:
    import pyarrow as pa

# Each mapped file holds a file handle, of which a process usually has 1,024.
_OPEN = 200


class Fingerprints:
    """Random access to the fingerprints of documents.

    Only what is asked for comes into memory, apart from the number of documents of each batch; the operating system
    keeps and drops the pages behind.

    Args:
        shards: Arrow files of the batches that ``fingerprint`` gives; they stay as they are while this lives.
        options: those with which they were made.

    Raises:
        DamagedError: a file is not such an Arrow file, or was made with other options.
    """

    def __init__(self, shards: Sequence[Path], options: DuplicateOptions) -> None:
        self.options = options
        self._paths = [Path(shard) for shard in shards]
        self._open: OrderedDict[int, list[pa.RecordBatch]] = OrderedDict()
        # (shard, batch) of each piece, and the number of its first document.
        self._pieces: list[tuple[int, int]] = []
        starts = [0]
        for shard in range(len(self._paths)):
            for number, batch in enumerate(self._batches(shard)):
                self._pieces.append((shard, number))
                starts.append(starts[-1] + batch.num_rows)
        self._starts = np.array(starts, np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def hashes(self, name: str) -> Hashes:
        """The 128-bit column ``exact`` or ``set``: uint64[documents, 2]."""
        return self._gather(_pairs_of(batch.column(name)) for batch in self._all())

    def sizes(self) -> Integers:
        """How many n-grams each document has: int64[documents]."""
        parts = [np.diff(_offsets_of(batch.column("shingles"))) for batch in self._all()]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def band(self, number: int, documents: Integers) -> Hashes:
        """One band of the signatures of some documents, hashed: uint64[k].

        Args:
            number: of the band.
            documents: int64[k], rising.
        """
        assert self.options.near is not None
        _, rows = bands_of(self.options.near, self.options.permutations)
        hashes = np.empty(len(documents), np.uint64)
        for batch, places, part in self._parts(documents):
            values = self._signatures_of(batch)[:, number * rows : (number + 1) * rows][places]
            hashed = np.zeros(len(values), np.uint64)
            for row in range(rows):
                hashed = mix(hashed + values[:, row])
            hashes[part] = hashed
        return hashes

    def signatures(self, documents: Integers) -> NDArray[np.uint32]:
        """The signatures of some documents, numbers rising: uint32[k, permutations]."""
        found = np.empty((len(documents), self.options.permutations), np.uint32)
        for batch, places, part in self._parts(documents):
            found[part] = self._signatures_of(batch)[places]
        return found

    def shingles(self, documents: Integers) -> tuple[Hashes, Integers]:
        """The n-grams of some documents, numbers rising: rising hashes uint64[n], and offsets int64[k + 1]."""
        runs: list[Hashes] = []
        for batch, places, _ in self._parts(documents):
            column = batch.column("shingles")
            offsets, values = _offsets_of(column), _values_of(column)
            begins, ends = offsets[places].tolist(), offsets[places + 1].tolist()
            runs += [values[begin:end] for begin, end in zip(begins, ends, strict=True)]
        sizes = np.fromiter(map(len, runs), np.int64, len(runs))
        hashes = np.concatenate([np.zeros(0, np.uint64), *runs])
        return hashes, np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])

    def paragraphs(self) -> Iterator[tuple[Hashes, Integers, Integers, Integers]]:
        """The paragraphs of each batch: hash, start and end in characters, and the document's number."""
        for first, batch in zip(self._starts.tolist(), self._all()):
            offsets = _offsets_of(batch.column("paragraphs"))
            documents = np.repeat(np.arange(first, first + batch.num_rows), np.diff(offsets))
            used = slice(int(offsets[0]), int(offsets[-1]))
            columns = [_values_of(batch.column(name))[used] for name in ("paragraphs", "starts", "ends")]
            yield columns[0], columns[1], columns[2], documents

    def _gather(self, parts: Iterator[Hashes]) -> Hashes:
        return np.concatenate([np.zeros((0, 2), np.uint64), *parts])

    def _all(self) -> Iterator[pa.RecordBatch]:
        for shard in range(len(self._paths)):
            yield from self._batches(shard)

    def _parts(self, documents: Integers) -> Iterator[tuple[pa.RecordBatch, Integers, slice]]:
        """The batches that hold some documents, with their rows and their part of ``documents``."""
        bounds = np.searchsorted(documents, self._starts)
        for piece in np.flatnonzero(np.diff(bounds)).tolist():
            shard, number = self._pieces[piece]
            part = slice(int(bounds[piece]), int(bounds[piece + 1]))
            yield self._batches(shard)[number], documents[part] - self._starts[piece], part

    def _signatures_of(self, batch: pa.RecordBatch) -> NDArray[np.uint32]:
        column = batch.column("signature")
        length = self.options.permutations
        values = np.frombuffer(column.values.buffers()[1], np.uint32)
        begin = (column.values.offset // length + column.offset) * length
        return values[begin : begin + len(column) * length].reshape(-1, length)

    def _batches(self, shard: int) -> list[pa.RecordBatch]:
        batches = self._open.get(shard)
        if batches is not None:
            self._open.move_to_end(shard)
            return batches
        batches = _map_file(self._paths[shard], self.options)
        self._open[shard] = batches
        if len(self._open) > _OPEN:
            # Arrays that still look into its memory keep it mapped.
            self._open.popitem(last=False)
        return batches


def _map_file(path: Path, options: DuplicateOptions) -> list[pa.RecordBatch]:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtra("removing duplicates", "data") from None
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        batches = [file.get_batch(number) for number in range(file.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
        raise DamagedError("these fingerprints cannot be read", where=str(path)) from error
    if not file.schema.equals(schema(options)):
        raise DamagedError("these fingerprints were made with other options", where=str(path))
    return batches


def _pairs_of(column: pa.Array) -> Hashes:
    values = np.frombuffer(column.buffers()[1], np.uint64).reshape(-1, 2)
    return values[column.offset : column.offset + len(column)]


def _offsets_of(column: pa.Array) -> Integers:
    return np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]


def _values_of(column: pa.Array) -> NDArray:
    return column.values.to_numpy(zero_copy_only=True)
