"""What having seen items does to a score: the value on items seen and on the others, and whether they differ.

The two kinds of items are two independent samples. The interval of their difference is made of the intervals of both (Newcombe
1998; Zou and Donner 2008), and the p-value is that of the permutation test, which asks how often as many items picked at
random would stand out as far (Fisher 1935); where items come in clusters, Welch's test on clusters. Items seen may be easier,
or harder, for other reasons: a difference is no proof that the model remembers, and none is no proof that it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .. import student
from ..correction import corrected
from ..measurement import Measurement
from ..sample import BLOCK, sample_of
from ..statistics import interval, standard_error
from ..verdict import Evidence, Verdict, default_margin, enough_items, verdict_of

DRAWS = 9999


@dataclass(frozen=True)
class Value:
    """A score on some items, with its 95% interval; NaN where they say nothing."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Effect:
    """One metric on the items seen and on the others.

    Attributes:
        task, metric, shots: what was measured.
        all, clean, seen: on all items, on those that were not found, on those that were, in full or in part.
        difference: seen less clean.
        low, high: its 95% interval.
        p: how often chance alone would tell items apart as far, corrected for all that is reported.
        higher_is_better: which way is better; None where neither is.
        margin: a difference that matters.
        enough: items by which such a difference would be seen with a probability of 0.8; None where none are.
        verdict: of seen against clean, as ``differences`` has them.
        words: the verdict as a sentence.
    """

    task: str
    metric: str
    shots: int
    all: Value
    clean: Value
    seen: Value
    difference: float
    low: float
    high: float
    p: float
    higher_is_better: bool | None
    margin: float
    enough: int | None
    verdict: Verdict
    words: str


def effects_of(measurements: Sequence[Measurement], seen: Collection[str], known: Collection[str]) -> list[Effect]:
    """The effects on every measurement whose rows are items of which some were seen.

    Args:
        measurements: of one task.
        seen: the keys of the items that were seen.
        known: the keys of all items that were looked for; a measurement with other rows, such as averages over terms, is left
            out.
    """
    every, some = set(known), set(seen)
    found = []
    for one in measurements:
        if every.issuperset(one.keys) and not some.isdisjoint(one.keys):
            found.append(effect_of(one, np.array([key in some for key in one.keys])))
    return found


def correct(found: Sequence[Effect]) -> list[Effect]:
    """The same with p-values corrected for their number (Holm 1979), where they can be told, and verdicts by these."""
    told = [number for number, one in enumerate(found) if not np.isnan(one.p)]
    values: list[float] = corrected([found[number].p for number in told], "holm").tolist() if told else []
    changed = list(found)
    for number, p in zip(told, values, strict=True):
        changed[number] = _judged(found[number], p)
    return changed


def effect_of(measurement: Measurement, seen: NDArray[np.bool_]) -> Effect:
    """The effect on one measurement.

    Args:
        measurement: what was measured.
        seen: which of its items were seen: [items], at least one.
    """
    metric = measurement.metric
    ours, others = _part(measurement, seen), _part(measurement, ~seen)
    whole, clean, told = _value(measurement), _value(others), _value(ours)
    difference = told.value - clean.value
    low = difference - float(np.hypot(told.value - told.low, clean.high - clean.value))
    high = difference + float(np.hypot(told.high - told.value, clean.value - clean.low))
    error = float(np.hypot(_error(ours), _error(others)))
    p = np.nan if np.isnan(difference) else _p(measurement, seen, difference, error)
    width = metric.bounds[1] - metric.bounds[0]
    if not np.isfinite(width) and _is_share(measurement):
        width = 1.0
    margin = default_margin(metric, clean.value, width)
    enough = enough_items(error, 0.0, len(measurement), margin)
    found = Effect(
        measurement.task,
        metric.name,
        measurement.shots,
        whole,
        clean,
        told,
        difference,
        low,
        high,
        p,
        metric.higher_is_better,
        margin,
        enough,
        "too little data",
        "",
    )
    return _judged(found, p)


def _judged(found: Effect, p: float) -> Effect:
    evidence = Evidence(found.difference, p, found.all.n, found.margin, found.enough, found.higher_is_better)
    verdict = verdict_of(evidence) if min(found.seen.n, found.clean.n) > 1 else "too little data"
    return replace(found, p=p, verdict=verdict, words=_words(verdict, evidence, found.seen.n))


def _part(measurement: Measurement, chosen: NDArray[np.bool_]) -> Measurement:
    places = np.flatnonzero(chosen).tolist()
    clusters = measurement.clusters
    return replace(
        measurement,
        rows=measurement.rows[places],
        keys=[measurement.keys[place] for place in places],
        clusters=None if clusters is None else clusters[places],
    )


def _value(measurement: Measurement) -> Value:
    if not len(measurement):
        return Value(np.nan, np.nan, np.nan, 0)
    return Value(measurement.value, *interval(measurement), len(measurement))


def _error(measurement: Measurement) -> float:
    return standard_error(sample_of(measurement)) if len(measurement) > 1 else np.nan


def _is_share(measurement: Measurement) -> bool:
    return sample_of(measurement).bounds == (0.0, 1.0)


def _p(measurement: Measurement, seen: NDArray[np.bool_], difference: float, error: float) -> float:
    if measurement.clusters is not None:
        units = [len(np.unique(measurement.clusters[chosen])) for chosen in (seen, ~seen)]
        return student.two_sided(difference / error, min(units) - 1) if error > 0 and min(units) > 1 else np.nan
    rows, metric = measurement.rows, measurement.metric
    total, count, items = rows.sum(0), int(seen.sum()), len(rows)
    draw = np.random.default_rng(0)
    at_least, size = 0, max(1, BLOCK // max(items, rows.shape[1]))
    enough = abs(difference) - 1e-12 * max(1.0, abs(difference))
    for start in range(0, DRAWS, size):
        number = min(size, DRAWS - start)
        # The items with the smallest of random numbers are as many, picked at random.
        order = draw.random((number, items)).argpartition(count - 1, 1)[:, :count]
        often = np.zeros((number, items))
        np.put_along_axis(often, order, 1.0, 1)
        picked = often @ rows
        apart = np.abs(metric.of(picked) - metric.of(total - picked))
        # What says nothing is no evidence of a difference.
        at_least += int((np.isnan(apart) | (apart >= enough)).sum())
    # The one that was seen is one of them (Phipson and Smyth 2010).
    return (at_least + 1) / (DRAWS + 1)


def _words(verdict: Verdict, evidence: Evidence, seen: int) -> str:
    if verdict in ("better", "worse", "different"):
        chance = f"as many items picked at random stand out so far in {evidence.p:.2g} of cases"
        return f"{verdict} on the items seen: {chance}"
    if verdict == "inside the noise":
        return f"inside the noise: a difference of {evidence.margin:.3g} would have shown"
    if evidence.enough is not None and evidence.enough > evidence.n:
        return f"too little data: {evidence.enough:,} items with such a share of seen ones would show {evidence.margin:.3g}"
    return f"too little data: {seen:,} of {evidence.n:,} items seen do not tell how much others would differ"
