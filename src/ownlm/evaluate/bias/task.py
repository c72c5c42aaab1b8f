"""What the bias suites share: fields read from items, and how a model is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...prediction.heads import check_head
from ...progress import Progress
from ..measurement import Floats, Metric
from ..pseudo import Gap, gap_log_probs
from ..subject import Subject
from ..task import Item, TaskConfig


class BiasTask(TaskConfig):
    """A suite whose items stand for themselves."""

    @property
    def takes_examples(self) -> bool:
        """Worked examples would tell a model what is wanted of it."""
        return False


def text_of(item: Item, field: str, among: Sequence[str] = ()) -> str:
    """A field of an item that must be a text.

    Raises:
        DataError: it is missing, no text, empty, or not among those that it must be.
    """
    value = item.values.get(field)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"'{field}' must be a text, not {value!r}", where=item.where)
    if among and value not in among:
        raise DataError(f"'{field}' must be one of {', '.join(among)}, not '{value}'", where=item.where)
    return value


def check_subject(subject: Subject) -> None:
    """Checks that the model goes on from texts, or fills gaps.

    Raises:
        ModelError: it does neither.
    """
    check_head(subject.model, "lm", "masked")


def hidden_log_probs(subject: Subject, gaps: Sequence[Gap], title: str) -> NDArray[np.float64]:
    """``gap_log_probs`` with its progress shown."""
    with Progress(title, total=len(gaps), unit="gaps", hidden=subject.hidden) as progress:
        return gap_log_probs(subject.model, gaps, progress=lambda done: progress.update(done))


def percent(name: str, *, best: float, least: float = 0.0) -> Metric:
    """A share of one sum in another, in percent, whose best value lies between: rows [above, below]."""

    def of(sums: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(sums[..., 1] == 0, np.nan, 100 * sums[..., 0] / sums[..., 1])

    return Metric(name, of, None, best, "%", (least, 100.0))
