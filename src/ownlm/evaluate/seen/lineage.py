"""What a model says it was trained on: the data sets that its lineage names, and whether they can still be looked into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import DamagedError, DataError, OwnlmError
from ...files import read_json
from ...model.checkpoint import LINEAGE
from ...model.registry import cached
from ...tokens.content import content_hash
from .datasets import RUN

State = Literal["same", "changed", "gone", "unknown"]
# Models that others were made from, counted back.
MOST_PARENTS = 16


@dataclass(frozen=True)
class TrainedOn:
    """One data set that a model, or one that it was made from, was trained on.

    Attributes:
        name: as the training's config has it.
        model: which of them.
        path: where it is now; None where it is nowhere.
        sha256: what it held.
        state: whether it holds the same; "unknown" where the model does not say what it held.
    """

    name: str
    model: str
    path: Path | None
    sha256: str | None
    state: State


@dataclass(frozen=True)
class Origins:
    """All that is known of a model's training data.

    Attributes:
        datasets: what it was trained on.
        silent: models among its forebears, and itself, that say nothing of their data.
    """

    datasets: list[TrainedOn]
    silent: list[str]


def read_lineage(folder: Path) -> Mapping[str, Any]:
    """A model's lineage; empty where it has none.

    Raises:
        DamagedError: its file is not as ownlm writes it.
    """
    file = folder / LINEAGE
    if not file.is_file():
        return {}
    try:
        value = read_json(file)
    except DataError as error:
        raise DamagedError(f"the model's lineage is damaged: {error.message}", where=error.where) from None
    found = value.get("lineage", {}) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise DamagedError("the model's lineage is damaged: an object was expected", where=str(file))
    return found


def origins_of(folder: Path, name: str) -> Origins:
    """The data sets that a model and its parents name.

    Args:
        folder: the model's.
        name: as it is called.

    Raises:
        DamagedError: the lineage's file is damaged.
    """
    datasets: list[TrainedOn] = []
    silent: list[str] = []
    left, known = [(folder, name)], {folder.resolve()}
    while left and len(known) <= MOST_PARENTS:
        place, called = left.pop(0)
        lineage = read_lineage(place)
        found = list(_named(lineage, place, called))
        datasets += found
        if not found:
            silent.append(called)
        for parent in lineage.get("parents") or ():
            where = _find_model(str(parent), place)
            if where is None:
                silent.append(str(parent))
            elif where.resolve() not in known:
                known.add(where.resolve())
                left.append((where, str(parent)))
    return Origins(datasets, list(dict.fromkeys(silent)))


def _named(lineage: Mapping[str, Any], folder: Path, model: str) -> Iterator[TrainedOn]:
    config = lineage.get("config")
    data = config.get("data") if isinstance(config, dict) else None
    hashes = lineage.get("sources")
    hashes = hashes if isinstance(hashes, dict) else {}
    names = list(hashes)
    if not names and isinstance(data, dict):
        mix = [entry.get("dataset") for entry in data.get("mix") or () if isinstance(entry, dict)]
        names = [str(one) for one in mix or data.get("train") or ()]
    out = config.get("out") if isinstance(config, dict) else None
    for name in names:
        path = _find(name, folder, out)
        sha256 = hashes.get(name)
        yield TrainedOn(name, model, path, sha256, _state(path, sha256))


def _state(path: Path | None, sha256: str | None) -> State:
    if path is None:
        return "gone"
    if sha256 is None:
        return "unknown"
    try:
        return "same" if content_hash(path) == sha256 else "changed"
    except OwnlmError:
        return "changed"


def _find(name: str, folder: Path, out: Any) -> Path | None:
    """A path of the training's, seen from here or from where the run's folder stands."""
    path = Path(name)
    if path.exists():
        return path
    run = folder.resolve().parent
    if isinstance(out, str) and (run / RUN).is_file():
        parts = Path(out).parts
        if not Path(out).is_absolute() and run.parts[-len(parts) :] == parts:
            beside = Path(*run.parts[: -len(parts)]) / name
            if beside.exists():
                return beside
    return None


def _find_model(name: str, child: Path) -> Path | None:
    """A parent's folder, if it is on this machine: nothing is fetched for this."""
    for path in (Path(name), child.parent / name):
        if path.is_dir() and (path / "config.json").is_file():
            return path
    try:
        return cached(name)
    except OwnlmError:
        return None
