"""gigatoken in place of ``tokenizers``, for those tokenizers that it was found to read the same way.

gigatoken (MIT) encodes some tens of times faster: it splits texts by hand-written programs in place of regular
expressions, and remembers the ids of every word it has met. Whether it gives the ids of ``tokenizers`` is tried once
for each tokenizer, on ``trial_texts``; the verdict is kept with the versions of both libraries.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tokenizers

from ..errors import DataError, StorageError
from ..files import read_json, write_json
from . import trial

if TYPE_CHECKING:
    from .flat import Rows, Texts

LIBRARY = "gigatoken"

# Its memory of words has no limit (some ten bytes for each byte of text that never repeats), so it is begun anew once
# the process has grown by this much; where that cannot be read, after so many tokens.
MOST_GROWTH = 256 * 2**20
MOST_TOKENS = 32 * 2**20


class Refused(Exception):
    """The fast library cannot read a tokenizer, or a text; ``tokenizers`` must."""


def trusted_encoder(backend: tokenizers.Tokenizer, cache: Path) -> FastEncoder | None:
    """The fast library for a tokenizer; None where it is not installed, cannot read it, or gives other ids.

    Args:
        backend: the tokenizer.
        cache: the folder of verdicts.
    """
    try:
        library = importlib.import_module(LIBRARY)
    except ImportError:
        return None
    # Neither a switch of the object nor chance is in its description.
    if backend.encode_special_tokens or getattr(backend.model, "dropout", None):
        return None
    description = backend.to_str()
    file = _verdict_file(description, cache)
    verdict = _read_verdict(file)
    if verdict is False:
        return None
    try:
        encoder = FastEncoder(library, description)
        equal = verdict or _gives_equal_ids(encoder, backend)
    except Refused:
        equal = False
    if equal is not verdict:
        _write_verdict(file, equal)
    return encoder if equal else None


def mistrust(backend: tokenizers.Tokenizer, cache: Path) -> None:
    """Notes that a tokenizer that was trusted should not have been."""
    _write_verdict(_verdict_file(backend.to_str(), cache), False)


class FastEncoder:
    """gigatoken with one tokenizer.

    Args:
        library: the module.
        description: what the backend's ``to_str`` gives.

    Raises:
        Refused: it cannot read this tokenizer.
    """

    def __init__(self, library: Any, description: str) -> None:
        self._library = library
        self._description = description
        self._begin()

    def encode(self, texts: Texts) -> Rows:
        """The ids of each text, on all cores; on one inside a worker process.

        Raises:
            Refused: it cannot read a text.
        """
        with _refusals():
            given = texts if isinstance(texts, list) else _as_input(texts)
            layout = self._encoder.encode_batch(given).layout
            ids = np.asarray(layout.content.data, np.uint32)
            offsets = np.asarray(layout.offsets.data, np.int64)
        self._tokens += len(ids)
        self._forget()
        return ids, offsets

    def _begin(self) -> None:
        with _refusals():
            self._encoder = self._library.Tokenizer.from_json(self._description)
        self._tokens = 0
        self._resident = _resident_bytes()

    def _forget(self) -> None:
        """Begins anew where its memory of words has grown large."""
        resident = _resident_bytes()
        grown = resident is not None and self._resident is not None and resident - self._resident > MOST_GROWTH
        if grown or (resident is None and self._tokens > MOST_TOKENS):
            self._encoder = None
            self._begin()


def _as_input(texts: Any) -> Any:
    """Texts as gigatoken takes them: a list, or an Arrow array's own memory."""
    if not hasattr(texts, "to_pylist"):
        return list(texts)
    awkward = importlib.import_module("awkward")
    return awkward.from_arrow(texts)


def _gives_equal_ids(encoder: FastEncoder, backend: tokenizers.Tokenizer) -> bool:
    texts = trial.trial_texts(backend)
    ids, offsets = encoder.encode(texts)
    if len(offsets) != len(texts) + 1:
        return False
    expected = backend.encode_batch_fast(texts, add_special_tokens=False)
    rows = (ids[start:end] for start, end in itertools.pairwise(offsets.tolist()))
    return all(np.array_equal(row, encoding.ids) for row, encoding in zip(rows, expected, strict=True))


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Whatever goes wrong inside is a refusal; a panic in Rust is no Exception, but a BaseException."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise Refused(str(error)) from None


def _resident_bytes() -> int | None:
    """The memory this process holds now; None where the system does not say it in a file."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _conditions() -> dict[str, Any]:
    """What a verdict holds for; gigatoken has other programs for other processors."""
    versions = {LIBRARY: _version(LIBRARY), "tokenizers": _version("tokenizers")}
    return {**versions, "machine": platform.machine(), "trial": trial.VERSION}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _verdict_file(description: str, cache: Path) -> Path:
    return cache / f"{hashlib.sha256(description.encode()).hexdigest()[:32]}.json"


def _read_verdict(file: Path) -> bool | None:
    """Whether equal ids were found before under the same conditions; None where it was not tried."""
    try:
        noted = read_json(file)
        return bool(noted["equal"]) if noted["conditions"] == _conditions() else None
    except (DataError, OSError, KeyError, TypeError):
        return None


def _write_verdict(file: Path, equal: bool) -> None:
    # Where nothing can be written, it is tried again each time.
    with contextlib.suppress(StorageError, OSError):
        write_json(file, {"conditions": _conditions(), "equal": equal})
