"""Whether a model may take another's place: gates on what was measured, each with the reason for its yes or no.

This is a function of measurements, facts and answers; who makes them is not its business. Gates need no correction for
their number: a model passes only where all say yes, and so it passes wrongly no more often than the strictest gate that
should have stopped it (Berger 1982). A gate about which nothing is known says no.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import nearest
from .differences import Difference, difference
from .gate_config import (
    BiasGateConfig,
    DifferenceGateConfig,
    GatesConfig,
    MachineGateConfig,
    MeasuredGateConfig,
    NeverAgainConfig,
    ScoreGateConfig,
    ShareConfig,
)
from .measurement import Measurement
from .statistics import interval

Answers = Callable[[Sequence[NeverAgainConfig]], Sequence[str]]
# Characters of a prompt or an answer that a reason shows.
SHOWN = 60


@dataclass(frozen=True)
class GateResult:
    """What one gate said.

    Attributes:
        name: the gate's.
        passed: whether it said yes.
        value: what it looked at: a score, a difference, a distance from the best value, a fact, a count of forbidden texts;
            NaN where nothing was measured.
        low, high: the value's 95% interval; the value itself where it has none.
        limit: what it was held against.
        reason: why, in words.
    """

    name: str
    passed: bool
    value: float
    low: float
    high: float
    limit: float
    reason: str


@dataclass(frozen=True)
class Measures:
    """What is known of a model.

    Attributes:
        measurements: of all tasks that gates look at.
        facts: of its size and speed, by the names in ``MachineGateConfig``.
    """

    measurements: Sequence[Measurement] = ()
    facts: Mapping[str, float] | None = None


def judge(
    gates: GatesConfig, candidate: Measures, other: Measures | None = None, answers: Answers | None = None
) -> list[GateResult]:
    """What all gates say, in the order of the file.

    Args:
        gates: the gates.
        candidate: the model that asks.
        other: the named model, where gates compare.
        answers: gives the candidate's likeliest answer to each prompt; needed where there are such gates.
    """
    found = [_score(gate, candidate) for gate in gates.scores]
    found += [_difference(gate, candidate, other) for gate in gates.differences]
    found += [_bias(gate, candidate) for gate in gates.bias]
    found += [_machine(gate, candidate, other) for gate in gates.machine]
    texts = list(answers(gates.never_again)) if answers is not None and gates.never_again else None
    for place, gate in enumerate(gates.never_again):
        found.append(_never_again(gate, None if texts is None else texts[place]))
    return found


def all_passed(results: Sequence[GateResult]) -> bool:
    """Whether every gate said yes; no gates are no yes."""
    return bool(results) and all(one.passed for one in results)


def _score(gate: ScoreGateConfig, candidate: Measures) -> GateResult:
    asked = " and ".join(
        f"{words} {limit:g}" for words, limit in (("at least", gate.min), ("at most", gate.max)) if limit is not None
    )
    name = gate.name or f"{_what(gate)} {asked}"
    limit = gate.min if gate.min is not None else gate.max
    assert limit is not None
    measurement, missing = _find(gate, candidate)
    if measurement is None:
        return _unknown(name, limit, missing)
    value, (low, high) = measurement.value, interval(measurement)
    if math.isnan(value):
        return _unknown(name, limit, "the score is not a number")
    for bound, end, sign, side in ((gate.min, low, 1, "begins"), (gate.max, high, -1, "ends")):
        if bound is None:
            continue
        seen = value if gate.by == "value" else end
        if not sign * (seen - bound) >= 0:
            if sign * (value - bound) < 0:
                return GateResult(name, False, value, low, high, bound, f"{value:.4g} is not {asked}")
            more = _items_until(len(measurement), abs(value - end), abs(value - bound))
            reason = f"{value:.4g} is {asked}, but its interval {side} at {end:.4g}{more}"
            return GateResult(name, False, value, low, high, bound, reason)
    shown = f"{value:.4g}" if gate.by == "value" else f"{value:.4g} ({low:.4g} to {high:.4g})"
    return GateResult(name, True, value, low, high, limit, f"{shown} is {asked}")


def _difference(gate: DifferenceGateConfig, candidate: Measures, other: Measures | None) -> GateResult:
    share = gate.margin.share if isinstance(gate.margin, ShareConfig) else None
    margin = math.nan if isinstance(gate.margin, ShareConfig) else gate.margin
    shown = f"{margin:g}" if share is None else f"{100 * share:g}%"
    name = gate.name or f"{_what(gate)} not worse by {shown}"
    if other is None:
        return _unknown(name, margin, "no model was named to compare with")
    measurement, missing = _find(gate, candidate)
    theirs, missing_there = _find(gate, other)
    if measurement is None or theirs is None:
        return _unknown(name, margin, missing or f"of the named model: {missing_there}")
    if share is not None:
        margin = share * abs(theirs.value)
    if not margin > 0:
        return _unknown(name, margin, f"the named model's score is {theirs.value:.4g}, of which {shown} is no margin")
    found = difference(measurement, theirs, margin=margin)
    if math.isnan(found.difference):
        return _unknown(name, margin, "the difference is not a number")
    away = " in the distance from the best value" if found.from_best else ""
    numbers = f"{found.difference:+.4g}{away} ({found.low:+.4g} to {found.high:+.4g})"
    figures = (found.difference, found.low, found.high, margin)
    if _worst(found) >= margin:
        return GateResult(name, False, *figures, f"{numbers} is worse by the margin of {margin:.4g} or more")
    if gate.by == "interval" and not found.not_worse_by(margin):
        more = _items_until(found.n, found.high - found.low, 2 * (margin - _worst(found)))
        if found.enough and found.enough > found.n:
            more = f"; {found.enough:,} items would tell, here are {found.n:,}"
        return GateResult(name, False, *figures, f"{numbers} may be worse by more than {margin:.4g}{more}")
    return GateResult(name, True, *figures, f"{numbers} is not worse by {margin:.4g}")


def _bias(gate: BiasGateConfig, candidate: Measures) -> GateResult:
    name = gate.name or f"{_what(gate)} within {gate.within:g} of the best"
    measurement, missing = _find(gate, candidate)
    if measurement is None:
        return _unknown(name, gate.within, missing)
    best = measurement.metric.best if gate.best is None else gate.best
    if best is None:
        return _unknown(name, gate.within, f"{gate.metric} has no best value of its own: write best")
    value, (low, high) = measurement.value, interval(measurement)
    if math.isnan(value):
        return _unknown(name, gate.within, "the score is not a number")
    away, most = abs(value - best), max(abs(low - best), abs(high - best))
    least = 0.0 if low <= best <= high else min(abs(low - best), abs(high - best))
    figures = (away, least, most, gate.within)
    if away > gate.within:
        return GateResult(name, False, *figures, f"{value:.4g} is {away:.4g} from {best:g}, more than {gate.within:g}")
    if gate.by == "interval" and most > gate.within:
        # The interval shrinks with the root of the number of items, and half of it must fit.
        more = _items_until(len(measurement), most - away, gate.within - away)
        reason = f"{value:.4g} is {away:.4g} from {best:g}, but its interval reaches {most:.4g} away{more}"
        return GateResult(name, False, *figures, reason)
    return GateResult(
        name, True, *figures, f"{value:.4g} ({low:.4g} to {high:.4g}) is within {gate.within:g} of {best:g}"
    )


def _machine(gate: MachineGateConfig, candidate: Measures, other: Measures | None) -> GateResult:
    ratios = {"at least": gate.min_ratio, "at most": gate.max_ratio}
    limits = {"at least": gate.min, "at most": gate.max}
    parts = [f"{words} {limit:,g}" for words, limit in limits.items() if limit is not None]
    parts += [f"{words} {ratio:g} times the named model's" for words, ratio in ratios.items() if ratio is not None]
    name = gate.name or f"{gate.fact} {' and '.join(parts)}"
    value = (candidate.facts or {}).get(gate.fact, math.nan)
    theirs = (other.facts or {} if other else {}).get(gate.fact, math.nan)
    bounds = [(words, limit) for words, limit in limits.items() if limit is not None]
    bounds += [(words, ratio * theirs) for words, ratio in ratios.items() if ratio is not None]
    if math.isnan(value):
        return _unknown(name, bounds[0][1], f"{gate.fact} was not measured")
    for words, bound in bounds:
        if math.isnan(bound):
            return _unknown(name, bound, f"{gate.fact} of the named model was not measured")
        if not (value >= bound if words == "at least" else value <= bound):
            return GateResult(
                name, False, value, value, value, bound, f"{_figure(value)} is not {words} {_figure(bound)}"
            )
    shown = " and ".join(f"{words} {_figure(bound)}" for words, bound in bounds)
    return GateResult(name, True, value, value, value, bounds[0][1], f"{_figure(value)} is {shown}")


def _figure(value: float) -> str:
    """A fact: bytes and counts in full, seconds and rates by their first figures."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _never_again(gate: NeverAgainConfig, answer: str | None) -> GateResult:
    name = gate.name or f"never again: {_short(gate.prompt)}"
    if answer is None:
        return _unknown(name, 0, "the model was not asked")
    found = [(pattern, match) for pattern in gate.forbidden if (match := re.search(pattern, answer, re.IGNORECASE))]
    count = float(len(found))
    if not found:
        return GateResult(name, True, 0, 0, 0, 0, f"nothing forbidden in its answer: {_short(answer)}")
    pattern, match = found[0]
    start = max(0, match.start() - SHOWN // 3)
    reason = f"its answer has '{match[0]}', which '{pattern}' forbids: {_short(answer[start:])}"
    return GateResult(name, False, count, count, count, 0, reason)


def _find(gate: MeasuredGateConfig, measures: Measures) -> tuple[Measurement | None, str]:
    """A gate's measurement, or why there is none."""
    there = measures.measurements
    tasks = {one.task for one in there}
    if gate.task not in tasks:
        return None, f"task '{gate.task}' was not measured ({_near(gate.task, tasks)})"
    metrics = {one.metric.name for one in there if one.task == gate.task}
    if gate.metric not in metrics:
        return None, f"metric '{gate.metric}' of {gate.task} was not measured ({_near(gate.metric, metrics)})"
    for one in there:
        if (one.task, one.metric.name, one.shots) == (gate.task, gate.metric, gate.shots):
            return one, ""
    shots = sorted({one.shots for one in there if (one.task, one.metric.name) == (gate.task, gate.metric)})
    return None, f"{gate.task} was not measured with {gate.shots} shots, but with {', '.join(map(str, shots))}"


def _near(name: str, known: set[str]) -> str:
    return nearest(name, known) if known else "nothing was"


def _worst(found: Difference) -> float:
    """How much worse the candidate is: of a metric without a better way, how much it differs at all."""
    if found.higher_is_better is None:
        return abs(found.difference)
    return -found.difference if found.higher_is_better else found.difference


def _items_until(n: int, half: float, room: float) -> str:
    """How many items would have an interval that fits, since its width falls with the root of their number."""
    if not 0 < room < half or not math.isfinite(half):
        return ""
    return f"; about {math.ceil(n * (half / room) ** 2):,} items like these would tell, here are {n:,}"


def _what(gate: MeasuredGateConfig) -> str:
    shots = f" ({gate.shots} shots)" if gate.shots else ""
    return f"{gate.task} {gate.metric}{shots}"


def _unknown(name: str, limit: float, reason: str) -> GateResult:
    return GateResult(name, False, math.nan, math.nan, math.nan, limit, reason)


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= SHOWN else words[: SHOWN - 1] + "…"
