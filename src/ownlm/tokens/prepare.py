"""The user's files as a tokenized dataset: tokenized once, and kept by content.

The cache's key is the SHA-256 of the files, the tokenizer and the settings that matter, so an edited file or another
chat template is tokenized anew, and the same content under another name is not.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data.read import Kind, Record, list_files, read_records
from ..errors import ConfigError, DamagedError, DataError, ModelError, UserError
from ..files import sha256_file
from .chat import training_segments
from .shards import ShardWriter, TokenDataset
from .tokenizer import Tokenizer

TooLong = Literal["split", "drop", "refuse"]

# Raised whenever the same files would give other tokens than before.
VERSION = 1

# Characters tokenized at once: enough to use all cores, little enough to stay small in memory.
BATCH = 4 * 2**20
BLOCK = 2**18


@dataclass(frozen=True)
class PreparedData:
    """A tokenized dataset and what became of every document read.

    Attributes:
        folder: a TokenDataset's.
        documents: how many it holds.
        tokens: how many tokens these have.
        trained: how many of these tokens are to be learned.
        dropped: for each reason, how many "documents" and "tokens" were left out.
    """

    folder: Path
    documents: int
    tokens: int
    trained: int
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)


def tokenize_files(
    paths: Sequence[str | Path],
    tokenizer: Tokenizer,
    *,
    kind: Kind,
    length: int,
    cache_folder: Path,
    too_long: TooLong | None = None,
    progress: Callable[[int], None] | None = None,
) -> PreparedData:
    """Tokenizes files, or finds them tokenized.

    A text gets the end-of-text token at its end, and the beginning-of-text token before it where the tokenizer is made
    to add one. A conversation is rendered as ``chat.render_for_training`` says; one that gives several training
    documents counts as that many.

    Args:
        paths: files and folders, as ``data.read`` reads them.
        kind: "text" to learn every token, "chat" to learn the answers.
        length: the longest training document, in tokens.
        cache_folder: where tokenized datasets are kept.
        too_long: what happens to a longer one: "split" (texts only, and their default: the loader splits them),
            "drop" (counted), "refuse" (an error; the default for conversations).
        progress: called with the number of records read so far.

    Raises:
        DataError: a file cannot be read, a conversation is refused by the template or too long, or nothing is left.
        ConfigError: conversations cannot be split.
    """
    too_long = too_long or ("split" if kind == "text" else "refuse")
    if kind == "chat" and too_long == "split":
        raise ConfigError("a conversation cannot be split", where="data.too_long", hint="choose 'refuse' or 'drop'")
    files = list_files(paths, kind)
    folder = Path(cache_folder) / _key(files, tokenizer, kind, length, too_long)
    if found := _cached(folder):
        return found
    preparation = _Preparation(tokenizer, kind, length, too_long)
    info: dict[str, Any] = {"tokenizer": tokenizer.fingerprint, "source": [str(path) for path in paths], "kind": kind}
    with ShardWriter(folder, tokenizer.vocab_size, info) as writer:
        read = 0
        for records in _batches(read_records(files, kind)):
            preparation.add(writer, records)
            read += len(records)
            if progress is not None:
                progress(read)
        if not writer.documents and preparation.dropped:
            raise DataError(
                f"nothing is left to train on: every document is longer than {length:,} tokens",
                where=str(paths[0]),
                hint="raise data.length",
            )
        writer.info |= {"trained": preparation.trained, "dropped": preparation.dropped}
    return PreparedData(folder, writer.documents, writer.tokens, preparation.trained, preparation.dropped)


def _key(files: Sequence[Path], tokenizer: Tokenizer, kind: Kind, length: int, too_long: TooLong) -> str:
    # A split text's tokens do not depend on the length; the loader splits them.
    limit = None if too_long == "split" else length
    # How a file is read depends on the end of its name.
    contents = [[path.suffix.lower(), path.name.startswith("wiki."), sha256_file(path)] for path in files]
    parts = [VERSION, contents, tokenizer.fingerprint, tokenizer.adds_bos, kind, limit, too_long]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _cached(folder: Path) -> PreparedData | None:
    """What an earlier run left; a damaged dataset is made again, since it can be."""
    if not folder.is_dir():
        return None
    try:
        dataset = TokenDataset(folder)
        dataset.verify()
    except (DamagedError, DataError):
        return None
    info = dataset.info
    return PreparedData(folder, len(dataset), dataset.total_tokens, info["trained"], info["dropped"])


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.text) if record.text is not None else 500 * len(record.messages or ())
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Preparation:
    """Turns records into training documents, and counts."""

    def __init__(self, tokenizer: Tokenizer, kind: Kind, length: int, too_long: TooLong) -> None:
        self.tokenizer, self.kind, self.length, self.too_long = tokenizer, kind, length, too_long
        self.trained = 0
        self.dropped: dict[str, dict[str, int]] = {}

    def add(self, writer: ShardWriter, records: Sequence[Record]) -> None:
        """Tokenizes a batch of records and writes them."""
        documents = self._chats(records) if self.kind == "chat" else self._texts(records)
        for record, ids, trained in documents:
            if len(ids) > self.length and self.too_long != "split":
                self._too_long(record, len(ids))
                continue
            self.trained += len(ids) - 1 if trained is None else int(trained[1:].sum())
            writer.add(ids, trained)

    def _texts(self, records: Sequence[Record]) -> Iterator[tuple[Record, np.ndarray, None]]:
        tokenizer = self.tokenizer
        begin = [tokenizer.bos_id] if tokenizer.adds_bos else []
        end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
        texts = [record.text or "" for record in records]
        short = iter(tokenizer.encode_many([text for text in texts if len(text) <= 2 * BLOCK]))
        for record, text in zip(records, texts, strict=True):
            parts = [np.array(next(short), np.int64)] if len(text) <= 2 * BLOCK else self._long_text(text)
            yield record, np.concatenate([np.array(begin, np.int64), *parts, np.array(end, np.int64)]), None

    def _long_text(self, text: str) -> list[np.ndarray]:
        """A text too large to be encoded at once: a hundred bytes of memory a token while it is, four afterwards."""
        parts: list[np.ndarray] = []
        blocks = _blocks(text)
        while group := list(itertools.islice(blocks, BATCH // BLOCK)):
            before = int(parts[-1][-1]) if parts else None
            parts += [np.array(ids, np.uint32) for ids in self.tokenizer.encode_pieces(group, before)]
        return parts

    def _chats(self, records: Sequence[Record]) -> Iterator[tuple[Record, np.ndarray, np.ndarray]]:
        documents = [(record, segments) for record in records for segments in self._segments(record)]
        encoded = self.tokenizer.encode_pieces_many([[segment.text for segment in s] for _, s in documents])
        for (record, segments), pieces in zip(documents, encoded, strict=True):
            ids = np.concatenate([np.array(piece, np.int64) for piece in pieces])
            trained = np.repeat([segment.trained for segment in segments], [len(piece) for piece in pieces])
            yield record, ids, trained

    def _segments(self, record: Record) -> list[Any]:
        try:
            return training_segments(self.tokenizer, record.messages or [])
        except ModelError:
            raise
        except UserError as error:
            raise DataError(error.message, where=record.where, hint=error.hint) from None

    def _too_long(self, record: Record, tokens: int) -> None:
        if self.too_long == "refuse":
            what = "conversation" if self.kind == "chat" else "text"
            raise DataError(
                f"this {what} has {tokens:,} tokens, more than the {self.length:,} of data.length",
                where=record.where,
                hint="raise data.length, or set data.too_long to drop",
            )
        count = self.dropped.setdefault(f"longer than {self.length} tokens", {"documents": 0, "tokens": 0})
        count["documents"] += 1
        count["tokens"] += tokens


def _blocks(text: str) -> Iterator[str]:
    """A long text in blocks of some size, cut where a new line begins with a visible character.

    Tokenizers split a text there themselves, so the ids stay the same; encoding one huge text at once would take a
    hundred bytes of memory a token.
    """
    start = 0
    while len(text) - start > 2 * BLOCK:
        end = text.find("\n", start + BLOCK) + 1
        while 0 < end < len(text) and text[end].isspace():
            end = text.find("\n", end) + 1
        if not 0 < end < len(text):
            break
        yield text[start:end]
        start = end
    yield text[start:]
