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
from numpy.typing import NDArray

from ..data.read import Kind, Record, list_files, read_records
from ..errors import ConfigError, DamagedError, DataError, ModelError, UserError
from ..files import sha256_file
from .chat import training_segments
from .flat import Rows, concatenate_rows, offsets_of, select_rows, with_ends
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
    info = {"tokenizer": tokenizer.fingerprint, "source": [str(path) for path in paths], "kind": kind}
    while True:
        mistrusted = tokenizer.mistrusted
        preparation = Preparation(tokenizer, kind, length, too_long)
        data = _write(folder, files, preparation, info, progress)
        # Where the fast library was found to err, it may have done so before: once more, then, without it.
        if tokenizer.mistrusted == mistrusted:
            return data


def _write(
    folder: Path,
    files: Sequence[Path],
    preparation: Preparation,
    info: dict[str, Any],
    progress: Callable[[int], None] | None,
) -> PreparedData:
    with ShardWriter(folder, preparation.tokenizer.vocab_size, info) as writer:
        read = 0
        for records in _batches(read_records(files, preparation.kind)):
            preparation.add(writer, records)
            read += len(records)
            if progress is not None:
                progress(read)
        if not writer.documents and preparation.dropped:
            raise DataError(
                f"nothing is left to train on: every document is longer than {preparation.length:,} tokens",
                where=info["source"][0],
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


class Preparation:
    """Turns records into training documents, and counts.

    Args:
        tokenizer: whose tokens they are.
        kind: "text" or "chat".
        length: the longest training document, in tokens.
        too_long: what happens to a longer one, as ``tokenize_files`` says.
        going_on: whether a conversation that cannot be used is noted in ``left_out``, and left out as a whole, where it
            would be an error otherwise.

    Attributes:
        trained: tokens to be learned, so far.
        dropped: for each reason, how many "documents" and "tokens" were left out.
        left_out: with ``going_on``, each record that was left out, with "too-long" or "refused" by the chat template.
    """

    def __init__(
        self, tokenizer: Tokenizer, kind: Kind, length: int, too_long: TooLong, *, going_on: bool = False
    ) -> None:
        self.tokenizer, self.kind, self.length, self.too_long = tokenizer, kind, length, too_long
        self.trained = 0
        self.dropped: dict[str, dict[str, int]] = {}
        self.left_out: list[tuple[Record, str]] = []
        self._going_on = going_on

    def add(self, writer: ShardWriter, records: Sequence[Record]) -> None:
        """Tokenizes a batch of records and writes them."""
        chats = self._chats(records) if self.kind == "chat" else None
        documents, rows, trained = chats or (records, self._texts(records), None)
        lengths = np.diff(rows[1])
        if self.too_long != "split" and (lengths > self.length).any():
            for place in np.flatnonzero(lengths > self.length).tolist():
                self._too_long(documents[place], int(lengths[place]))
            kept = lengths <= self.length
            if self._going_on:
                # Of a conversation that gives several documents, none is kept where one is too long.
                gone = {id(documents[place]): documents[place] for place in np.flatnonzero(~kept).tolist()}
                self.left_out += [(record, "too-long") for record in gone.values()]
                kept = np.array([id(document) not in gone for document in documents], bool)
            rows, trained = select_rows(rows, kept, trained)
        ids, offsets = rows
        starts = offsets[:-1][np.diff(offsets) > 0]
        self.trained += len(ids) - len(starts) if trained is None else int(trained.sum() - trained[starts].sum())
        writer.add_many(ids, offsets, trained)

    def _texts(self, records: Sequence[Record]) -> Rows:
        """A row a text, from its beginning token to its end token."""
        rows: list[Rows] = []
        blocks: list[str] = []
        counts: list[int] = []
        size = 0
        for record in records:
            text = record.text or ""
            if len(text) > 2 * BLOCK and self.tokenizer.joins_pieces:
                rows += [self.tokenizer.encode_flat(blocks), self._long_text(text)]
                blocks, size = [], 0
                counts.append(1)
                continue
            counts.append(0)
            for block in text_blocks(text):
                blocks.append(block)
                counts[-1] += 1
                size += len(block)
                if size >= BATCH:
                    rows.append(self.tokenizer.encode_flat(blocks))
                    blocks, size = [], 0
        rows.append(self.tokenizer.encode_flat(blocks))
        ids, offsets = concatenate_rows(rows)
        texts = ids, offsets[offsets_of(np.array(counts, np.int64))]
        return with_ends(texts, self.tokenizer.bos_id if self.tokenizer.adds_bos else None, self.tokenizer.eos_id)

    def _long_text(self, text: str) -> Rows:
        """The row of a text too large to be encoded at once, by a tokenizer whose pieces need their neighbours."""
        parts: list[NDArray[np.uint32]] = []
        blocks = text_blocks(text)
        while group := list(itertools.islice(blocks, BATCH // BLOCK)):
            before = int(parts[-1][-1]) if parts else None
            parts += [np.array(ids, np.uint32) for ids in self.tokenizer.encode_pieces(group, before)]
        ids = np.concatenate(parts)
        return ids, np.array([0, len(ids)])

    def _chats(self, records: Sequence[Record]) -> tuple[list[Record], Rows, NDArray[np.bool_]]:
        """A row a training document, with the record it comes from, and whether each token is trained."""
        documents = [(record, segments) for record in records for segments in self._segments(record)]
        pieces = [[segment.text for segment in segments] for _, segments in documents]
        ids, offsets = self.tokenizer.encode_pieces_flat(pieces)
        flags = np.array([segment.trained for _, segments in documents for segment in segments], bool)
        borders = offsets_of(np.array([len(texts) for texts in pieces], np.int64))
        return [record for record, _ in documents], (ids, offsets[borders]), np.repeat(flags, np.diff(offsets))

    def _segments(self, record: Record) -> list[Any]:
        try:
            return training_segments(self.tokenizer, record.messages or [])
        except ModelError:
            raise
        except UserError as error:
            if self._going_on:
                self.left_out.append((record, "refused"))
                return []
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


def text_blocks(text: str) -> Iterator[str]:
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
