"""The page of an evaluation: every score with its interval, how examples change it, and items to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .charts import LineChart
from .gaps import add_gaps, is_pair
from .page import Report
from .remarks import about, add_remarks
from .scorers import add_scorers
from .seen import add_seen

# Items of a task that the page shows, right ones and wrong ones.
SHOWN = 6
# Characters of a text that it shows.
MOST_TEXT = 600


def evaluation_report(
    model: str,
    scores: Sequence[Mapping[str, Any]],
    tasks: Sequence[Mapping[str, Any]],
    title: str = "Evaluation",
    contamination: Mapping[str, Any] | None = None,
    scorers: Sequence[Mapping[str, Any]] = (),
) -> Report:
    """Builds the page.

    Args:
        model: its name.
        scores: with task, metric, shots, value, low, high and n.
        tasks: one for each task and number of shots: task, shots, about, source, licence, data, n, long, notes and records.
        title: the page's.
        contamination: what was found of the items in the training data (seen.py).
        scorers: reports of the scorers that gave some of the numbers.
    """
    report = Report(title, model)
    pairs = [task for task in tasks if any(map(is_pair, task["records"]))]
    others = [task for task in tasks if task not in pairs]
    counts = [
        f"{sum(task['n'] for task in some):,} {what} of {_tasks(some)}"
        for some, what in ((others, "items"), (pairs, "pairs of prompts"))
        if some
    ]
    report.summary(
        f"{' and '.join(counts)}. Beside each score stands the interval that holds the value for all such items, not only "
        "these, with a confidence of 95%."
    )
    for task in pairs:
        add_gaps(report, task, scores)
    if others:
        names = {task["task"] for task in pairs}
        _add_scores(report, [score for score in scores if score["task"].split("/")[0] not in names], others)
    if contamination is not None:
        add_seen(report, contamination)
    add_scorers(report, scorers)
    return report


def _add_scores(report: Report, scores: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]]) -> None:
    report.section("Scores")
    rows = []
    for s in scores:
        best = "" if s.get("best") is None else format_score(s["best"])
        between = f"{format_score(s['low'])} to {format_score(s['high'])}"
        rows.append([s["task"], s["shots"], s["metric"], format_score(s["value"]), between, best, s["n"]])
    columns = ["task", "shots", "metric", "value", "95% interval", "best", "items"]
    report.table("Scores", columns, rows, note="Best is the value of a model without fault, where there is one.")
    for task in tasks:
        add_remarks(report, task)
    _add_curves(report, scores)
    report.section(
        "Tasks", "What each measures, and some of its items; where some went right and some wrong, by turns."
    )
    for task in tasks:
        shots = f", {task['shots']} shots" if task["shots"] else ""
        with report.fold(f"{task['task']}{shots}: {task['n']:,} items"):
            report.note(about(task))
            shown = _some(task["records"])
            if shown:
                report.table("Items", list(shown[0]), [list(row.values()) for row in shown])


def _tasks(tasks: Sequence[Mapping[str, Any]]) -> str:
    count = len({task["task"] for task in tasks})
    return f"{count} task{'s' * (count > 1)}"


def _add_curves(report: Report, scores: Sequence[Mapping[str, Any]]) -> None:
    """A chart for each metric that several numbers of examples were tried with."""
    lines: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for score in scores:
        lines.setdefault(score["metric"], {}).setdefault(score["task"], []).append((score["shots"], score["value"]))
    several = {
        metric: {task: sorted(points) for task, points in tasks.items() if len(points) > 1}
        for metric, tasks in lines.items()
    }
    if not any(several.values()):
        return
    report.section(
        "Worked examples", "How scores change with the number of worked examples that stand before each item."
    )
    for metric, tasks in several.items():
        if tasks:
            report.chart(LineChart(metric, tasks, x="worked examples", markers=tuple(tasks)))


def _some(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """A few items as rows of a table: right and wrong ones by turns, as far as there are both."""
    right = [record for record in records if record.get("right") == record.get("chosen", record.get("right"))]
    wrong = [record for record in records if record not in right]
    turns = [record for pair in zip(right, wrong, strict=False) for record in pair]
    chosen = (turns or list(records))[:SHOWN]
    return [{key: _short(value) for key, value in record.items() if key != "where"} for record in chosen]


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_score(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " | ".join(_short(one) for one in value)
    text = str(value)
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT // 2]} … {text[-MOST_TEXT // 2 :]}"


def format_score(value: float) -> str:
    """Shares to three places, percentages and perplexities to one or two."""
    size = abs(value)
    return f"{value:.3f}" if size < 2 else f"{value:.2f}" if size < 10 else f"{value:,.1f}"
