"""Runs side by side: the settings that differ, how they came out, and their curves over one another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import flatten, read_yaml
from ..errors import UserError
from ..files import read_json
from ..units import format_bytes, format_number
from .charts import SERIES, LineChart, Points
from .page import Report
from .training import read_metrics

# Settings that tell runs apart without changing what they learn.
NO_DIFFERENCE = ("out", "device", "track")
# As many settings stand beside what came of a run; more are below one another.
BESIDE = 6


def compare_runs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """What ``ownlm runs --json`` prints of each run, in their order.

    Each is {"run", "steps", "loss", "val_loss", "tokens_per_second", "peak_memory_bytes", "differs"}; what a run has
    not come to is None, and ``differs`` are those of its settings that are not the same in all of the runs.

    Raises:
        UserError: a folder is no run.
    """
    settings = [_settings(folder) for folder in folders]
    keys = dict.fromkeys(key for values in settings for key in values)
    differing = [
        key
        for key in keys
        if key.split(".")[0] not in NO_DIFFERENCE and any(s.get(key) != settings[0].get(key) for s in settings)
    ]
    return [
        _outcome(folder) | {"differs": {key: values.get(key) for key in differing}}
        for folder, values in zip(folders, settings, strict=True)
    ]


def comparison_report(
    folders: Sequence[Path], title: str = "Runs", best: str | None = None, lowest: bool = True
) -> Report:
    """The page: a table and the curves.

    Args:
        folders: the runs, in the order in which they are shown; the first ones have their curves drawn.
        title: the page's.
        best: what decided their order, if anything did, such as val_loss.
        lowest: whether lower is better.
    """
    runs = compare_runs(folders)
    report = Report(title, subtitle=f"{len(runs)} runs")
    if best is not None and runs:
        order = "lowest" if lowest else "highest"
        report.summary(f"The best is {_short(folders)[0]}, with the {order} {best}.")
    keys = list(runs[0]["differs"]) if runs else []
    names = _short(folders)
    report.section("What came of them, and what differs")
    # Many settings are a table of their own, so that what came of the runs stays in sight.
    beside = keys if len(keys) <= BESIDE else []
    columns = ["run", *beside, "steps made", "loss", "held-out loss", "tokens/s", "peak memory"]
    rows = [
        [
            name,
            *(_shown(run["differs"][key]) for key in beside),
            run["steps"],
            run["loss"],
            run["val_loss"],
            run["tokens_per_second"],
            None if run["peak_memory_bytes"] is None else format_bytes(run["peak_memory_bytes"]),
        ]
        for name, run in zip(names, runs, strict=True)
    ]
    report.table("Runs", columns, rows)
    if len(keys) > BESIDE:
        settings = [[key, *(_shown(run["differs"][key]) for run in runs)] for key in keys]
        report.table("Settings that differ", ["setting", *names], settings)
    _add_curves(report, folders)
    return report


def settings_rows(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each setting that differs and a column for each run, with a row of headings; for the terminal."""
    rows = [["setting", *(str(run["run"]) for run in runs)]]
    return rows + [[key, *(_shown(run["differs"][key]) for run in runs)] for key in runs[0]["differs"]]


def table_rows(runs: Sequence[Mapping[str, Any]], settings: bool = True) -> list[list[str]]:
    """What came of each run as text, with a row of headings, for the terminal; with its settings that differ or not."""
    keys = list(runs[0]["differs"]) if runs and settings else []
    rows = [["run", *keys, "steps made", "loss", "held-out", "tokens/s", "memory"]]
    for run in runs:
        memory = run["peak_memory_bytes"]
        numbers = [run["loss"], run["val_loss"], run["tokens_per_second"]]
        shown = ["–" if number is None else format_number(number) for number in numbers]
        differs = [_shown(run["differs"][key]) for key in keys]
        rows.append([str(run["run"]), *differs, f"{run['steps']:,}", *shown, format_bytes(memory) if memory else "–"])
    return rows


def _settings(folder: Path) -> dict[str, Any]:
    if not (folder / "config.yaml").is_file():
        raise UserError("this is no run: it has no config.yaml", where=str(folder), hint="name a run's folder")
    return dict(flatten(read_yaml(folder / "config.yaml")))


def _outcome(folder: Path) -> dict[str, Any]:
    """From the run's summary, or, of one that has not ended, from its metrics."""
    names = ("steps", "loss", "val_loss", "tokens_per_second", "peak_memory_bytes")
    if (folder / "run.json").is_file():
        summary = read_json(folder / "run.json")
        return {"run": str(folder)} | {name: summary.get(name) for name in names}
    metrics = read_metrics(folder / "metrics.jsonl")
    steps = [row for row in metrics if "loss" in row]
    held = [row["val_loss"] for row in metrics if "val_loss" in row and row["step"]]
    speeds = sorted(row["tokens_per_second"] for row in steps)
    return {
        "run": str(folder),
        "steps": int(steps[-1]["step"]) if steps else 0,
        "loss": steps[-1]["loss"] if steps else None,
        "val_loss": min(held, default=None),
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "peak_memory_bytes": None,
    }


def _add_curves(report: Report, folders: Sequence[Path]) -> None:
    drawn = folders[: len(SERIES)]
    metrics = [read_metrics(folder / "metrics.jsonl") for folder in drawn]
    left = f" The first {len(drawn)} of {len(folders)} runs." if len(drawn) < len(folders) else ""
    report.section("Curves")
    for key, title in (("val_loss", "Held-out loss"), ("loss", "Training loss")):
        lines: dict[str, Points] = {}
        for name, rows in zip(_short(drawn), metrics, strict=True):
            points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
            if points:
                lines[name] = points
        if lines:
            marks = tuple(lines) if key == "val_loss" else ()
            smooth = tuple(lines) if key == "loss" else ()
            report.chart(LineChart(title, lines, caption=f"Lower is better.{left}", markers=marks, smooth=smooth))


def _short(folders: Sequence[Path]) -> list[str]:
    """The runs' names: their folders' own where these differ, else with what tells them apart before it."""
    names = [folder.name for folder in folders]
    if len(set(names)) == len(names):
        return names
    paths = [folder.resolve() for folder in folders]
    above = Path(os.path.commonpath([path.parent for path in paths]))
    return [path.relative_to(above).as_posix() for path in paths]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "empty"
    return "none" if value is None else str(value)
