"""Score: a number, its interval, and what it was measured on."""

from __future__ import annotations

from dataclasses import dataclass


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
