"""Finding what was tokenized before: a dataset in the cache, by the hash of everything that made it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import DamagedError, DataError
from ..files import sha256_file
from .prepare import PreparedData
from .shards import TokenDataset


def cache_key(files: Sequence[Path], parts: Sequence[Any]) -> str:
    """The name of a dataset in the cache.

    Args:
        files: what it is made of; what is in them counts, and the ends of their names, which say how they are read.
        parts: whatever else decides what it holds, as JSON takes it.
    """
    contents = [[path.suffix.lower(), sha256_file(path)] for path in files]
    return hashlib.sha256(json.dumps([contents, *parts], sort_keys=True).encode()).hexdigest()[:32]


def find_cached(folder: Path) -> PreparedData | None:
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
