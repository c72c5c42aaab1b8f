"""The documents of a data set, as they were trained on, with the place of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.documents import document_id, join_messages, read_groups
from ...data.read import RECORD_SUFFIXES, list_files, read_records, read_rows
from ...errors import DamagedError, DataError
from ...tokens.dataset import MANIFEST, is_dataset
from ...tokens.shards import INDEX

# Characters of a batch of texts that is scanned at once.
BATCH = 1 << 22
DOCUMENTS = "documents"
RUN = "config.yaml"


@dataclass(frozen=True)
class Document:
    """One that was trained on.

    Attributes:
        id: its content's hash.
        place: the data set, and the file and line as far as they are known.
    """

    id: str
    place: str
    text: str


def read_training_documents(source: str | Path) -> Iterator[Document]:
    """Every document of a data set that a model trains on.

    Args:
        source: a folder made by ``data build``, of which the training split counts, or files and folders as ``data.train`` takes
            them, of whose rows every text counts.

    Raises:
        DataError: it is not there, has no documents, or cannot be read.
        DamagedError: its tables are damaged.
    """
    path = Path(source)
    if (path / MANIFEST).is_file() and (path / DOCUMENTS).is_dir():
        return _of_built(path)
    if path.is_dir() and is_dataset(path):
        hint = "name the folder that 'ownlm data build' wrote, or the files themselves"
        raise DataError("this data set's folder has no manifest.json and documents", where=str(path), hint=hint)
    if (path / INDEX).is_file():
        hint = "name the folder that it belongs to, or the files it was made from"
        raise DataError("this holds tokens, and no documents to look into", where=str(path), hint=hint)
    return _of_files(path)


def documents_size(source: str | Path) -> int:
    """Bytes of the files that ``read_training_documents`` reads.

    Raises:
        DataError: it is not there.
    """
    path = Path(source)
    if (path / DOCUMENTS).is_dir():
        return sum(file.stat().st_size for file in (path / DOCUMENTS).glob("*.parquet"))
    return sum(file.stat().st_size for file in list_files([path]))


def _of_built(folder: Path) -> Iterator[Document]:
    files = sorted((folder / DOCUMENTS).glob("*.parquet"))
    if not files:
        raise DataError("this data set has no documents", where=str(folder / DOCUMENTS))
    for file in files:
        try:
            for group in read_groups(file, ["id", "text", "file", "line", "split"]):
                for row in group.to_pylist():
                    if row["split"] == "train" and row["text"]:
                        yield Document(row["id"], _place(row["file"], row["line"]), row["text"])
        except (OSError, ValueError, KeyError) as error:
            message = f"this table cannot be read: {str(error).splitlines()[0]}"
            raise DamagedError(message, where=str(file), hint="build the data set again") from None


def _of_files(path: Path) -> Iterator[Document]:
    for file in list_files([path]):
        if file.suffix.lower() not in (*RECORD_SUFFIXES, ".json"):
            for record in read_records([file], "text"):
                if record.text:
                    yield Document(document_id(record.text, None), record.where, record.text)
            continue
        for row in read_rows([file]):
            text = _text_of(row.values)
            if text:
                yield Document(document_id(text, None), row.where, text)


def _text_of(values: Mapping[str, Any]) -> str:
    """All that a row says, whatever its keys are called: a model may have been trained on any of it."""
    messages = values.get("messages")
    if isinstance(messages, list) and all(isinstance(message, Mapping) for message in messages):
        return join_messages([dict(message) for message in messages])
    return "\n\n".join(_texts(values))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _place(file: str | None, line: int | None) -> str:
    return f"{file or 'unknown file'}:{line}" if line else str(file or "unknown file")
