"""Intervals of what was measured, whose coverage docs/statistics.md shows.

Three ways, by what values can be:

- A share (accuracy, F1, anything between bounds): Wilson's score interval (1927) with the effective number of items, which is
  what the jackknife over clusters says the evidence is worth (Korn and Graubard 1998). All right is no certainty.
- A difference between bounds: an interval after two more items, one each way (Agresti and Min 2005, Bonett and Price 2012),
  since where two models hardly ever differ, what was seen underrates what can be.
- All else (perplexities, gaps): the bootstrap of Student's t (Efron 1982; Hall 1988), which follows skewed data where the
  percentile bootstrap is too narrow; of what is above a bound, on its logarithm. Of a difference without bounds, the wider of
  that and Student's own, at either end.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from .measurement import Floats, Measurement
from .sample import BLOCK, MOST_COLUMNS, Sample, sample_of
from .student import quantile

LEVEL = 0.95
DRAWS = 2000
# Fewer units than these give too few different draws, and Student's own quantile is taken.
FEWEST_UNITS = 8


def interval(measurement: Measurement, *, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """The interval of a measurement, over clusters where it has some; the same measurement always gives the same.

    One item, or one cluster, says nothing of how much others would differ: the interval is then all that values can be, as
    far as they have bounds, or infinite; never beyond the best value where less or more is better.
    """
    low, high = interval_of(sample_of(measurement), level=level, seed=seed)
    # No value is better than the best: no perplexity is below 1.
    best, higher_is_better = measurement.metric.best, measurement.metric.higher_is_better
    if best is not None and higher_is_better is not None:
        return (low, min(high, best)) if higher_is_better else (max(low, best), high)
    return low, high


def interval_of(sample: Sample, *, level: float = LEVEL, seed: int = 0) -> tuple[float, float]:
    """The interval of a sample's value; (NaN, NaN) where it has none."""
    if not len(sample) or not np.isfinite(sample.value):
        return np.nan, np.nan
    low, high = sample.bounds
    if np.isfinite(low) and np.isfinite(high):
        found = _after_two_more(sample, level) if sample.signed else _score(sample, level)
    elif np.isfinite(low):
        found = _on_logarithm(sample, level, seed)
    else:
        found = _studentised(sample, level, seed)
        if sample.signed:
            # Of differences some are skewed and some have heavy tails on both sides, which the draws underrate.
            other = _student(sample, level)
            found = min(found[0], other[0]), max(found[1], other[1])
    return max(found[0], low), min(found[1], high)


def standard_error(sample: Sample) -> float:
    """Of the value, over units; of a difference between bounds after two more items, one each way."""
    if sample.signed and np.isfinite(sample.bounds[1]):
        return _two_more(sample)[1]
    return float(np.sqrt(sample.variance))


def critical_value(sample: Sample, level: float = LEVEL) -> float:
    """How many standard errors the interval reaches."""
    if sample.binary:
        # The spread of right and wrong is known from their share: it costs no degrees of freedom.
        return NormalDist().inv_cdf((1 + level) / 2)
    return quantile((1 + level) / 2, len(sample) - 1)


def effective_items(sample: Sample) -> float:
    """Of how many independent items, right or wrong, the value would be as sure; the units where none differs."""
    low, high = sample.bounds
    share = (sample.value - low) / (high - low)
    variance = sample.variance * (len(sample) - 1) / len(sample) / (high - low) ** 2
    if len(sample) < 2 or variance <= 0 or share * (1 - share) <= 0:
        return float(len(sample))
    worth = share * (1 - share) / variance
    # Items of one cluster are never better evidence than as many of their own, though chance may make them look so.
    return min(worth, float(sample.items)) if sample.counts else worth


def _score(sample: Sample, level: float) -> tuple[float, float]:
    z = critical_value(sample, level)
    low, high = sample.bounds
    if not np.isfinite(z) or (np.isnan(sample.variance) and len(sample) > 1):
        return low, high
    n = effective_items(sample)
    share = min(1.0, max(0.0, (sample.value - low) / (high - low)))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the bounds the formula gives the bound itself, but for rounding.
    below = 0.0 if share == 0 else centre - half
    above = 1.0 if share == 1 else centre + half
    return low + float(below) * (high - low), low + float(above) * (high - low)


