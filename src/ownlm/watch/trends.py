"""How a model's scores went over time, which band held at each, and where one was left.

Only scores of the same items, shown in the same way, are set against each other. A version is a release: the weights and all else
that shapes an answer. However often it was evaluated it counts once, and never against itself. A version that left its learned band
is no part of later bands, or a bad one would teach that bad is usual; where a new level is meant, ``since`` begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import fmean
from typing import Literal

import numpy as np

from ..evaluate.bands import Band, BandsConfig, error_by_interval, given_band, learned_band
from ..evaluate.influence import paired_error
from ..store import Evaluation, StoredScore
from .history import unpacked

Name = tuple[str, str, str, int]
"""Model, task, metric, worked examples."""


@dataclass(frozen=True)
class Alert:
    """A score outside its band.

    Attributes:
        evaluation: its id.
        time: when it was measured.
        model, release, task, metric, shots: of what.
        value, low, high: the score with its interval.
        band_low, band_high: the band; infinite where it has no end.
        versions: how many the band was learned from; 0 of a given one.
        side: where it lies.
        meaning: worse or better, as the metric has it; "" where neither end is.
        words: all that in a sentence.
    """

    evaluation: str
    time: datetime
    model: str
    release: str
    task: str
    metric: str
    shots: int
    value: float
    low: float
    high: float
    band_low: float
    band_high: float
    versions: int
    side: Literal["above", "below"]
    meaning: Literal["worse", "better", ""]
    words: str


@dataclass(frozen=True)
class Point:
    """One score of a series.

    Attributes:
        time, release: when, and of which version.
        score: what was measured.
        band: where it should lie; None while too few versions are known.
        versions: how many were known.
        alert: that it lies outside.
        new_release: whether the version is another than at the point before.
        new_content: whether the items, or how they are shown, are others than at the point before.
    """

    time: datetime
    release: str
    score: StoredScore
    band: Band | None
    versions: int
    alert: Alert | None
    new_release: bool
    new_content: bool


@dataclass
class Series:
    """One metric of one task of one model, over time."""

    model: str
    task: str
    metric: str
    shots: int
    points: list[Point] = field(default_factory=list)

    @property
    def current(self) -> Alert | None:
        """The alert of the newest score."""
        return self.points[-1].alert


@dataclass(frozen=True)
class _Version:
    """What is known of one version's score."""

    values: tuple[float, ...]
    newest: StoredScore


def trends(evaluations: Sequence[Evaluation], config: BandsConfig) -> list[Series]:
    """The series of some evaluations, the oldest first, with the band that held at each point."""
    series: dict[Name, Series] = {}
    known: dict[tuple[Name, str], dict[str, _Version]] = {}
    for evaluation in evaluations:
        counts = config.from_moment is None or (evaluation.created or datetime.min) >= config.from_moment
        judged = _histories(evaluation, known, config)
        learning = sum(history is not None for history, _ in judged)
        for score, (history, versions) in zip(evaluation.scores, judged, strict=True):
            name = (evaluation.model, score.task, score.metric, score.shots)
            band = _band(score, history, config, learning)
            one = series.setdefault(name, Series(*name))
            point = _point(evaluation, score, band, versions, one.points[-1] if one.points else None)
            one.points.append(point)
            outside = point.alert is not None and point.alert.versions > 0
            if counts and math.isfinite(score.value) and not outside:
                versions_known = known.setdefault((name, score.content), {})
                before = versions_known.pop(evaluation.release, None)
                values = (*(before.values if before else ()), score.value)
                versions_known[evaluation.release] = _Version(values, score)
    return list(series.values())


def alerts(series: Sequence[Series]) -> list[Alert]:
    """All alerts, the oldest first; that a version is still outside is said once."""
    found = []
    for one in series:
        told: tuple[str, str] | None = None
        for point in one.points:
            here = None if point.alert is None else (point.release, point.alert.side)
            if point.alert is not None and here != told:
                found.append(point.alert)
            told = here
    return sorted(found, key=lambda alert: (alert.time, alert.task, alert.metric))


def _histories(
    evaluation: Evaluation, known: dict[tuple[Name, str], dict[str, _Version]], config: BandsConfig
) -> list[tuple[list[_Version] | None, int]]:
    """For each score the versions that its band is learned from, or None; and how many are known."""
    found: list[tuple[list[_Version] | None, int]] = []
    for score in evaluation.scores:
        name = (evaluation.model, score.task, score.metric, score.shots)
        others = [v for r, v in known.get((name, score.content), {}).items() if r != evaluation.release]
        wanted = config.learned and config.given(score.task, score.metric, score.shots) is None
        enough = wanted and len(others) >= config.history and math.isfinite(score.value)
        found.append((others[-config.window :] if enough else None, len(others)))
    return found


def _band(score: StoredScore, history: list[_Version] | None, config: BandsConfig, learning: int) -> Band | None:
    if (given := config.given(score.task, score.metric, score.shots)) is not None:
        return given_band(given)
    if history is None:
        return None
    values = [fmean(version.values) for version in history]
    return learned_band(values, _error(score, [version.newest for version in history]), config.false_alarms / learning)


def _error(score: StoredScore, others: Sequence[StoredScore]) -> float:
    """The standard error of a score less the mean of others, by measurement: unit by unit, or else by the intervals."""
    own, theirs = unpacked(score), [unpacked(other) for other in others]
    kept = [one for one in theirs if one is not None and own is not None and len(one) == len(own)]
    if own is not None and len(kept) == len(others):
        return paired_error(own, kept)
    errors = np.array([error_by_interval(one.low, one.high) for one in others])
    return float(np.hypot(error_by_interval(score.low, score.high), np.sqrt((errors**2).sum()) / len(errors)))


def _point(evaluation: Evaluation, score: StoredScore, band: Band | None, versions: int, before: Point | None) -> Point:
    assert evaluation.created is not None
    side = None if band is None else band.side(score.value, score.low, score.high)
    alert = None
    if band is not None and side is not None:
        alert = Alert(
            evaluation.id,
            evaluation.created,
            evaluation.model,
            evaluation.release,
            score.task,
            score.metric,
            score.shots,
            score.value,
            score.low,
            score.high,
            band.low,
            band.high,
            band.versions,
            side,
            meaning := _meaning(score, side),
            _words(score, band, side, meaning),
        )
    new_release = before is not None and before.release != evaluation.release
    new_content = before is not None and before.score.content != score.content
    return Point(evaluation.created, evaluation.release, score, band, versions, alert, new_release, new_content)


def _meaning(score: StoredScore, side: Literal["above", "below"]) -> Literal["worse", "better", ""]:
    if score.higher_is_better is None:
        return ""
    return "better" if (side == "above") == score.higher_is_better else "worse"


def _words(score: StoredScore, band: Band, side: str, meaning: str) -> str:
    shots = f" ({score.shots} shots)" if score.shots else ""
    text = f"{score.task} {score.metric}{shots} is {score.value:.4g} ({score.low:.4g} to {score.high:.4g}), {side} "
    if band.learned:
        text += f"the {band.low:.4g} to {band.high:.4g} that {band.versions} earlier versions show"
    else:
        limit = band.low if side == "below" else band.high
        text += f"the {'least' if side == 'below' else 'most'} that is allowed, {limit:.4g}"
    if meaning == "better":
        return text + ": better, and so worth asking why"
    return text + (f": {meaning}" if meaning else "")
