"""A tokenized dataset on disk: one folder, written whole or not at all, memory-mapped when read.

| file | holds |
|---|---|
| tokens.bin | every document's tokens one after another: uint16 where the vocabulary fits, else uint32 |
| offsets.bin | where each document begins, and the end of the last: int64, documents + 1 |
| trained.bin | one byte a token, 1 where it is to be learned; absent where that is every token but each first |
| column-NAME.bin | numbers of each document beside its tokens, such as its label: int64 or float32, documents x width |
| index.json | counts, dtype, vocabulary size, columns, group and whatever the writer noted |
| checksums.json | SHA-256 of each of them |

All numbers are little-endian.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DamagedError, DataError, ModelError
from ..files import CHECKSUMS, new_folder, read_json, sha256_file, write_json

FORMAT = 1
INDEX, TOKENS, OFFSETS, TRAINED = "index.json", "tokens.bin", "offsets.bin", "trained.bin"

# Bytes, flags or places written at once.
BLOCK = 2**20


def column_file(name: str) -> str:
    """The file that holds a column."""
    return f"column-{name}.bin"


class ShardWriter:
    """Writes a tokenized dataset, a document at a time and in constant memory; used as a context manager.

    The folder appears when the block ends well. ``info`` may be filled until then and is kept in index.json.

    Args:
        folder: where the dataset goes; one that stands there is replaced.
        vocab_size: one more than the largest id.
        info: whatever should be known of the dataset: its source, the tokenizer's fingerprint, counts.
        columns: numbers that each document brings along: their name, dtype ("int64" or "float32") and how many.
        group: how many documents in a row belong together and are never parted, such as an answer and a worse one.
        may_be_empty: whether a dataset without documents is one, as a piece of another may be.

    Raises:
        DataError: no document was added.
        StorageError: the disk is full or may not be written to.
    """

    def __init__(
        self,
        folder: Path,
        vocab_size: int,
        info: Mapping[str, Any] | None = None,
        *,
        columns: Mapping[str, tuple[str, int]] | None = None,
        group: int = 1,
        may_be_empty: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.vocab_size = vocab_size
        self.info: dict[str, Any] = dict(info or {})
        self.documents = 0
        self.tokens = 0
        self.columns = {
            name: (np.dtype(kind).newbyteorder("<"), width) for name, (kind, width) in (columns or {}).items()
        }
        self.group = group
        self._column_files: dict[str, Any] = {}
        self._may_be_empty = may_be_empty
        self._dtype = np.dtype("<u2" if vocab_size <= 2**16 else "<u4")
        self._trained: Any = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> ShardWriter:
        self._partial = self._stack.enter_context(new_folder(self.folder))
        self._tokens = self._open(TOKENS)
        self._offsets = self._open(OFFSETS)
        self._offsets.write(np.zeros(1, "<i8").tobytes())
        self._column_files = {name: self._open(column_file(name)) for name in self.columns}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                self._finish()
            except BaseException as failure:
                # Handed to the folder's own context, so that the unfinished folder is removed.
                self._stack.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)

    def add(
        self,
        ids: Sequence[int] | NDArray[Any],
        trained: Sequence[bool] | NDArray[np.bool_] | None = None,
        **columns: Sequence[float] | float,
    ) -> None:
        """Adds a document.

        Args:
            ids: its tokens; a document without any is left out.
            trained: for each token, whether it is to be learned; None is all. The first never is: nothing precedes it.
            columns: the numbers of each column.

        Raises:
            ModelError: an id is not in the vocabulary.
        """
        tokens = np.asarray(ids, dtype=np.int64)
        flags = None if trained is None else np.asarray(trained, dtype=bool)
        rows = {name: np.asarray(values).reshape(1, -1) for name, values in columns.items()}
        self.add_many(tokens, np.array([0, len(tokens)]), flags, rows)

    def add_many(
        self,
        ids: NDArray[Any],
        offsets: NDArray[np.int64],
        trained: NDArray[np.bool_] | None = None,
        columns: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """Adds documents that stand one after another, each as ``add`` would.

        Args:
            ids: [tokens] the tokens of all, of any integer type.
            offsets: [documents + 1] where each begins, and the end of the last: 0 to the number of tokens.
            trained: [tokens] as in ``add``.
            columns: [documents, width] of each.

        Raises:
            ModelError: an id is not in the vocabulary.
        """
        assert set(columns or {}) == set(self.columns), "every column has its numbers"
        assert offsets[0] == 0 and offsets[-1] == len(ids), "the offsets span the ids"
        assert trained is None or len(trained) == len(ids), "one flag a token"
        if len(ids) == 0:
            return
        if ids.min() < 0 or ids.max() >= self.vocab_size:
            wrong = ids[(ids < 0) | (ids >= self.vocab_size)][0]
            raise ModelError(f"token {wrong} is not in a vocabulary of {self.vocab_size:,}", where=str(self.folder))
        ends = offsets[1:][np.diff(offsets) > 0].astype("<i8")
        self._add_flags(len(ids), np.append(0, ends[:-1]), trained)
        self._tokens.write(np.ascontiguousarray(ids, self._dtype).data)
        self._offsets.write((ends + self.tokens).data)
        for name, values in (columns or {}).items():
            dtype, width = self.columns[name]
            assert values.shape == (len(offsets) - 1, width), f"the column '{name}' has {width} numbers a document"
            self._column_files[name].write(np.ascontiguousarray(values[np.diff(offsets) > 0], dtype).data)
        self.tokens += len(ids)
        self.documents += len(ends)

    def add_dataset(self, dataset: TokenDataset) -> None:
        """Adds every document of a dataset by copying its files, in constant memory.

        Raises:
            DataError: it has another vocabulary.
        """
        if (dataset.vocab_size, dataset.dtype) != (self.vocab_size, self._dtype):
            raise DataError(
                f"this dataset's vocabulary has {dataset.vocab_size:,} ids, and the others' {self.vocab_size:,}",
                where=str(dataset.folder),
                hint="only datasets of one tokenizer can be joined",
            )
        if not dataset.all_trained and self._trained is None:
            self._begin_trained()
        names = {TOKENS: self._tokens} | ({} if dataset.all_trained else {TRAINED: self._trained})
        for name, file in names.items():
            with (dataset.folder / name).open("rb") as part:
                shutil.copyfileobj(part, file, BLOCK)
        if dataset.all_trained and self._trained is not None:
            self._write_flags(dataset.total_tokens, dataset.offsets[:-1] + self.tokens)
        for start in range(1, len(dataset) + 1, BLOCK):
            self._offsets.write((dataset.offsets[start : start + BLOCK] + self.tokens).data)
        self.tokens += dataset.total_tokens
        self.documents += len(dataset)

    def _add_flags(self, tokens: int, starts: NDArray[np.int64], trained: NDArray[np.bool_] | None) -> None:
        """Writes which of the next tokens are trained, if trained.bin is there or is needed from now on."""
        if trained is None and self._trained is None:
            return
        flags = np.ones(tokens, bool) if trained is None else trained.copy()
        flags[starts] = True
        if self._trained is None and not flags.all():
            self._begin_trained()
        if self._trained is not None:
            flags[starts] = False
            self._trained.write(flags.data)

    def _open(self, name: str) -> Any:
        return self._stack.enter_context((self._partial / name).open("w+b"))

    def _begin_trained(self) -> None:
        """Writes the flags of the documents so far, which were all trained but for their first tokens."""
        self._trained = self._open(TRAINED)
        self._offsets.flush()
        starts = np.memmap(self._partial / OFFSETS, "<i8", "r")[:-1]
        self._write_flags(self.tokens, starts)

    def _write_flags(self, tokens: int, starts: NDArray[np.int64]) -> None:
        """Writes flags of documents whose tokens are all trained but those at ``starts``, places in the whole file."""
        for start in range(0, tokens, BLOCK):
            self._trained.write(b"\1" * min(BLOCK, tokens - start))
        self._trained.flush()
        if len(starts):
            flags = np.memmap(self._partial / TRAINED, np.uint8, "r+")
            flags[starts] = 0
            flags.flush()

    def _finish(self) -> None:
        if not self.documents and not self._may_be_empty:
            where = ", ".join(map(str, self.info.get("source", []))) or str(self.folder)
            raise DataError("there is nothing to train on: no document has a token", where=where)
        assert self.documents % self.group == 0, "the last group is whole"
        for file in (self._tokens, self._offsets, self._trained, *self._column_files.values()):
            if file is not None:
                file.close()
        index = {
            "format": FORMAT,
            "documents": self.documents,
            "tokens": self.tokens,
            "dtype": self._dtype.name,
            "vocab_size": self.vocab_size,
            "all_trained": self._trained is None,
            "columns": {name: [dtype.name, width] for name, (dtype, width) in self.columns.items()},
            "group": self.group,
            "info": self.info,
        }
        write_json(self._partial / INDEX, index)


class TokenDataset:
    """A tokenized dataset, memory-mapped.

    Attributes:
        lengths: tokens of each document: [documents] int64.
        offsets: where each document begins, and the end of the last: [documents + 1] int64.
        total_tokens: tokens of all.
        vocab_size: one more than the largest id there may be.
        dtype: of the tokens on disk.
        all_trained: whether every token is to be learned but each document's first.
        columns: numbers of each document by their name: [documents, width].
        group: how many documents in a row belong together.
        info: what the writer noted.

    Raises:
        DataError: the folder holds no tokenized dataset.
        DamagedError: a file is missing, or not as long as the index says.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        index = self._read_index()
        self.info: dict[str, Any] = index["info"]
        self.vocab_size: int = index["vocab_size"]
        self.total_tokens: int = index["tokens"]
        documents: int = index["documents"]
        self.dtype = np.dtype(index["dtype"]).newbyteorder("<")
        self.all_trained: bool = index["all_trained"]
        self._tokens = self._map(TOKENS, self.dtype, self.total_tokens)
        self.offsets: NDArray[np.int64] = self._map(OFFSETS, np.dtype("<i8"), documents + 1)
        self._trained = None if self.all_trained else self._map(TRAINED, np.dtype(np.uint8), self.total_tokens)
        self.columns = {
            name: self._map(column_file(name), np.dtype(kind).newbyteorder("<"), documents * width).reshape(-1, width)
            for name, (kind, width) in index.get("columns", {}).items()
        }
        self.group: int = index.get("group", 1)
        self.lengths: NDArray[np.int64] = np.diff(self.offsets).astype(np.int64)
        rising = bool((self.lengths > 0).all())
        if self.offsets[0] != 0 or self.offsets[-1] != self.total_tokens or not rising:
            raise DamagedError(
                "this file is damaged: its places do not rise to the count of tokens", where=self._place(OFFSETS)
            )

    def __len__(self) -> int:
        return len(self.lengths)

    def document(self, i: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """A document's tokens, and for each whether it is to be learned; the first never is."""
        return self.read(i, 0, int(self.lengths[i]))

    def read(self, i: int, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The tokens from ``start`` to ``end`` (not included) of a document, and whether each is to be learned."""
        first = int(self.offsets[i])
        tokens = self._tokens[first + start : first + end].astype(np.int64)
        if self._trained is not None:
            return tokens, self._trained[first + start : first + end].astype(bool)
        flags = np.ones(len(tokens), dtype=bool)
        if start == 0:
            flags[:1] = False
        return tokens, flags

    def rows(self, first: int, last: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """The tokens of the documents from ``first`` to ``last`` (not included), one after another, and where each begins.

        The offsets are [documents + 1], from 0 to the number of tokens.
        """
        offsets = self.offsets[first : last + 1]
        return self._tokens[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.int64)

    def trained_targets(self, documents: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many tokens each piece of a dataset learns to predict.

        Args:
            documents, starts: the document of each piece and where in it the piece begins; all the pieces of the
                dataset, in order, each ending where the next begins: [pieces].

        Returns:
            [pieces]. A piece predicts the tokens after its first, and the one after its last.
        """
        first_targets = self.offsets[documents] + starts + 1
        ends = np.append(first_targets[1:], self.total_tokens + 1)
        if self._trained is None:
            # The token after a document's last is the first of another document, which is not learned.
            last_of_document = np.append(documents[1:] != documents[:-1], True)
            return (ends - first_targets - last_of_document - (self.group - 1)).astype(np.int64)
        counts = np.zeros(len(documents), dtype=np.int64)
        inside = first_targets < self.total_tokens
        if inside.any():
            counts[inside] = np.add.reduceat(self._trained, first_targets[inside], dtype=np.int64)
        return counts

    def check_trainable(self, fingerprint: str) -> None:
        """Checks that a model with this tokenizer, known by its fingerprint, can learn from it.

        Raises:
            DataError: the writer noted another tokenizer, or there is no document.
        """
        if self.info.get("tokenizer") != fingerprint:
            raise DataError(
                "this dataset was made with another tokenizer",
                where=str(self.folder),
                hint="tokenize the text again, or name the tokenizer the dataset was made with",
            )
        if not len(self):
            raise DataError("this dataset has no document", where=str(self.folder))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokens, where documents begin, what is trained and columns; not of where they came from."""
        sums = self._sums()
        names = (TOKENS, OFFSETS, TRAINED, *map(column_file, sorted(self.columns)))
        parts = [f"{name} {sums[name]}" for name in names if name in sums]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def verify(self) -> None:
        """Reads everything and compares it with the checksums.

        Raises:
            DamagedError: names the first file that differs.
        """
        for name, digest in self._sums().items():
            if not (self.folder / name).is_file() or sha256_file(self.folder / name) != digest:
                raise DamagedError(
                    "this file is damaged: its checksum differs from the one saved with it", where=self._place(name)
                )

    def _sums(self) -> dict[str, str]:
        try:
            return read_json(self.folder / CHECKSUMS)
        except DataError:
            raise DamagedError("this file is missing or damaged", where=self._place(CHECKSUMS)) from None

    def _place(self, name: str) -> str:
        return str(self.folder / name)

    def _read_index(self) -> dict[str, Any]:
        if not (self.folder / INDEX).is_file():
            raise DataError("this folder holds no tokenized dataset", where=str(self.folder), hint=f"it has no {INDEX}")
        try:
            index = read_json(self.folder / INDEX)
            known = index["format"] == FORMAT
            fields = [index[key] for key in ("documents", "tokens", "dtype", "vocab_size", "all_trained", "info")]
        except (DataError, KeyError, TypeError):
            raise DamagedError("this file is damaged", where=self._place(INDEX)) from None
        if not known:
            raise DataError(
                f"the format {index['format']} is not known", where=self._place(INDEX), hint="tokenize it again"
            )
        assert len(fields) == 6
        return index

    def _map(self, name: str, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
        path = self.folder / name
        if not path.is_file():
            raise DamagedError("this file is missing", where=str(path))
        size, expected = path.stat().st_size, count * dtype.itemsize
        if size != expected:
            raise DamagedError(f"this file is damaged: it has {size:,} bytes, not {expected:,}", where=str(path))
        if not count:
            # An empty file cannot be mapped.
            return np.zeros(0, dtype)
        # A plain view: slicing a memmap object costs several times as much.
        return np.memmap(path, dtype, "r").view(np.ndarray)
