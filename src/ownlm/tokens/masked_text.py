"""Texts as an encoder reads them: pieces of a limited length, each between its special tokens, and nothing lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..data.read import list_files, read_records
from ..errors import ConfigError
from .cached import cache_key, find_cached
from .flat import Rows, offsets_of
from .frame import frame_of
from .prepare import BATCH, PreparedData, text_blocks
from .shards import ShardWriter
from .tokenizer import Tokenizer

# Raised whenever the same files would give other datasets than before.
VERSION = 1
KIND = "masked text"


def tokenize_for_masking(
    path: Path,
    tokenizer: Tokenizer,
    length: int,
    *,
    cache_folder: Path,
    progress: Callable[[int], None] | None = None,
) -> PreparedData:
    """Tokenizes texts, or finds them tokenized.

    A text longer than ``length``, its special tokens included, becomes several documents, each between its own (as the
    full sentences of Liu et al. 2019, section 4.2, but none crosses from one text into the next).

    Args:
        path: a file or folder, as ``data.read`` reads it.
        tokenizer: whose tokens.
        length: the longest document, in tokens.
        cache_folder: where tokenized datasets are kept.
        progress: called with the number of texts read so far.

    Raises:
        DataError: as ``read_records``.
        ConfigError: the length leaves no room between the special tokens.
        ModelError: the tokenizer has no special tokens to stand around a text.
    """
    frame = frame_of(tokenizer, pair=False, causal=False)
    room = length - len(frame)
    if room < 1:
        hint = f"{len(frame)} special tokens stand around each"
        raise ConfigError(f"documents of {length} tokens leave no room for text", where="data.length", hint=hint)
    files = list_files([path], "text")
    key = cache_key(files, [VERSION, KIND, tokenizer.fingerprint, asdict(frame), length])
    folder = Path(cache_folder) / key
    if found := find_cached(folder):
        return found
    info = {"tokenizer": tokenizer.fingerprint, "source": [str(path)], "kind": KIND, "dropped": {}}
    while True:
        mistrusted = tokenizer.mistrusted
        with ShardWriter(folder, tokenizer.vocab_size, info) as writer:
            read = 0
            for texts in _batches(files):
                ids, offsets = _cut(_encoded(texts, tokenizer), room)
                (ids, offsets), _ = frame.rows((ids, offsets))
                writer.add_many(ids, offsets)
                read += len(texts)
                if progress is not None:
                    progress(read)
            trained = writer.tokens - len(frame) * writer.documents
            writer.info |= {"trained": trained}
        # Where the fast library was found to err, it may have done so before: once more, then, without it.
        if tokenizer.mistrusted == mistrusted:
            return PreparedData(folder, writer.documents, writer.tokens, trained)


def _batches(files: Sequence[Path]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for record in read_records(files, "text"):
        batch.append(record.text or "")
        size += len(batch[-1])
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encoded(texts: Sequence[str], tokenizer: Tokenizer) -> Rows:
    """A row a text; a very long one is encoded in blocks."""
    blocks = [list(text_blocks(text)) for text in texts]
    ids, offsets = tokenizer.encode_flat([block for parts in blocks for block in parts])
    return ids, offsets[offsets_of(np.array([len(parts) for parts in blocks], np.int64))]


def _cut(rows: Rows, room: int) -> Rows:
    """Each row in consecutive pieces of at most ``room`` tokens, of nearly equal lengths."""
    ids, offsets = rows
    lengths = np.diff(offsets)
    counts = -(-lengths // room)
    owner = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    # Equal parts rather than full ones and a rest: a piece of two tokens teaches little.
    ends = (number + 1) * lengths[owner] // np.maximum(counts[owner], 1)
    starts = number * lengths[owner] // np.maximum(counts[owner], 1)
    return ids, offsets_of(ends - starts)
