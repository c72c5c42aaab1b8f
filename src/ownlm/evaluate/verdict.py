"""What to say of a difference: better, worse, inside the noise, or too little data, and how much would be enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from .measurement import Metric

Verdict = Literal["better", "worse", "different", "inside the noise", "too little data"]

# The chance of calling equal models different, and of seeing a difference that is there.
ALPHA, POWER = 0.05, 0.8
# A difference that matters, unless one says otherwise: two points of a hundred, or 2% of the other model's value.
MATTERS = 0.02


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made of; see ``Difference``.

    Attributes:
        p: corrected.
        several_runs: whether one of the models is given by several.
    """

    difference: float
    p: float
    n: int
    margin: float
    enough: int | None
    higher_is_better: bool | None
    several_runs: bool = False


def default_margin(metric: Metric, value: float, width: float) -> float:
    """A difference that matters: 2% of what values can differ by, where they have bounds, else of the other model's value.

    NaN where that is nothing, as of a gap of 0.
    """
    if math.isfinite(width):
        return MATTERS * width
    return MATTERS * abs(value) if value and math.isfinite(value) else math.nan


def enough_items(error: float, between_runs: float, n: int, margin: float) -> int | None:
    """Items by which a difference of ``margin`` is seen with a probability of 0.8, at 5%, where they are as these are.

    Args:
        error: the standard error over these items.
        between_runs: the standard error over runs, which more items do not lessen.
        n: these items.
        margin: the difference.

    Returns:
        None where no number is enough, or nothing is known.
    """
    normal = NormalDist()
    reach = normal.inv_cdf(1 - ALPHA / 2) + normal.inv_cdf(POWER)
    left = (margin / reach) ** 2 - between_runs**2
    if not left > 0 or not math.isfinite(error):
        return None
    return max(1, math.ceil(n * error**2 / left))


def verdict_of(evidence: Evidence) -> Verdict:
    """The verdict: by the p-value where it tells, else by whether the data could have told what matters."""
    if evidence.p < ALPHA:
        if evidence.higher_is_better is None:
            return "different"
        return "better" if (evidence.difference > 0) == evidence.higher_is_better else "worse"
    if evidence.difference == 0 and evidence.p == 1 and evidence.enough is None:
        return "inside the noise"
    unknown = math.isnan(evidence.p) or math.isnan(evidence.difference)
    if unknown or (evidence.enough is None and evidence.margin > 0) or (evidence.enough or 0) > evidence.n:
        return "too little data"
    return "inside the noise"


def words_of(evidence: Evidence, verdict: Verdict) -> str:
    """The verdict as a sentence."""
    margin = f"{evidence.margin:.3g}"
    if verdict in ("better", "worse", "different"):
        return f"{verdict}: chance alone tells equal models so far apart in {evidence.p:.2g} of cases"
    if verdict == "too little data":
        if evidence.enough is not None:
            return f"too little data: {evidence.enough:,} items would show a difference of {margin}, here are {evidence.n:,}"
        if evidence.several_runs:
            return f"too little data: these runs differ too much to show a difference of {margin}; more runs would"
        return f"too little data: {evidence.n:,} items do not tell how much others would differ"
    if evidence.difference == 0 and evidence.p == 1 and evidence.enough is None:
        return "inside the noise: both did the same on every item"
    shown = f"; a difference of {margin} would have shown" if evidence.margin > 0 else ""
    return f"inside the noise: equal models are often so far apart{shown}"
