"""What is not a file yet: a query's rows and the hub's data sets, fetched once into a folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ...files import new_folder
from .hub import fetch_dataset
from .options import SourceOptions
from .sql import address, fetch_query, without_password


def fetch_source(source: SourceOptions, folder: Path, *, refresh: bool = False) -> SourceOptions:
    """The source as files: itself where it has a path, otherwise with the path of what was fetched.

    What has been fetched for the same question stays and is used again, so that an interrupted build goes on with the
    very same rows. The question is the database's address itself, not the variable that holds it, and without its
    password.

    Args:
        source: the recipe's words on it.
        folder: where fetched files are kept.
        refresh: asks again; what was fetched before is replaced once the new answer is whole.

    Raises:
        FetchError: the database or the hub cannot be reached.
        DataError: the query, the subset or the split is wrong.
        MissingExtra: a library is not installed.
        StorageError: the files do not fit on the disk.
    """
    if source.path is not None:
        return source
    database = without_password(address(source)) if source.sql is not None else None
    asked = [database, source.query, source.dataset, source.subset, source.split, source.revision]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]
    path = folder / f"{source.name}-{key}"
    if refresh or not path.exists():
        with new_folder(path, checksums=False) as partial:
            if source.sql is not None:
                fetch_query(source, partial)
            else:
                fetch_dataset(source, partial)
    # The query stays, to be named where it gave nothing.
    fetched = dict.fromkeys(("sql", "dataset", "subset", "split", "revision"))
    return source.model_copy(update={**fetched, "path": str(path)})
