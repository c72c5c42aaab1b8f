"""Texts and what is to be made of them (translations, summaries, rewritings) as a tokenized dataset.

A row has two texts: in the columns that are named; or under the first of the usual pairs of names; or in the only two
columns there are, the source first. ``{"translation": {"de": ..., "en": ...}}`` is a row with a column a language. The
source and its target are a group of the dataset, the source first:

| document | its tokens | trained |
|---|---|---|
| source | the text, EOS | none |
| target | the start token, the text, EOS | all but the start |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..data.read import NESTED, TEXT_PAIRS, Row, list_files, read_rows
from ..errors import DataError, nearest
from .cached import cache_key, find_cached
from .labels import TEXTS, text_of
from .prepare import PreparedData
from .shards import ShardWriter
from .tokenizer import Tokenizer

# Raised whenever the same files would give other datasets than before.
VERSION = 1
KIND = "text pair"

# Characters tokenized at once.
_BATCH = 4 * 2**20


@dataclass(frozen=True)
class PairFormat:
    """Which columns, or keys, hold what.

    Attributes:
        source, target: their columns; None is a usual pair of names.
        columns: the names of the columns, for tables without a first line that names them.
    """

    source: str | None = None
    target: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextPair:
    """A text and what is to be made of it.

    Attributes:
        source, target: the texts.
        where: the file and the line.
    """

    source: str
    target: str
    where: str


@dataclass(frozen=True)
class Preparing:
    """How pairs become documents.

    Attributes:
        tokenizer: whose tokens.
        format: which columns hold what.
        start: the id that a target begins with.
        length: the longest document, in tokens: a source, or a target.
        too_long: what happens to a pair with a longer one: "refuse" or "drop".
    """

    tokenizer: Tokenizer
    format: PairFormat
    start: int
    length: int
    too_long: str = "refuse"


def read_text_pairs(paths: Iterable[str | Path], format: PairFormat) -> Iterator[TextPair]:
    """The pairs of files and folders.

    Raises:
        DataError: names the file and the line: no such column (with the nearest one), an empty text, and whatever
            ``read_rows`` raises.
    """
    for path in list_files(paths, "chat"):
        names = None
        for row in read_rows([path], format.columns) if format.columns else read_rows([path]):
            row = _flat(row)
            names = names or pair_columns(row, format)
            yield TextPair(text_of(row, names[0]), text_of(row, names[1]), row.where)


def read_sources(path: Path, column: str | None = None) -> Iterator[str]:
    """The texts of a file that something is to be made of.

    Args:
        path: JSON Lines, a JSON list or a table.
        column: where they are; None is a usual name, or the first column of at most two.

    Raises:
        DataError: as ``read_text_pairs``.
    """
    name = column
    for row in read_rows([path]):
        row = _flat(row)
        name = name or _source_column(row)
        yield text_of(row, name)


def _source_column(row: Row) -> str:
    found = [name for name in row.values if name]
    usual = (*dict.fromkeys(source for source, _ in TEXT_PAIRS), *TEXTS)
    name = next((name for name in usual if name in found), found[0] if 0 < len(found) <= 2 else None)
    if name is None:
        shown = ", ".join(f"'{name}'" for name in found) or "none"
        raise DataError("it is not clear which column holds the texts", where=row.where, hint=f"there are: {shown}")
    return name


def pair_columns(row: Row, format: PairFormat) -> tuple[str, str]:
    """The columns that hold the source and the target.

    Raises:
        DataError: there are none, with the nearest name.
    """
    found = [name for name in row.values if name]
    for name in (format.source, format.target):
        if name is not None and name not in found:
            raise DataError(f"there is no column '{name}'", where=row.where, hint=nearest(name, found))
    for source, target in TEXT_PAIRS:
        names = format.source or source, format.target or target
        if names[0] in found and names[1] in found and names[0] != names[1]:
            return names
    if len(found) == 2:
        first = format.source or next(name for name in found if name != format.target)
        return first, next(name for name in found if name != first)
    shown = ", ".join(f"'{name}'" for name in found) or "none"
    hint = f"set objective.source and objective.target to two of its columns: {shown}"
    raise DataError("it is not clear which columns hold the source and the target", where=row.where, hint=hint)


def _flat(row: Row) -> Row:
    """A row of a translation by language as one with a column a language."""
    nested = row.values.get(NESTED)
    return Row(nested, row.source, row.line) if isinstance(nested, Mapping) else row


def tokenize_text_pairs(
    path: Path, preparing: Preparing, *, cache_folder: Path, progress: Callable[[int], None] | None = None
) -> PreparedData:
    """Tokenizes pairs, or finds them tokenized.

    Args:
        path: a file or folder of JSON Lines, JSON lists or tables.
        preparing: how.
        cache_folder: where tokenized datasets are kept.
        progress: called with the number of rows read so far.

    Raises:
        DataError: with file and line: a text that is too long, and as ``read_text_pairs``; or nothing is left.
    """
    p = preparing
    settings = [asdict(p.format), p.start, p.length, p.too_long]
    key = cache_key(list_files([path], "chat"), [VERSION, KIND, p.tokenizer.fingerprint, settings])
    folder = Path(cache_folder) / key
    if found := find_cached(folder):
        return found
    info = {"tokenizer": p.tokenizer.fingerprint, "source": [str(path)], "kind": KIND, "start_token": p.start}
    while True:
        mistrusted = p.tokenizer.mistrusted
        work = _Work(p)
        # The start token may be one that the model has and the tokenizer has not.
        vocab_size = max(p.tokenizer.vocab_size, p.start + 1)
        with ShardWriter(folder, vocab_size, info, group=2) as writer:
            read = 0
            for batch in _batches(read_text_pairs([path], p.format)):
                work.add(writer, batch)
                read += len(batch)
                if progress is not None:
                    progress(read)
            if not writer.documents:
                what = f"nothing is left to train on: every pair has a text longer than {p.length:,} tokens"
                raise DataError(what, where=str(path), hint="raise data.length")
            writer.info |= {"trained": work.trained, "dropped": work.dropped}
        # Where the fast library was found to err, it may have done so before: once more, then, without it.
        if p.tokenizer.mistrusted == mistrusted:
            return PreparedData(folder, writer.documents, writer.tokens, work.trained, work.dropped)


@dataclass
class _Work:
    """Turns pairs into documents, and counts."""

    preparing: Preparing
    trained: int = 0
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, writer: ShardWriter, pairs: Sequence[TextPair]) -> None:
        """Tokenizes a batch of pairs and writes those that fit."""
        p = self.preparing
        end = p.tokenizer.eos_id
        assert end is not None, "the objective asked for it"
        ids, offsets = p.tokenizer.encode_flat([text for pair in pairs for text in (pair.source, pair.target)])
        for place, pair in enumerate(pairs):
            source, target = (ids[offsets[i] : offsets[i + 1]] for i in (2 * place, 2 * place + 1))
            if not len(source) or not len(target):
                raise DataError("the tokenizer finds no token in a text", where=pair.where)
            documents = np.append(source, end), np.concatenate(([p.start], target, [end]))
            if self._too_long(pair, max(map(len, documents)), sum(map(len, documents))):
                continue
            writer.add(documents[0], np.zeros(len(documents[0]), bool))
            writer.add(documents[1])
            self.trained += len(documents[1]) - 1

    def _too_long(self, pair: TextPair, longest: int, tokens: int) -> bool:
        length = self.preparing.length
        if longest <= length:
            return False
        if self.preparing.too_long == "refuse":
            raise DataError(
                f"a text of this pair has {longest:,} tokens, more than the {length:,} of data.length",
                where=pair.where,
                hint="raise data.length, or set data.too_long to drop",
            )
        count = self.dropped.setdefault(f"longer than {length} tokens", {"documents": 0, "tokens": 0})
        count["documents"] += 2
        count["tokens"] += tokens
        return True


def _batches(pairs: Iterable[TextPair]) -> Iterator[list[TextPair]]:
    batch: list[TextPair] = []
    size = 0
    for pair in pairs:
        batch.append(pair)
        size += len(pair.source) + len(pair.target)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
