"""What the bias suites share: fields read from items, and how a model is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...prediction.heads import check_head
from ...progress import Progress
from ..measurement import Floats, Metric
from ..pseudo import Framed, Gap, framed, gap_log_probs, mask_of
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


def hidden_spans(subject: Subject, lines: Sequence[tuple[str, str, str]], title: str) -> list[float | None]:
    """The logarithm of a masked model's probability of a part of each text, in nats; None of one that is too long.

    The part's tokens are shown from left to right, those after the one asked for hidden as well, so that their logarithms
    add up to that of the whole (Kauf and Ivanova 2023, "A Better Way to Do Masked Language Model Scoring").

    Args:
        lines: what stands before the part, the part with the space before it, and what stands after it.
    """
    mask = mask_of(subject.tokenizer)
    gaps: list[Gap] = []
    spans: list[slice | None] = []
    for before, part, after in lines:
        read = framed(subject.model, subject.tokenizer, before + part + after)
        if read is None:
            spans.append(None)
            continue
        new = _hidden(subject, read, before + part + after, len(before), len(before) + len(part), mask)
        spans.append(slice(len(gaps), len(gaps) + len(new)))
        gaps += new
    values = hidden_log_probs(subject, gaps, title)
    return [None if span is None else float(values[span].sum()) for span in spans]


def _hidden(subject: Subject, read: Framed, text: str, start: int, end: int, mask: int) -> list[Gap]:
    """A gap for each token of text[start:end], those after it in there hidden as well."""
    offsets = subject.tokenizer.backend.encode(text, add_special_tokens=False).offsets
    inside = [read.own[place] for place, (a, b) in enumerate(offsets) if a < end and b > start]
    gaps = []
    for place in inside:
        tokens = list(read.tokens)
        tokens[place : inside[-1] + 1] = [mask] * (inside[-1] + 1 - place)
        gaps.append(Gap(tuple(tokens), place, read.tokens[place]))
    return gaps


def percent(name: str, *, best: float, least: float = 0.0) -> Metric:
    """A share of one sum in another, in percent from ``least`` to 100, whose best value lies between: rows [above, below]."""

    def of(sums: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(sums[..., 1] == 0, np.nan, 100 * sums[..., 0] / sums[..., 1])

    return Metric(name, of, None, best, "%", (least, 100.0))
