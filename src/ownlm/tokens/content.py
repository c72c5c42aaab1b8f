"""What a source of training data holds, as one hash, so that it can be told later whether it is still the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..data.read import list_files
from ..files import sha256_file
from .dataset import is_dataset, read_dataset
from .shards import INDEX, TokenDataset


def content_hash(source: str | Path) -> str:
    """SHA-256 of a source's content, wherever it stands.

    Args:
        source: a folder that ``data build`` made (its training tokens count), a tokenized data set's, or files or folders
            of texts (their bytes count, in the order of their names).

    Raises:
        DataError: it is not there, or cannot be read.
    """
    path = Path(source)
    if is_dataset(path):
        built = read_dataset(path)
        parts = [[part.name, TokenDataset(part.folder).fingerprint] for part in built.splits.get("train", ())]
    elif (path / INDEX).is_file():
        parts = [["", TokenDataset(path).fingerprint]]
    else:
        parts = [["", sha256_file(file)] for file in list_files([path])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
