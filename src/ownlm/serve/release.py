"""Which release of a model answers: the hash of everything that shapes an answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..files import CHECKSUMS, read_json, sha256_file
from ..tokens.tokenizer import Tokenizer

_SETTINGS = ("config.json", "generation_config.json")


def release_of(folder: Path, tokenizer: Tokenizer, adapter: Path | None = None, weights: str = "") -> str:
    """128 bits in hexadecimal, of a model folder's weights and settings, its tokenizer and its chat template.

    The weights' hashes are those of ``checksums.json``, which loading has checked, where the folder has one.

    Args:
        folder: the model's.
        tokenizer: its own.
        adapter: the folder of what was merged into it.
        weights: how they are kept while answering, which rounds them.
    """
    known = read_json(folder / CHECKSUMS) if (folder / CHECKSUMS).is_file() else {}
    parts = {file.name: known.get(file.name) or sha256_file(file) for file in sorted(folder.glob("*.safetensors"))}
    parts |= {name: sha256_file(folder / name) for name in _SETTINGS if (folder / name).is_file()}
    if adapter is not None:
        parts |= {f"adapter/{file.name}": sha256_file(file) for file in sorted(adapter.glob("adapter_*"))}
    parts |= {"tokenizer": tokenizer.fingerprint, "kept": weights}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def release_with(release: str, adapter: str) -> str:
    """The release of a model with an adapter beside it, by both their hashes."""
    return hashlib.sha256(f"{release} {adapter}".encode()).hexdigest()[:32]
