"""Finished datasets joined into one, by copying their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from .shards import ShardWriter, TokenDataset


def concat_datasets(
    parts: Sequence[str | Path], out: str | Path, info: Mapping[str, Any] | None = None, *, may_be_empty: bool = False
) -> TokenDataset:
    """Joins datasets of one tokenizer: the same files, byte for byte, as if all documents had been written at once.

    Memory stays constant, however many parts there are: each is checked against its checksums, copied and closed.

    Args:
        parts: the folders of tokenized datasets, in order; some may be empty.
        out: where the dataset goes; one that stands there is replaced.
        info: what should be known of it; nothing is taken from the parts.
        may_be_empty: whether there may be no document in all of them.

    Raises:
        DataError: there is no part, or no document; a part is no dataset or has another vocabulary.
        DamagedError: names the file of a part that is not what was written.
        StorageError: the disk is full or may not be written to.
    """
    if not parts:
        raise DataError("there is no dataset to join", where=str(out))
    vocab_size = TokenDataset(Path(parts[0])).vocab_size
    with ShardWriter(Path(out), vocab_size, info, may_be_empty=may_be_empty) as writer:
        for part in parts:
            dataset = TokenDataset(Path(part))
            dataset.verify()
            writer.add_dataset(dataset)
    return TokenDataset(Path(out))
