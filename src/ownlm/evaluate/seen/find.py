"""Items of tasks in documents that were trained on: which were seen, how much of each, and where.

An item counts as seen only where the text of a document could hardly be anything else: its question is found by how much of
it stands there in order, weighed by how rare its words are, and by whether its answer stands near (data/contamination).
A common quotation, the words of a template, or a passage without its question is no item. Seen *in full* is the question with
its answer, or nearly all of an item that is only a text; *in part* is a question without its answer, or a part of a text.
An item so short or so common that even a copy of it proves nothing is not called clean: it cannot be judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...data.contamination.index import EvaluationIndex
from ...data.contamination.judge import COMMON, LEAK, item_text, judge, not_checkable
from ...data.contamination.options import DecontaminationOptions
from ...data.contamination.scan import scan
from ...data.contamination.sets import Item as Sample
from ...data.documents import pyarrow
from ...progress import Progress
from ..task import Item, TaskConfig
from ..templates import compiled
from .datasets import BATCH, Document

How = Literal["in full", "in part", "common text", "not found", "cannot be judged"]
SEEN: tuple[How, How] = ("in full", "in part")

# Of an item that is only a text, in full is so much of it.
WHOLE_TEXT = 0.9
# What items of one source share is their passage if it has so many words.
LEAST_PASSAGE = 12
# A text is cut into units of so many words where it is looked for.
_UNIT = 200
# Places of one item that are told.
MOST_PLACES = 3
_ASKED = re.compile(r"^\s*(?:question|q)\s*:\s*|\s*\n\s*(?:answer|a)\s*:\s*$", re.I)


@dataclass(frozen=True)
class Place:
    """Where an item was found.

    Attributes:
        document: its id.
        where: the data set's file and line.
        text: what stands there, at most 500 characters.
        share: how much of the item's question or text stands there, by the worth of its words, from 0 to 1.
        answer: whether its answer stands near; None where the item has none apart.
        score: how telling the match is (data/contamination/evidence.py).
    """

    document: str
    where: str
    text: str
    share: float
    answer: bool | None
    score: float


@dataclass(frozen=True)
class Exposure:
    """What was found of one item.

    Attributes:
        task: its task.
        key: what it is.
        where: its file and line.
        text: its question and first answer.
        how: whether it was seen.
        documents: in how many documents.
        places: some of them, the most telling first.
    """

    task: str
    key: str
    where: str
    text: str
    how: How
    documents: int = 0
    places: tuple[Place, ...] = ()

    @property
    def seen(self) -> bool:
        """Whether it was seen, in full or in part."""
        return self.how in SEEN


def find_items(
    tasks: Mapping[str, tuple[TaskConfig, Sequence[Item]]], documents: Iterable[Document], *, hidden: bool = False
) -> list[Exposure]:
    """Looks for items in documents.

    Args:
        tasks: by name, each with its items; equal items count once.
        documents: that were trained on.
        hidden: shows no progress.

    Returns:
        One for each different item of each task, in their order.

    Raises:
        MissingExtra: pyarrow is not installed.
        DataError: an item is not as its task says.
    """
    pa = pyarrow()
    items = [(name, item) for name, (_, some) in tasks.items() for item in {one.key: one for one in some}.values()]
    index = EvaluationIndex.build([sample_of(tasks[name][0], name, item) for name, item in items])
    options = DecontaminationOptions()
    tables = []
    found: dict[int, Document] = {}
    read = 0
    with Progress("Looking for items", unit="documents", hidden=hidden) as progress:
        for batch in _batches(documents):
            hits = scan(pa.array([document.text for document in batch], pa.large_string()), index)
            numbers = hits["document"].to_numpy()
            shares = [_share(index, batch, row) for row in hits.to_pylist()]
            found |= {read + int(n): replace(batch[n], text="") for n in np.unique(numbers)}
            hits = hits.set_column(0, "document", pa.array((numbers + read).astype(np.int32), pa.int32()))
            tables.append(hits.append_column("share", pa.array(shares, pa.float64())))
            read += len(batch)
            progress.update(read)
    rows: dict[int, list[dict[str, Any]]] = {}
    if tables:
        hits = pa.concat_tables(tables)
        verdicts = judge(hits, options).to_pylist()
        for row, verdict in zip(hits.to_pylist(), verdicts, strict=True):
            if verdict in (LEAK, COMMON):
                rows.setdefault(row["number"], []).append(row | {"verdict": verdict})
    unjudged = {number for number, _ in not_checkable(index, options)}
    return [
        _exposure(index, number, item, rows.get(number, []), found, number in unjudged)
        for number, (_, item) in enumerate(items)
    ]


def sample_of(task: TaskConfig, name: str, item: Item) -> Sample:
    """An item as it is looked for, without the words of its task's template."""
    sought = task.sought(item)
    question, passage = sought.question, sought.passage
    if not passage and task.cluster is not None:
        shared = compiled(task.cluster, "cluster").line(item.values, item.where)
        if shared in question and len(shared.split()) >= LEAST_PASSAGE and shared.strip() != question.strip():
            question, passage = question.replace(shared, "", 1), shared
    answers = tuple(answer for answer in sought.answers if answer.strip())
    right = next((place for place, choice in enumerate(sought.choices) if choice in answers), None)
    letter = "abcdefgh"[right] if right is not None and right < 8 and len(answers) == 1 else ""
    return Sample(name, item.key, _ASKED.sub("", question).strip(), answers, passage, sought.choices, letter)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _share(index: EvaluationIndex, batch: Sequence[Document], row: Mapping[str, Any]) -> float:
    """How much of an item a hit holds: of a long text, which is looked for in units, the hit's words of all of its words."""
    words = len(index.items[row["number"]].question.split())
    if words <= _UNIT:
        return float(row["question"])
    region = batch[row["document"]].text[row["start"] : row["end"]]
    return min(1.0, float(row["question"]) * len(region.split()) / words)


def _exposure(
    index: EvaluationIndex,
    number: int,
    item: Item,
    rows: Sequence[Mapping[str, Any]],
    documents: Mapping[int, Document],
    unjudged: bool,
) -> Exposure:
    sample = index.items[number]
    text = item_text(index, number)
    by_document: dict[int, list[Mapping[str, Any]]] = {}
    leaks = [row for row in rows if row["verdict"] == LEAK]
    for row in leaks or rows:
        by_document.setdefault(row["document"], []).append(row)
    places = []
    for document, some in by_document.items():
        best = max(some, key=lambda row: row["score"])
        # Units of a long text stand one after another; where a text stands twice, it is no more than all of it.
        share = min(1.0, sum(row["share"] for row in some)) if len(sample.question.split()) > _UNIT else best["share"]
        answer = any((row["answer"] or 0) > 0 for row in some) if sample.answers else None
        place = documents[document]
        score = round(float(best["score"]), 4)
        places.append(Place(place.id, place.place, best["matched"], round(float(share), 4), answer, score))
    places.sort(key=lambda one: (not one.answer, -one.score, -one.share, one.document))
    if leaks:
        full = any(one.answer if one.answer is not None else one.share >= WHOLE_TEXT for one in places)
        how: How = "in full" if full else "in part"
    else:
        how = "common text" if rows else "cannot be judged" if unjudged else "not found"
    return Exposure(sample.set, sample.id, item.where, text, how, len(by_document), tuple(places[:MOST_PLACES]))
