"""A built data set: one folder with its own tokenizer, its splits, and each split's parts.

DIR/dataset.json says what there is:

    {"format": 1, "tokenizer": "tokenizer", "kind": "text",
     "splits": {"train": [{"name": "wiki", "dataset": "train/wiki"},
                          {"name": "faq", "dataset": "train/faq", "weight": 2.0, "epochs": 4}],
                "validation": [{"name": "wiki", "dataset": "validation/wiki"}]}}

Every ``dataset`` is the folder of a TokenDataset, seen from DIR. A part without documents is left out, as is a split
without parts. ``weight`` and ``epochs`` are those of ``data.mix``: where no part of a split has a weight, an epoch
passes each part whole; where one has, a part without counts as 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field, field_validator

from ..config import Config, validate
from ..data.read import Kind
from ..errors import ConfigError, DataError
from ..files import read_json, write_json
from .epochs import mix_repeats

FILE = "dataset.json"
# What else a build leaves in the folder: its manifest comes last, finished results of stages stay.
MANIFEST, STAGES = "manifest.json", ".stages"
FORMAT = 1

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Part:
    """One source's share of a split.

    Attributes:
        name: the source, as the recipe calls it; one part of a split has it.
        folder: of a TokenDataset.
        weight: its share of an epoch's tokens, relative to the other parts'; None is 1 where another part has one.
        epochs: at most this many passes over it in one epoch; None is 1.
    """

    name: str
    folder: Path
    weight: float | None = None
    epochs: float | None = None


@dataclass(frozen=True)
class Dataset:
    """What a built data set's folder holds.

    Attributes:
        folder: where it is.
        tokenizer: the folder of the tokenizer that made its tokens.
        kind: "text" or "chat".
        splits: the parts of train, validation and test, as far as there are any.
    """

    folder: Path
    tokenizer: Path
    kind: Kind
    splits: Mapping[str, tuple[Part, ...]]

    def parts(self, split: str) -> tuple[Part, ...]:
        """The parts of a split.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            there = "it has: " + ", ".join(self.splits) if self.splits else "it has none"
            raise DataError(f"this data set has no {split} split", where=str(self.folder / FILE), hint=there)
        return self.splits[split]


def is_dataset(folder: str | Path) -> bool:
    """Whether a folder is a built data set's.

    Raises:
        DataError: it is one, but it has no tokens yet; its reports and tables must not be taken for texts.
    """
    folder = Path(folder)
    if (folder / FILE).is_file():
        return True
    if (folder / STAGES).is_dir():
        if (folder / MANIFEST).is_file():
            hint = "name a tokenizer in its recipe and build it again"
            raise DataError(
                "this data set was built without a tokenizer, so it has no tokens", where=str(folder), hint=hint
            )
        hint = "run the same 'ownlm data build' again"
        raise DataError("this data set was not built to its end", where=str(folder), hint=hint)
    return False


def read_dataset(folder: str | Path) -> Dataset:
    """What a folder's dataset.json says.

    Raises:
        DataError: there is none, or it is not as it should be; names the file and the wrong key.
    """
    folder = Path(folder)
    file = folder / FILE
    value = read_json(file)
    if not isinstance(value, dict):
        raise DataError("a JSON object was expected", where=str(file))
    if value.get("format") != FORMAT:
        hint = "build it again, or use the release of ownlm that made it"
        raise DataError(f"the format {value.get('format')!r} is not known", where=str(file), hint=hint)
    try:
        index = validate(_Index, value, source=str(file))
    except ConfigError as error:
        raise DataError(error.message, where=error.where, hint=error.hint) from None
    splits: dict[str, tuple[Part, ...]] = {
        split: tuple(Part(part.name, folder / part.dataset, part.weight, part.epochs) for part in parts)
        for split, parts in index.splits.items()
        if parts
    }
    return Dataset(folder, folder / index.tokenizer, index.kind, splits)


def dataset_of_part(folder: str | Path) -> Dataset | None:
    """The built data set that a part's folder belongs to; None where it stands alone.

    Raises:
        DataError: the data set's file is broken.
    """
    folder = Path(folder).absolute()
    for above in folder.parents[:3]:
        if is_dataset(above):
            return read_dataset(above)
    return None


def write_dataset(
    folder: str | Path, splits: Mapping[Split, Sequence[Part]], *, kind: Kind, tokenizer: str | Path = "tokenizer"
) -> None:
    """Writes dataset.json, the last file of a built data set.

    Args:
        folder: the data set's folder.
        splits: the parts of each split, all inside the folder; a split without parts is left out.
        kind: "text" or "chat".
        tokenizer: the tokenizer's folder, inside the folder.
    """
    folder = Path(folder)
    written = {split: [_as_json(folder, part) for part in parts] for split, parts in splits.items() if parts}
    value = {"format": FORMAT, "tokenizer": _inside(folder, tokenizer), "kind": kind, "splits": written}
    validate(_Index, value, source=str(folder / FILE))
    write_json(folder / FILE, value)


def repeats_of_parts(parts: Sequence[Part], tokens: Sequence[int]) -> list[float]:
    """How often each part is passed in one epoch of a split.

    Args:
        parts: of one split.
        tokens: how many each has.

    Raises:
        ConfigError: all weights are zero.
    """
    weighted = any(part.weight is not None for part in parts)
    weights = [1.0 if part.weight is None else part.weight for part in parts] if weighted else None
    return mix_repeats(tokens, weights, [part.epochs or 1.0 for part in parts])


class _PartEntry(Config):
    name: str = Field(min_length=1)
    dataset: str
    weight: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @field_validator("dataset")
    @classmethod
    def _is_inside(cls, value: str) -> str:
        return _checked(value)


class _Index(Config):
    format: int
    tokenizer: str
    kind: Kind
    splits: dict[Split, list[_PartEntry]]

    @field_validator("tokenizer")
    @classmethod
    def _is_inside(cls, value: str) -> str:
        return _checked(value)

    @field_validator("splits")
    @classmethod
    def _names_differ(cls, value: dict[Split, list[_PartEntry]]) -> dict[Split, list[_PartEntry]]:
        for split, parts in value.items():
            names = [part.name for part in parts]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"the {split} split has two parts called '{twice}'")
        return value


def _checked(path: str) -> str:
    """A data set may be moved as a whole, so everything it names lies in it."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or ":" in path or "\\" in path:
        raise ValueError("a folder inside the data set's was expected")
    return path


def _as_json(folder: Path, part: Part) -> dict[str, str | float]:
    value: dict[str, str | float] = {"name": part.name, "dataset": _inside(folder, part.folder)}
    if part.weight is not None:
        value["weight"] = part.weight
    if part.epochs is not None:
        value["epochs"] = part.epochs
    return value


def _inside(folder: Path, path: str | Path) -> str:
    path = Path(path)
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()
