"""A score over steps or over time, with its intervals and, where there is one, the band that it should lie in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..units import format_number
from .charts import GRID, INK, MUTED, SERIES, drawing, finished, label_powers, plain_numbers

ALARM = SERIES[1]
# More points than this are drawn without a bar each.
MOST_BARS = 60
# From so many times the lowest value on, what is low could not be told apart: the axis is logarithmic then.
WIDE = 30


@dataclass(frozen=True)
class TrendPoint:
    """One score.

    Attributes:
        x: the step, or seconds since 1970 of a time.
        value, low, high: the score with its interval; an end that is no number is not drawn.
        band: where it should lie, with None for no end, or None for no band.
        alert: whether it lies outside.
        changed: whether another version of the model begins here.
    """

    x: float
    value: float
    low: float
    high: float
    band: tuple[float | None, float | None] | None = None
    alert: bool = False
    changed: bool = False


@dataclass(frozen=True)
class TrendChart:
    """One score over steps or over time.

    Attributes:
        title: what is shown.
        points: in order.
        caption: one sentence that tells a reader what to see.
        best: the value of a model without fault, drawn where it is near.
        dated: x is a time, and points have bars; otherwise intervals are a ribbon.
    """

    title: str
    points: Sequence[TrendPoint]
    caption: str = ""
    best: float | None = None
    dated: bool = False

    def describe(self) -> str:
        """The chart in words, for those who do not see it."""
        if not self.points:
            return "No values."
        first, last = self.points[0], self.points[-1]
        text = f"{self._at(first)}" + (f", {self._at(last)}" if len(self.points) > 1 else "")
        out = sum(point.alert for point in self.points)
        return text + (f"; {out} outside the band." if out else ".")

    def _at(self, point: TrendPoint) -> str:
        between = f" ({format_number(point.low)} to {format_number(point.high)})" if _known(point) else ""
        when = f"on {datetime.fromtimestamp(point.x, UTC):%Y-%m-%d}" if self.dated else f"at step {point.x:,g}"
        return f"{format_number(point.value)}{between} {when}"

    def svg(self) -> str:
        """The drawing."""
        with drawing(2.9) as (figure, axes):
            points = [point for point in self.points if math.isfinite(point.value)]
            xs = [_moment(point.x) if self.dated else point.x for point in points]
            if points:
                self._band(axes, points, xs)
                self._intervals(axes, points, xs)
                marks = "o" if len(points) <= MOST_BARS else ""
                axes.plot(xs, [p.value for p in points], color=SERIES[0], linewidth=1.6, marker=marks, markersize=4.2)
                outside = [(x, p.value) for x, p in zip(xs, points, strict=True) if p.alert]
                if outside:
                    axes.plot(*zip(*outside, strict=True), "D", color=ALARM, markersize=7.5, zorder=5)
                if not self._wide(points):
                    self._limits(axes, points)
                label = {"textcoords": "offset points", "va": "center", "weight": "bold"}
                color = ALARM if points[-1].alert else SERIES[0]
                end = (xs[-1], points[-1].value)
                axes.annotate(format_number(end[1]), end, xytext=(8, 0), annotation_clip=False, color=color, **label)
            _label_times(axes, points) if self.dated else axes.set_xlabel("step")
            axes.margins(x=0.05)
            if points and self._wide(points):
                axes.set_yscale("log")
                label_powers(axes)
            else:
                axes.yaxis.set_major_formatter(plain_numbers(max((abs(y) for y in axes.get_ylim()), default=1)))
            return finished(figure, self.title, self.describe())

    def _wide(self, points: Sequence[TrendPoint]) -> bool:
        """Whether values span so much that only their ratios can be seen, as a perplexity's do that is being learned."""
        lows = [min(point.value, point.low) if _known(point) else point.value for point in points]
        return min(lows) > 0 and max(point.value for point in points) > WIDE * min(lows)

    def _intervals(self, axes: Any, points: Sequence[TrendPoint], xs: Sequence[Any]) -> None:
        known = [(x, p) for x, p in zip(xs, points, strict=True) if _known(p)]
        if not known:
            return
        places, lows, highs = [x for x, _ in known], [p.low for _, p in known], [p.high for _, p in known]
        if self.dated and len(known) <= MOST_BARS:
            axes.vlines(places, lows, highs, color=SERIES[0], linewidth=1.3, alpha=0.65)
        else:
            axes.fill_between(places, lows, highs, color=SERIES[0], alpha=0.16, linewidth=0)

    def _band(self, axes: Any, points: Sequence[TrendPoint], xs: Sequence[Any]) -> None:
        """Both ends as lines, where there are any, and where the model changed as thin marks."""
        for x, point in zip(xs, points, strict=True):
            if point.changed:
                axes.axvline(x, color=GRID, linewidth=0.9, linestyle=(0, (2, 2)))
        for end in (0, 1):
            known = [(x, p.band[end]) for x, p in zip(xs, points, strict=True) if p.band and p.band[end] is not None]
            if len(known) == 1:
                axes.plot(*known[0], "_", color=MUTED, markersize=14)
            elif known:
                axes.plot(*zip(*known, strict=True), color=MUTED, linewidth=1.1, linestyle=(0, (5, 2)))

    def _limits(self, axes: Any, points: Sequence[TrendPoint]) -> None:
        """What is seen: values and intervals, bands as far as they do not dwarf these, and the best value where it is near."""
        seen = [y for p in points for y in (p.value, *((p.low, p.high) if _known(p) else ()))]
        low, high = min(seen), max(seen)
        room = max(high - low, 1e-9, 1e-3 * abs(high))
        ends = [end for p in points for end in (p.band or ()) if end is not None]
        ends += [] if self.best is None else [self.best]
        near = [end for end in ends if low - room <= end <= high + room]
        low, high = min([low, *near]), max([high, *near])
        axes.set_ylim(low - 0.08 * (high - low or room), high + 0.08 * (high - low or room))
        if self.best is not None and self.best in near:
            axes.axhline(self.best, color=INK, linewidth=0.7, alpha=0.5)


def _known(point: TrendPoint) -> bool:
    return math.isfinite(point.low) and math.isfinite(point.high)


def _moment(x: float) -> datetime:
    return datetime.fromtimestamp(x, UTC)


def _label_times(axes: Any, points: Sequence[TrendPoint]) -> None:
    """Days, or hours where all is of a day or two."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.set_xlabel("time (UTC)")
    if len(points) == 1:
        # One point alone has no width, and would be labelled in microseconds.
        middle, day = points[0].x, 86400.0
        axes.set_xlim(_moment(middle - day), _moment(middle + day))
