"""Score: a number, its interval, and what it was measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """One measurement.

    Attributes:
        task: what was measured on.
        metric: what was measured.
        value: the figure.
        low, high: its 95% interval.
        n: items measured.
        shots: worked examples shown to the model.
        model: the model's name.
        best: the value of a model without fault, where the metric has one.
    """

    task: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    shots: int = 0
    model: str = ""
    best: float | None = None


def bootstrap_interval(values: Sequence[float], *, samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of a mean (Efron 1979); the same values always give the same interval."""
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), (samples, len(array)))
    low, high = np.quantile(array[draws].mean(1), [0.025, 0.975])
    return float(low), float(high)
