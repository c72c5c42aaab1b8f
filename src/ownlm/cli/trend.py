"""``ownlm trend``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError, nearest
from .answer import Answer, columns
from .keys import STORE
from .watch import Bands, number, read_limits

if TYPE_CHECKING:
    from ..watch.trends import Alert, Point, Series

Models = Annotated[list[str] | None, typer.Option("--model", help="Only of this one; may be repeated.", metavar="NAME")]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="Only this one, with all its parts; may be repeated.", metavar="NAME"),
]
Out = Annotated[Path | None, typer.Option(help="Writes a page with a plot of each metric.", metavar="FILE.html")]


def trend(
    model: Models = None,
    task: Tasks = None,
    bands: Bands = None,
    out: Out = None,
    store: Annotated[str | None, STORE] = None,
) -> Answer:
    """Show how models' scores went over time, and where one left its band.

    What it shows was recorded by 'ownlm watch', and by 'ownlm eval' and 'ownlm bias' with --store.
    """
    config = read_limits(bands)
    from ..store import Store
    from ..watch.look import alert_json
    from ..watch.trends import alerts, trends

    with Store.open(store) as opened:
        evaluations = opened.evaluations.all()
        names, where = opened.evaluations.models(), opened.name
    if missing := [name for name in model or () if name not in names]:
        hint = nearest(missing[0], names) if names else "record one: ownlm eval MODEL --store URL"
        raise UserError(f"no evaluation of '{missing[0]}' is in the store", where="--model", hint=hint)
    series = trends([one for one in evaluations if not model or one.model in model], config)
    known = sorted({one.task for one in series})
    if lost := [name for name in task or () if not any(_is_part(one, name) for one in known)]:
        near = nearest(lost[0], known) if known else None
        raise UserError(f"no score of '{lost[0]}' is in the store", where="--task", hint=near)
    chosen = [one for one in series if not task or any(_is_part(one.task, name) for name in task)]
    raised = alerts(chosen)
    current = {_what(one.current) for one in chosen if one.current is not None}
    told = [alert_json(alert) | {"current": _what(alert) in current} for alert in raised]
    data: dict[str, Any] = {
        "store": where,
        "models": sorted({one.model for one in chosen}),
        "series": [_series(one) for one in chosen],
        "alerts": told,
        "report": None if out is None else str(out),
    }
    if out is not None:
        from ..report.trends import trend_page

        trend_page(data["series"], told, config.false_alarms, config.history).write(out)
    return Answer(data, _text(data, chosen, config.history))


def _what(alert: Alert) -> tuple[Any, ...]:
    """What an alert is about, however often it was measured."""
    return alert.model, alert.task, alert.metric, alert.shots, alert.release, alert.side


def _is_part(task: str, name: str) -> bool:
    return task == name or task.startswith(f"{name}/")


def _series(series: Series) -> dict[str, Any]:
    last = series.points[-1].score
    named = {"model": series.model, "task": series.task, "metric": series.metric, "shots": series.shots}
    best = {"higher_is_better": last.higher_is_better, "best": last.best}
    return {**named, **best, "points": [_point(point) for point in series.points]}


def _point(point: Point) -> dict[str, Any]:
    score, band = point.score, point.band
    return {
        "time": point.time.isoformat(),
        "release": point.release,
        "value": _finite(score.value),
        "low": _finite(score.low),
        "high": _finite(score.high),
        "n": score.n,
        "band_low": None if band is None else _finite(band.low),
        "band_high": None if band is None else _finite(band.high),
        "versions": point.versions,
        "learned": band is not None and band.learned,
        "new_release": point.new_release,
        "new_content": point.new_content,
        "alert": None if point.alert is None else point.alert.words,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(data: dict[str, Any], series: Sequence[Series], least: int) -> str:
    if not series:
        return f"{data['store']}: no evaluations. Record one with: ownlm eval MODEL --suite core --store URL"
    rows = [["model", "task", "shots", "metric", "evaluations", "now", "95% interval", "band"]]
    for one in series:
        point = one.points[-1]
        score, band = point.score, point.band
        if band is None:
            shown = f"{point.versions} of {least} versions known"
        else:
            ends = ("" if math.isinf(end) else f"{end:.4g}" for end in (band.low, band.high))
            shown = " to ".join(ends).strip()
        count, value = f"{len(one.points):,}", number(score.value)
        between = f"{number(score.low)} to {number(score.high)}" if math.isfinite(score.value) else ""
        rows.append(
            [
                one.model,
                one.task,
                str(one.shots),
                one.metric,
                count,
                value,
                between,
                shown,
            ]
        )
    lines = [f"ALERT {a['time'][:16].replace('T', ' ')} {a['model']}: {a['words']}" for a in data["alerts"]]
    report = [f"\nReport: {data['report']}"] if data["report"] else []
    return "\n".join([columns(rows, indent=""), *([""] if lines else []), *lines, *report])
