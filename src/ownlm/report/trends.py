"""The page of trends: every score over time with its interval and its band, and alerts in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..units import plural
from .page import Figure, Report
from .trend_chart import TrendChart, TrendPoint

# Charts that a page shows at once; more are folded.
OPEN = 12


def trend_page(
    series: Sequence[Mapping[str, Any]], alerts: Sequence[Mapping[str, Any]], false_alarms: float, history: int
) -> Report:
    """Builds the page.

    Args:
        series: as ``ownlm trend --json`` gives them.
        alerts: the same.
        false_alarms: how many evaluations of a new version may alarm though it is like those before.
        history: versions that a band needs.
    """
    models = list(dict.fromkeys(one["model"] for one in series))
    report = Report("Trends", ", ".join(models) or "nothing evaluated yet")
    now = [alert for alert in alerts if alert["current"]]
    _summary(report, series, now)
    _figures(report, series, now, alerts)
    if alerts:
        report.section("Alerts", "Scores outside their bands, the newest first.")
        for alert in reversed(alerts):
            report.note(f"{_day(alert['time'])}, {alert['model']}: {alert['words']}.", warning=alert["current"])
    for model in models:
        own = [one for one in series if one["model"] == model]
        report.section(
            model,
            "Bars are 95% intervals, upright dashes mark another version of the model, and the dashed lines are the band: given, or "
            f"learned from the versions before once {history} are known. Of evaluations of versions like those before, at most "
            f"{100 * false_alarms:.3g}% alarm.",
        )
        # What alarms is seen first.
        own.sort(key=lambda one: one["points"][-1]["alert"] is None)
        # What was never a number stands in the table alone.
        drawn = [one for one in own if any(point["value"] is not None for point in one["points"])]
        for one in drawn[:OPEN]:
            report.chart(chart_of(one))
        if drawn[OPEN:]:
            with report.fold(f"{plural(len(drawn) - OPEN, 'more score')}"):
                for one in drawn[OPEN:]:
                    report.chart(chart_of(one))
        _table(report, own)
    return report


def chart_of(series: Mapping[str, Any]) -> TrendChart:
    """One series as a chart."""
    shots = f", {series['shots']} shots" if series["shots"] else ""
    points = [
        TrendPoint(
            datetime.fromisoformat(one["time"]).timestamp(),
            _number(one["value"]),
            _number(one["low"]),
            _number(one["high"]),
            (one["band_low"], one["band_high"]),
            one["alert"] is not None,
            one["new_release"],
        )
        for one in series["points"]
    ]
    last = series["points"][-1]
    caption = f"{_direction(series)} {_band_in_words(last)}".strip()
    if any(one["new_content"] for one in series["points"]):
        caption += " Its items changed on the way, and only scores of the same items are set against each other."
    return TrendChart(f"{series['task']}: {series['metric']}{shots}", points, caption, series["best"], dated=True)


def _summary(report: Report, series: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> None:
    if not series:
        report.summary("Nothing was evaluated yet.")
        return
    if now:
        report.summary(
            f"{plural(len(now), 'score')} of {len(series)} {'lies outside its band' if len(now) == 1 else 'lie outside their bands'}."
        )
        return
    banded = sum(
        one["points"][-1]["band_low"] is not None or one["points"][-1]["band_high"] is not None for one in series
    )
    if banded:
        text = f"Every score that has a band lies in it ({banded} of {len(series)} have one)."
    else:
        text = "No score has a band yet: more versions of the model must be evaluated first, or bands given."
    report.summary(text)


def _figures(
    report: Report, series: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]], alerts: Sequence[Any]
) -> None:
    moments = sorted({(one["model"], point["time"]) for one in series for point in one["points"]}, key=lambda m: m[1])
    versions = {(one["model"], point["release"]) for one in series for point in one["points"]}
    if not moments:
        return
    outside = Figure("Outside now", f"{len(now)}", f"of {plural(len(series), 'score')}", good=not now)
    report.figures(
        [
            outside,
            Figure("Alerts in all", f"{len(alerts)}"),
            Figure("Evaluations", f"{len(moments):,}", f"{moments[0][1][:10]} to {moments[-1][1][:10]}"),
            Figure("Versions", f"{len(versions):,}"),
        ]
    )


def _table(report: Report, series: Sequence[Mapping[str, Any]]) -> None:
    rows = []
    for one in series:
        last = one["points"][-1]
        between = "" if last["value"] is None else f"{_short(last['low'])} to {_short(last['high'])}"
        rows.append(
            [
                one["task"],
                one["shots"],
                one["metric"],
                _short(last["value"]),
                between,
                _ends(last) or "none yet",
                last["versions"] if last["learned"] else None,
                last["n"],
            ]
        )
    columns = ["task", "shots", "metric", "now", "95% interval", "band", "learned from versions", "items"]
    report.table("The newest scores", columns, rows)


def _direction(series: Mapping[str, Any]) -> str:
    if series["higher_is_better"] is None:
        return "" if series["best"] is None else f"{_short(series['best'])} is best."
    return "Higher is better." if series["higher_is_better"] else "Lower is better."


def _band_in_words(last: Mapping[str, Any]) -> str:
    ends = _ends(last)
    if not ends:
        return "It has no band yet."
    return (
        f"Its band is {ends}, learned from {last['versions']} versions." if last["learned"] else f"Its band is {ends}."
    )


def _ends(last: Mapping[str, Any]) -> str:
    low, high = last["band_low"], last["band_high"]
    if low is None and high is None:
        return ""
    if low is None or high is None:
        return f"at most {_short(high)}" if low is None else f"at least {_short(low)}"
    return f"{_short(low)} to {_short(high)}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _short(value: float | None) -> str:
    if value is None:
        return "–"
    size = abs(value)
    return f"{value:.3f}" if size < 2 else f"{value:.2f}" if size < 10 else f"{value:,.1f}"


def _day(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"
