"""A task: a YAML file that says which items there are, what the model is shown of each, and what is measured.

    name: arc_easy
    kind: choice
    data: arc_easy.jsonl
    prompt: "{{ query }}\nAnswer:"
    choices: "{{ choices }}"
    answer: "{{ gold }}"

The kinds are in ``kinds/``. Each turns items into requests and what comes back into rows (measurement.py).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import zlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..config import Config
from ..data.contamination import records
from ..data.contamination.sets import item_of
from ..data.read import read_rows
from ..errors import DataError, UserError
from .measurement import Measurement
from .shipped import check_shipped, comes_along
from .subject import Long, Subject
from .templates import Template


@dataclass(frozen=True)
class Item:
    """One item of a task's data.

    Attributes:
        values: its fields.
        where: its file and line.
    """

    values: Mapping[str, Any]
    where: str

    @property
    def key(self) -> str:
        """What it is, whatever file it stands in."""
        content = json.dumps(self.values, sort_keys=True, ensure_ascii=False, default=str)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Sought:
    """What tells an item from others, without the words of the task's template.

    Attributes:
        question: what is asked, or the text that is predicted.
        answers: right answers, apart from the question; none where the text is all there is.
        choices: what can be chosen from.
        passage: the text that the question is about.
    """

    question: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    passage: str = ""


class ShotsConfig(Config):
    """Worked examples that stand before each item (Brown et al. 2020, "Language Models are Few-Shot Learners").

    They are the same for every item, so that they are read once.
    """

    data: str | None = None
    """The file they come from; without it the task's own, of which those shown are then not measured."""
    seed: int = 0
    """What they are drawn with; the first k of one draw are the k examples, so more shots keep the fewer."""
    joined_by: str = "\n\n"
    """What stands between examples, and before the item."""


class TaskConfig(Config):
    """What all kinds of tasks have."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """The task's name."""
    kind: str
    """What is done: see the kinds."""
    about: str = ""
    """What it measures, in a line."""
    source: str = ""
    """The paper or page that it comes from."""
    licence: str = ""
    """Of the data."""
    data: str
    """The file of items: JSON Lines, JSON, CSV or TSV, beside the task's file, in the folder of --data, or with ownlm."""
    columns: tuple[str, ...] = ()
    """Names of the columns, for a table without a line of names."""
    cluster: str | None = None
    """A template that says which items come from one source, such as one passage: no independent evidence."""
    shots: ShotsConfig = ShotsConfig()
    """Worked examples."""
    long: Long = "skip"
    """Of an item longer than the model reads: skip it, or cut its beginning off; both are counted and told."""

    @property
    def takes_examples(self) -> bool:
        """Whether worked examples can stand before its items."""
        return True

    def check(self, subject: Subject) -> None:
        """Checks that the task can be measured here; a task of a suite is left out where not.

        Raises:
            UserError: why not.
        """

    def sought(self, item: Item) -> Sought:
        """What of an item is looked for in training data; a kind that knows better than its fields' names says so.

        Raises:
            DataError: nothing in the item looks like a question or a text.
        """
        found = item_of(self.name, item.values, item.where)
        return Sought(found.question, found.answers, found.choices, found.passage)

    @abstractmethod
    def measure(self, subject: Subject, items: Sequence[Item], examples: Sequence[Item]) -> Measured:
        """Measures a model on some items, after worked examples."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What a task gave.

    Attributes:
        measurements: one a metric, all over the same items.
        records: what was shown, said and right, one an item, for people to look at.
        long: how many items were too long, and skipped or cut.
    """

    measurements: list[Measurement]
    records: list[dict[str, Any]]
    long: int = 0
    notes: list[str] = field(default_factory=list)


def read_items(path: Path, columns: Sequence[str] = ()) -> list[Item]:
    """The items of a file: as ``read_rows``, in SQuAD's format, or compressed JSON Lines, as data that comes with ownlm is.

    A question of SQuAD's is an item with ``question``, ``context`` and ``answers``.

    Raises:
        DataError: as ``read_rows``; or it comes along and is damaged.
    """
    if comes_along(path) and not path.name.endswith(".gz"):
        check_shipped(path, path.read_bytes())
    if path.name.endswith(".jsonl.gz"):
        return _read_compressed(path)
    if path.suffix.lower() == ".json":
        found = list(records.read_rows(path))
        if wrong := next(((where, value) for where, value in found if not isinstance(value, Mapping)), None):
            raise DataError(f"an object was expected, not {type(wrong[1]).__name__}", where=wrong[0])
        return [Item(value, where) for where, value in found]
    return [Item(row.values, row.where) for row in read_rows([path], columns)]


def _read_compressed(path: Path) -> list[Item]:
    try:
        content = gzip.decompress(path.read_bytes())
        if comes_along(path):
            check_shipped(path, content)
        lines = content.decode().split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"this file cannot be read: {error}", where=str(path)) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"not JSON: {error}", where=f"{path}:{number}") from None
        if not isinstance(values, dict):
            raise DataError(f"an object was expected, not {type(values).__name__}", where=f"{path}:{number}")
        found.append(Item(values, f"{path}:{number}"))
    return found


def draw(items: Sequence[Item], seed: int) -> list[int]:
    """The order that examples are taken in: all places, drawn with a seed."""
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)
    return order


def choose(
    config: TaskConfig, items: Sequence[Item], pool: Sequence[Item] | None, count: int
) -> tuple[list[Item], list[Item]]:
    """The items to measure and the worked examples before them.

    Args:
        config: the task's.
        items: all of its items.
        pool: those that examples come from; None where they come from the items.
        count: how many examples.

    Raises:
        UserError: there are too few.
    """
    if not count:
        return list(items), []
    source = items if pool is None else pool
    if count >= len(source) + (pool is not None):
        raise UserError(f"{count} examples cannot be taken of {len(source)} items", where=f"shots of {config.name}")
    taken = draw(source, config.shots.seed)[:count]
    examples = [source[place] for place in taken]
    if pool is None:
        return [item for place, item in enumerate(items) if place not in set(taken)], examples
    return list(items), examples


def clusters_of(config: TaskConfig, items: Sequence[Item]) -> NDArray[np.int64] | None:
    """A number for each item's source, or None where each is its own."""
    if config.cluster is None:
        return None
    template = Template(config.cluster, "cluster")
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(template.line(i.values, i.where), len(numbers)) for i in items], np.int64)
