"""The whole check: which data sets can be looked into, what stands there of each task's items, and what it does to scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import DataError, MissingExtra
from ...model.checkpoint import LINEAGE
from ..run import Ran
from ..task import Item, TaskConfig
from .datasets import DOCUMENTS, RUN, Document, documents_size, read_training_documents
from .effect import Effect, correct, effects_of
from .find import Exposure, find_items
from .lineage import Origins, origins_of

# Bytes of files that are looked into without being asked; of more it is told.
MOST_UNASKED = 1 << 30
UNKNOWN = "what it was trained on is not known"
REASONS = {
    "gone": "it is not here any more",
    "changed": "what stands there now is not what the model was trained on",
    "unknown": "the model does not say what it held",
}


@dataclass(frozen=True)
class Check:
    """What was found.

    Attributes:
        datasets: that were looked into, with their numbers of documents.
        not_checked: data sets that were not, and why; models that say nothing of their data; tasks that cannot be looked for.
        exposures: of every item of every task.
        effects: on scores.
    """

    datasets: Mapping[str, int] = field(default_factory=dict)
    not_checked: Sequence[Mapping[str, str]] = ()
    exposures: Sequence[Exposure] = ()
    effects: Sequence[Effect] = ()

    def as_json(self) -> dict[str, Any]:
        """Counts by task, effects, and the items that were seen with the text that was found."""
        return {
            "datasets": [{"name": name, "documents": count} for name, count in self.datasets.items()],
            "not_checked": [dict(one) for one in self.not_checked],
            "tasks": self.counts(),
            "scores": [asdict(one) for one in self.effects],
            "seen": [asdict(one) for one in self.exposures if one.seen],
        }

    def by_place(self, ran: Sequence[Ran]) -> dict[tuple[str, str], dict[str, str]]:
        """Of each item that was looked for, by its task and its file and line, how it was seen, to stand in its record."""
        how = {(one.task, one.key): one.how for one in self.exposures}
        return {
            (one.task, item.where): {"seen": how[one.task, item.key]}
            for one in ran
            for item in one.items
            if (one.task, item.key) in how
        }

    def counts(self) -> dict[str, dict[str, int]]:
        """Of each task: items, and how many were seen in full, in part, are common text, were not found, cannot be judged."""
        found: dict[str, Counter[str]] = {}
        for one in self.exposures:
            found.setdefault(one.task, Counter())[one.how] += 1
        names = ("in full", "in part", "common text", "not found", "cannot be judged")
        return {
            task: {"items": counts.total(), **{name.replace(" ", "_"): counts[name] for name in names}}
            for task, counts in found.items()
        }


def check(
    folder: Path,
    model: str,
    ran: Sequence[Ran],
    named: Sequence[str],
    *,
    adapter: str | None = None,
    hidden: bool = False,
) -> Check:
    """Looks for the items that a model was measured on in what it was trained on.

    Args:
        folder: the model's.
        model: its name.
        ran: what was measured.
        named: data sets to look into; none are those that the model's lineage names and that are here and the same.
        adapter: one that was put onto it, which does not say what it was trained on.
        hidden: shows no progress.

    Raises:
        DataError: a data set that was named is not there or holds no documents.
        DamagedError: a data set, or the model's lineage, is damaged.
        MissingExtra: pyarrow is not installed, and data sets were named.
    """
    sources, not_checked = (_named(named), []) if named else _unasked(origins_of(folder, model))
    if adapter is not None and not named:
        not_checked.append({"what": "model", "name": adapter, "reason": UNKNOWN})
    tasks: dict[str, tuple[TaskConfig, list[Item]]] = {}
    for one in ran:
        if one.config is None:
            reason = "its items are the harness's, which does not say what is a question in them"
            not_checked.append({"what": "task", "name": one.task, "reason": reason})
        else:
            tasks.setdefault(one.task, (one.config, []))[1].extend(one.items)
    if not sources or not tasks:
        return Check({}, _each_once(not_checked))
    try:
        datasets, exposures = look(tasks, sources, hidden=hidden)
    except MissingExtra as error:
        if named:
            raise
        not_checked += [{"what": "data", "name": name, "reason": error.message} for name in sources]
        return Check({}, _each_once(not_checked))
    return Check(datasets, _each_once(not_checked), exposures, _effects(ran, exposures))


def look(
    tasks: Mapping[str, tuple[TaskConfig, Sequence[Item]]], sources: Mapping[str, Path], *, hidden: bool = False
) -> tuple[dict[str, int], list[Exposure]]:
    """Looks for items of tasks in data sets: how many documents each has, and what was found.

    Raises:
        DataError, DamagedError: as ``read_training_documents``; or a data set has no documents.
        MissingExtra: pyarrow is not installed.
    """
    counts = dict.fromkeys(sources, 0)

    def read(name: str, path: Path) -> Iterator[Document]:
        for document in read_training_documents(path):
            counts[name] += 1
            yield document

    documents = chain.from_iterable(read(name, path) for name, path in sources.items())
    exposures = find_items(tasks, documents, hidden=hidden)
    if empty := next((name for name, count in counts.items() if not count), None):
        raise DataError("this data set has no documents to train on", where=empty)
    return counts, exposures


def sources_of(name: str) -> dict[str, Path]:
    """The data sets that one argument names: a data set's folder or files, or a run's or model's folder for its own.

    Raises:
        DataError: it is not there, or a run's or model's data is not.
    """
    path = Path(name)
    if not path.exists():
        raise DataError("there is no such data set", where=name, hint="name a folder of 'ownlm data build', or files")
    model = path / "model" if (path / RUN).is_file() else path
    if (model / LINEAGE).is_file() and not (path / DOCUMENTS).is_dir():
        origins = origins_of(model, name)
        if not origins.datasets:
            raise DataError("this model does not say what it was trained on", where=str(model / LINEAGE))
        for one in origins.datasets:
            if one.path is None or one.state == "changed":
                raise DataError(f"{one.name}: {REASONS[one.state]}", where=name, hint="name the data set itself")
        return {one.name: one.path for one in origins.datasets if one.path is not None}
    return {name: path}


def _named(names: Sequence[str]) -> dict[str, Path]:
    return {name: path for given in names for name, path in sources_of(given).items()}


def _unasked(origins: Origins) -> tuple[dict[str, Path], list[dict[str, str]]]:
    """What a model's lineage names and may be looked into, and what not, with the reason."""
    sources: dict[str, Path] = {}
    left_out: list[dict[str, str]] = []
    for one in origins.datasets:
        reason = REASONS.get(one.state, "")
        if one.state == "same" and one.path is not None:
            try:
                large = documents_size(one.path) > MOST_UNASKED
                reason = "it is large; name it with --seen-in" if large else ""
            except DataError as error:
                reason = error.message
        if reason or one.path is None:
            left_out.append({"what": "data", "name": one.name, "reason": reason})
        else:
            sources[one.name] = one.path
    for name in origins.silent:
        left_out.append({"what": "model", "name": name, "reason": UNKNOWN})
    return sources, left_out


def _effects(ran: Sequence[Ran], exposures: Sequence[Exposure]) -> list[Effect]:
    found: list[Effect] = []
    for one in ran:
        mine = [exposure for exposure in exposures if exposure.task == one.task]
        seen = {exposure.key for exposure in mine if exposure.seen}
        found += effects_of(one.measured.measurements, seen, {exposure.key for exposure in mine})
    return correct(found)


def _each_once(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    return list({tuple(row.values()): row for row in rows}.values())