def _after_two_more(sample: Sample, level: float) -> tuple[float, float]:
    z = critical_value(sample, level)
    if not np.isfinite(z) or np.isnan(sample.variance):
        return sample.bounds
    centre, error = _two_more(sample)
    # What was seen is never left out, far as the two more may pull.
    below, above = min(centre - z * error, sample.value), max(centre + z * error, sample.value)
    if len(sample) < sample.items and sample.variance > 0:
        # Of a few clusters two items more would hide how much they vary.
        plain = _student(sample, level)
        return min(below, plain[0]), max(above, plain[1])
    return below, above


def _two_more(sample: Sample) -> tuple[float, float]:
    """Value and standard error with one more item at either bound."""
    top = sample.bounds[1]
    units = len(sample)
    variance = sample.variance * (units - 1) / units / top**2
    value = sample.value / top
    # How many items' evidence it is: where they come in clusters, so many fewer as their spread is wider.
    n = float(units if not sample.counts or variance <= 0 else sample.items)
    square = n * variance + value**2
    if sample.counts and square > 1:
        n, square = n / square, 1.0
    centre = n * value / (n + 2)
    spread = (n * square + 2) / (n + 2) - centre**2
    return centre * top, float(np.sqrt(spread / (n + 2))) * top


def _student(sample: Sample, level: float) -> tuple[float, float]:
    error, reach = np.sqrt(sample.variance), critical_value(sample, level)
    if not error > 0:
        # No spread was seen, which says nothing of what else there is.
        return -np.inf, np.inf
    return sample.value - reach * error, sample.value + reach * error


def _on_logarithm(sample: Sample, level: float, seed: int) -> tuple[float, float]:
    bound = sample.bounds[0]
    if sample.value <= bound:
        return _studentised(sample, level, seed)

    def of(sums: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(sample.of(sums) - bound)

    low, high = _studentised(replace(sample, of=of), level, seed)
    return bound + float(np.exp(low)), bound + float(np.exp(high))


def _studentised(sample: Sample, level: float, seed: int) -> tuple[float, float]:
    if len(sample) < FEWEST_UNITS or sample.rows.shape[1] > MOST_COLUMNS or not sample.variance > 0:
        return _student(sample, level)
    values, errors = _draws(sample, seed)
    # The error of the sample itself is found in the same way as that of each draw.
    centre, error = _linear(sample, np.ones((1, len(sample))))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (values - centre) / errors
    known = np.sort(t[np.isfinite(t) & (errors > 0)])
    lost = DRAWS - len(known)
    tail = (1 - level) / 2
    if lost > tail * DRAWS or not error[0] > 0:
        return _student(sample, level)
    # A draw that says nothing could lie beyond either end.
    rank = int(np.floor(tail * DRAWS)) - lost
    return sample.value - float(known[-1 - rank] * error[0]), sample.value - float(known[rank] * error[0])


def _draws(sample: Sample, seed: int) -> tuple[Floats, Floats]:
    """Values and standard errors of draws of units with replacement: [draws] each."""
    random = np.random.default_rng(seed)
    units = len(sample)
    size = max(1, BLOCK // units)
    values, errors = [], []
    for start in range(0, DRAWS, size):
        count = min(size, DRAWS - start)
        drawn = random.integers(0, units, (count, units)) + units * np.arange(count)[:, None]
        often = np.bincount(drawn.reshape(-1), minlength=count * units).reshape(count, units).astype(np.float64)
        value, error = _linear(sample, often)
        values.append(value)
        errors.append(error)
    return np.concatenate(values), np.concatenate(errors)


def _linear(sample: Sample, often: NDArray[np.float64]) -> tuple[Floats, Floats]:
    """Values with their standard errors by the delta method; often: how many of each unit: [draws, units]."""
    sums = often @ sample.rows
    influence = sample.gradients(sums) @ sample.rows.T
    units = often.shape[1]
    mean = (often * influence).sum(1) / units
    square = (often * (influence - mean[:, None]) ** 2).sum(1) * units / (units - 1)
    return sample.of(sums), np.sqrt(square)
