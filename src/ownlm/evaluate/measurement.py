"""What was measured, item by item: enough to give a score its interval and to compare two models on the same items.

Nearly every metric is a function of sums over items: a mean of one number (accuracy), the quotient of two (perplexity: all
losses over all words), or of a table (macro F1: how often each class was taken for which). So an item contributes a row of
numbers, and a metric says what the rows' sum means. The bootstrap then is one matrix product: how often each item was
drawn, times the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """What a sum of rows means.

    Attributes:
        name: as it stands in scores.
        of: sums of rows [..., columns] -> values [...]; NaN where these items say nothing.
        higher_is_better: None where neither is, as for a bias whose best value lies between.
        best: the value of a model without fault, where the metric has one.
        unit: what it is counted in; "" is a share from 0 to 1.
        bounds: what its values lie between, by which intervals stay where values can be; of a quotient whose every row has
            0 <= above <= below, 0 and 1 are found without being told.
        signed: each row is a difference of two values between 0 and the upper bound, most of them 0, such as whether two
            answers refuse; intervals then are those of differences, on both sides of 0 though all rows lie on one.
    """

    name: str
    of: Callable[[Floats], Floats]
    higher_is_better: bool | None = True
    best: float | None = None
    unit: str = ""
    bounds: tuple[float, float] = (-np.inf, np.inf)
    signed: bool = False


@dataclass(frozen=True, eq=False)
class Measurement:
    """One metric over the items of one task.

    Attributes:
        task: the task's name, with the part of it after a slash, such as "bbq/age".
        metric: what is measured.
        rows: what each item contributes: float64[items, columns].
        keys: what each item is, the same for every model, by which two measurements are paired: [items].
        clusters: which items come from one source, and so are no independent evidence: int64[items], or None.
        shots: worked examples shown before each item.
        model: the model's name.
    """

    task: str
    metric: Metric
    rows: Floats
    keys: Sequence[str]
    clusters: NDArray[np.int64] | None = None
    shots: int = 0
    model: str = ""
    notes: Sequence[str] = field(default=())

    @property
    def value(self) -> float:
        """The metric over all items; NaN without any, as where all were too long."""
        if not len(self.rows):
            return float("nan")
        return float(self.metric.of(self.rows.sum(0)))

    def __len__(self) -> int:
        return len(self.rows)


def mean(name: str, *, higher_is_better: bool | None = True, unit: str = "", best: float | None = None) -> Metric:
    """The mean of one number an item: rows [value, 1]."""
    return Metric(name, _quotient, higher_is_better, best, unit)


def exponent_of_mean(name: str, unit: str = "") -> Metric:
    """e to the quotient of two sums, such as a perplexity: rows [nats, words]."""
    return Metric(name, lambda sums: np.exp(_quotient(sums)), False, 1.0, unit, (0.0, np.inf))


def quotient(name: str, *, higher_is_better: bool | None = True, unit: str = "", best: float | None = None) -> Metric:
    """The quotient of two sums, such as bits a byte: rows [above, below]."""
    return Metric(name, _quotient, higher_is_better, best, unit)


def of_values(values: Sequence[float] | Floats) -> Floats:
    """The rows of a mean."""
    numbers = np.asarray(values, np.float64)
    return np.stack((numbers, np.ones_like(numbers)), -1)


def _quotient(sums: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(sums[..., 1] == 0, np.nan, sums[..., 0] / sums[..., 1])
