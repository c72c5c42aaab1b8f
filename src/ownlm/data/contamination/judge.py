"""Hits of a whole build -> leaks, and the rows that the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .evidence import best_score
from .index import EvaluationIndex
from .options import DecontaminationOptions

if TYPE_CHECKING:
    import pyarrow as pa

LEAK, COMMON, WEAK = "leak", "common", "weak"

_MOST_ITEM_TEXT = 500


def judge(hits: pa.Table, options: DecontaminationOptions) -> pa.Array:
    """Says of each hit whether it is a leak; needs every shard's hits, but no text.

    Args:
        hits: the rows of ``scan`` of all shards, where ``document`` is a number of its own in the whole build.
        options: the thresholds.

    Returns:
        string[hits]: ``leak``; ``common``, a question found in so many documents, and here without its answer, that it
        is public text such as a famous quotation; or ``weak``, below the threshold.
    """
    import pyarrow as pa

    thresholds = {chosen.name: chosen.threshold or options.threshold for chosen in options.sets}
    least = np.array([thresholds.get(name, options.threshold) for name in hits["set"].to_pylist()])
    # Scores are written with four digits in float32.
    strong = hits["score"].to_numpy().astype(np.float64) >= least - 5e-6
    verdicts = np.where(strong, LEAK, WEAK).astype(object)
    answer = np.nan_to_num(hits["answer"].to_numpy())
    pairs = np.stack([hits["number"].to_numpy()[strong], hits["document"].to_numpy()[strong]], axis=1).reshape(-1, 2)
    numbers, documents = np.unique(np.unique(pairs, axis=0)[:, 0], return_counts=True)
    common = np.isin(hits["number"].to_numpy(), numbers[documents > options.common])
    verdicts[strong & common & (answer == 0)] = COMMON
    return pa.array(verdicts.tolist(), pa.string())


def hit_rows(hits: pa.Table, index: EvaluationIndex, ids: Sequence[str], sources: Sequence[str]) -> pa.Table:
    """Each hit for a reader's eyes: the matched text beside the evaluation item.

    Args:
        hits: rows of ``scan``, with or without a column ``verdict``.
        index: the index they come from.
        ids: the id of each document that ``document`` numbers.
        sources: its source file.

    Returns:
        ``id``, ``source``, ``set``, ``item``, ``score``, ``verdict`` where given, ``matched`` and ``item_text``, the
        highest score first.
    """
    import pyarrow as pa

    documents = hits["document"].to_pylist()
    rows = {
        "id": pa.array([ids[document] for document in documents], pa.string()),
        "source": pa.array([sources[document] for document in documents], pa.string()),
        **{name: hits[name] for name in ("set", "item", "score", "verdict") if name in hits.column_names},
        "matched": hits["matched"],
        "item_text": pa.array([item_text(index, number) for number in hits["number"].to_pylist()], pa.large_string()),
    }
    order = np.argsort(-hits["score"].to_numpy(), kind="stable")
    return pa.table(rows).take(pa.array(order))


def item_text(index: EvaluationIndex, number: int) -> str:
    """An item's question and first answer, at most some 500 characters."""
    item = index.items[number]
    text = item.question if len(item.question) <= _MOST_ITEM_TEXT else item.question[:_MOST_ITEM_TEXT] + " …"
    return f"{text}\n→ {item.answers[0][:_MOST_ITEM_TEXT]}" if item.answers else text


def not_checkable(index: EvaluationIndex, options: DecontaminationOptions) -> list[tuple[int, str]]:
    """Items that no match could prove, and why: a copy of them word for word would stay below the threshold.

    Returns:
        The item's place in ``index.items`` and ``too short`` or ``too common``.
    """
    thresholds = {chosen.name: chosen.threshold or options.threshold for chosen in options.sets}
    best: NDArray[np.float64] = best_score(index)
    looked_for = np.isin(np.arange(len(index.items)), index.unit_items)
    return [
        (number, "too common" if looked_for[number] else "too short")
        for number, item in enumerate(index.items)
        if best[number] < thresholds.get(item.set, options.threshold)
    ]
