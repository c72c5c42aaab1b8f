"""What each unit of evidence adds to a score: enough to compare two evaluations unit by unit, whatever the metric is.

A score is a function of sums over items, so its error is about the sum of what each item moves it by (the delta method; Hampel
1974, "The Influence Curve"). Kept as one number a unit, two scores of the same items are set against each other without their
rows, their metrics or their models: the difference's error is that of the differences of influences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .measurement import Floats, Measurement
from .sample import MOST_COLUMNS, sample_of

# Units beyond which they are not kept, being 40 kB of each score; a score is then compared by its interval.
MOST_UNITS = 10_000


def influences(measurement: Measurement) -> Floats | None:
    """What each unit moves the value by: [units], of mean 0, in an order that only the items decide; None for too much or too few."""
    sample = sample_of(measurement)
    if not 1 < len(sample) <= MOST_UNITS or sample.rows.shape[1] > MOST_COLUMNS or not np.isfinite(sample.value):
        return None
    (gradient,) = sample.gradients(sample.sums[None])
    found = sample.rows @ gradient
    if not np.isfinite(found).all():
        return None
    return found - found.mean()


def error_of(found: Floats) -> float:
    """The standard error of a value, or of a difference of values, by its influences."""
    return float(np.sqrt(len(found) / (len(found) - 1) * (found**2).sum()))


def paired_error(one: Floats, others: Sequence[Floats]) -> float:
    """The standard error of a value less the mean of others, all of the same units, by measurement alone."""
    return error_of(one - np.mean(others, 0))
