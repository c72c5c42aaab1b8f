"""Which weights a folder holds: a name for their content, by which scores can be told to be theirs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import ModelError
from ..files import sha256_file


def weights_hash(folder: str | Path, adapter: str | Path | None = None) -> str:
    """SHA-256 of the weight files of a model's folder, and of an adapter put onto it; a copy has the same.

    Raises:
        ModelError: a folder holds no weights.
    """
    digest = hashlib.sha256()
    for place in (folder, *([] if adapter is None else [adapter])):
        files = sorted(Path(place).glob("*.safetensors"))
        if not files:
            raise ModelError("this is no model's folder: it holds no weights", where=str(place))
        for file in files:
            digest.update(f"{file.name} {sha256_file(file)}\n".encode())
    return digest.hexdigest()
