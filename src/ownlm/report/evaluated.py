"""What tasks said of a model while it was trained: each score over the steps, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .page import Report
from .trend_chart import TrendChart, TrendPoint

# Scores that are drawn; all stand in the table.
MOST_CHARTS = 12


def add_evaluations(report: Report, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Adds a section of the lines of metrics.jsonl that hold scores; nothing where none does."""
    points: dict[tuple[str, str, int], list[TrendPoint]] = {}
    items: dict[tuple[str, str, int], int] = {}
    for row in metrics:
        for score in row.get("scores", ()):
            key = (score["task"], score["metric"], score["shots"])
            value, low, high = (math.nan if score[name] is None else score[name] for name in ("value", "low", "high"))
            points.setdefault(key, []).append(TrendPoint(row["step"], value, low, high))
            items[key] = score["n"]
    if not points:
        return
    # Totals before their parts.
    order = sorted(points, key=lambda key: "/" in key[0] and not key[0].endswith("/overall"))
    report.section(
        "Tasks on the way",
        "What tasks said of the model while it was trained; the shaded part is each score's 95% interval, over the task's items.",
    )
    drawn = [key for key in order if any(math.isfinite(point.value) for point in points[key])]
    for key in drawn[:MOST_CHARTS]:
        report.chart(TrendChart(_name(key), points[key]))
    rows = [[*_row(key, points[key]), items[key]] for key in order]
    report.table("Scores", ["task", "shots", "metric", "first", "last", "95% interval", "items"], rows)


def _name(key: tuple[str, str, int]) -> str:
    task, metric, shots = key
    return f"{task}: {metric}" + (f", {shots} shots" if shots else "")


def _row(key: tuple[str, str, int], points: Sequence[TrendPoint]) -> list[Any]:
    first, last = points[0], points[-1]
    between = f"{_short(last.low)} to {_short(last.high)}"
    return [key[0], key[2], key[1], _short(first.value), _short(last.value), between]


def _short(value: float) -> str:
    if math.isnan(value):
        return "–"
    size = abs(value)
    return f"{value:.3f}" if size < 2 else f"{value:.2f}" if size < 10 else f"{value:,.1f}"
