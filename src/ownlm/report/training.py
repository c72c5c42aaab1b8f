"""The training report: what a run did, from the files in its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..config import flatten, read_yaml
from ..files import read_json
from ..units import format_bytes, format_count, format_number, format_seconds, plural
from .charts import BarChart, LineChart, Points
from .evaluated import add_evaluations
from .held_out import NAMES, add_held_out
from .memorisation import SOURCE, add_memorisation
from .overfitting import Fit, add_gap, add_measures, judge_fit
from .page import Figure, Report, Sample
from .passes import add_passes

Metrics = Sequence[Mapping[str, float]]
"""The lines of metrics.jsonl, in order."""

LEDGER_PARTS = {
    "trained": "trained",
    "masked": "context only",
    "truncated": "truncated",
    "dropped": "dropped",
    "unseen": "unseen",
}
"""The ledger's keys, and what they are called: a masked token is another thing to who trains a BERT."""
LEDGER_MEANING = (
    "Every token of every source is counted once: trained (in the loss), context only (read, such as the user's words, "
    "but not in the loss), truncated, dropped, or not yet seen when the run ended."
)

PLANNED: Sequence[tuple[str, str, Callable[[float], str]]] = (
    ("memory_bytes", "peak memory", format_bytes),
    ("tokens_per_second", "tokens/s", format_number),
    ("hours", "time", lambda hours: format_seconds(3600 * hours)),
    ("parameters", "parameters", format_count),
)
"""What a plan says: its key in the summary, its name, and how it is written."""


def write_training_report(run_folder: Path) -> Path:
    """Writes ``report.html`` into a run's folder and returns its path.

    Raises:
        DataError: a file of the run is not what a run writes.
        StorageError: the page could not be written.
    """
    path = run_folder / "report.html"
    training_report(run_folder).write(path)
    return path


def training_report(run_folder: Path, title: str = "Training report", about: str = "") -> Report:
    """The report, to be written or to have more sections added; a file that is not there leaves its section out."""
    metrics = read_metrics(run_folder / "metrics.jsonl")
    run = _optional_json(run_folder / "run.json")
    ledger = _optional_json(run_folder / "ledger.json")
    samples = _optional_json(run_folder / "samples.json") or []
    report = Report(title, subtitle=str(run.get("run") or run_folder))
    told = _what_is_told(run_folder)
    for paragraph in ([about] if about else []) + _summary(metrics, run, ledger, told):
        report.summary(paragraph)
    report.figures(_key_figures(metrics, run))
    _add_curves(report, metrics, told)
    add_evaluations(report, metrics)
    add_held_out(report, _optional_json(run_folder / "held_out.json"))
    add_memorisation(report, run.get("memorisation") or {})
    if samples:
        report.section("Before and after", "Answers to the same prompts, from the model as it was and as it is now.")
        report.compare([Sample(str(s["prompt"]), str(s["before"]), str(s["after"])) for s in samples])
    if ledger:
        _add_ledger(report, ledger)
        add_passes(report, run.get("passes") or {}, wanted=[SOURCE])
    _add_planned(report, run)
    _add_lineage(report, run_folder, run)
    if (run_folder / "config.yaml").is_file():
        report.section("Configuration", "Everything that decided this run; the same file repeats it.")
        rows = as_rows(read_yaml(run_folder / "config.yaml"))
        report.table("config.yaml", ["key", "value"], rows)
    return report


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The lines of a metrics.jsonl; a last line that was cut off by an interruption is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def as_rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested values as (dotted key, text) rows of a table."""
    return [(key, _as_text(value)) for key, value in flatten(values)]


def _as_text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_as_text(item) for item in value) or "none"
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _optional_json(path: Path) -> Any:
    return read_json(path) if path.is_file() else {}


def _points(metrics: Metrics, key: str) -> Points:
    return [(row["step"], row[key]) for row in metrics if row.get(key) is not None]


def _tokens_read(metrics: Metrics, run: Mapping[str, Any]) -> float:
    """Tokens read in the whole run; a step's line counts those so far."""
    return run.get("tokens") or max((row.get("tokens", 0) for row in metrics), default=0)


def _what_is_told(run_folder: Path) -> str | None:
    """What the loss is the surprise at, so that it says how likely the model finds it; None where it is more than that."""
    path = run_folder / "config.yaml"
    objective = (read_yaml(path).get("objective") or {}) if path.is_file() else {}
    match objective.get("kind", "causal"):
        case "causal" | "chat" | "seq2seq":
            return "right next token"
        case "masked" if not objective.get("next_sentence"):
            return "hidden token"
        case "classify" if objective.get("problem", "single") == "single":
            plain = not objective.get("weights") and not objective.get("smoothing")
            return "right class" if plain else None
        case _:
            return None


def _summary(
    metrics: Metrics, run: Mapping[str, Any], ledger: Mapping[str, Any], told: str | None = "right next token"
) -> list[str]:
    training = _points(metrics, "loss")
    if not training:
        return ["The run has not finished a step yet."]
    steps = int(run.get("steps") or training[-1][0])
    tokens = _tokens_read(metrics, run)
    documents = sum(source.get("documents", 0) for source in ledger.get("sources", {}).values()) if ledger else 0
    of = f" of {plural(documents, 'document')}" if documents else ""
    took = f" in {format_seconds(run['seconds'])}" if run.get("seconds") else ""
    text = f"The model was trained for {plural(steps, 'step')} on {format_count(tokens)} tokens{of}{took}."
    return [text, _verdict(metrics, told), *_chosen(run)]


def _chosen(run: Mapping[str, Any]) -> list[str]:
    """Where not the loss decided which weights are the result: what did."""
    if run.get("best_by", "loss") == "loss" or run.get("best_step") is None:
        return []
    return [f"The result is the weights of step {run['best_step']:,}, the best by held-out {run['best_by']}."]


def _verdict(metrics: Metrics, told: str | None) -> str:
    """What the losses mean, in words."""
    validation = _points(metrics, "val_loss")
    if len(validation) < 2:
        training = _points(metrics, "loss")
        first, last = training[0][1], _late_mean(training)[0]
        text = f"The loss on the text it trained on went from {first:.3f} to {last:.3f}."
        return text + " Without a validation set, this does not say how it does on text it has not seen."
    first, last = validation[0][1], validation[-1][1]
    best_step, best = min(validation, key=lambda point: point[1])
    if not all(math.isfinite(y) for y in (first, best)):
        return "The loss is not a finite number: the training failed. A lower learning rate is the first thing to try."
    if best >= first:
        return f"On text it has not seen, the loss did not fall below the {first:.3f} it began with."
    text = f"On text it has not seen, the loss fell from {first:.3f} to {best:.3f}, {_share(1 - best / first)} lower"
    if told is None:
        text += "."
    else:
        chance = f"{100 * math.exp(-first):.3g}% to {100 * math.exp(-best):.3g}%"
        text += f": the probability it gives to the {told} rose from {chance} (geometric mean)."
    fit = _fit(metrics)
    if fit.verdict == "overfitting":
        return f"{text} {fit.text}"
    if last > best * 1.01:
        text += f" After step {int(best_step):,} it rose again, to {last:.3f}."
    return text


def _fit(metrics: Metrics) -> Fit:
    return judge_fit(_points(metrics, "loss"), _points(metrics, "val_loss"))


def _share(share: float) -> str:
    """43%, or 0.5% where whole percents would be none."""
    return f"{share:.0%}" if share >= 0.01 else "under 0.1%" if share < 0.001 else f"{share:.1%}"


def _key_figures(metrics: Metrics, run: Mapping[str, Any]) -> list[Figure]:
    figures = []
    validation, training = _points(metrics, "val_loss"), _points(metrics, "loss")
    if validation:
        first, best = validation[0][1], min(y for _, y in validation)
        change = (
            f"from {first:.3f}, {_share(1 - best / first)} lower" if best < first else f"from {first:.3f}, not lower"
        )
        figures.append(Figure("Held-out loss", f"{best:.3f}", change if len(validation) > 1 else "", best < first))
    if training:
        end, steps = _late_mean(training)
        figures.append(Figure("Training loss", f"{end:.3f}", f"mean of the last {steps} steps" if steps > 1 else ""))
        figures.append(Figure("Steps", f"{int(run.get('steps') or training[-1][0]):,}"))
    tokens = _tokens_read(metrics, run)
    if tokens:
        figures.append(Figure("Tokens", format_count(tokens)))
    speeds = [y for _, y in _points(metrics, "tokens_per_second")]
    speed = run.get("tokens_per_second") or (sorted(speeds)[len(speeds) // 2] if speeds else None)
    if speed:
        figures.append(Figure("Speed", f"{format_number(speed)}", "tokens/s"))
    if run.get("peak_memory_bytes"):
        figures.append(Figure("Peak memory", format_bytes(run["peak_memory_bytes"])))
    if run.get("seconds"):
        figures.append(Figure("Time", format_seconds(run["seconds"])))
    if run.get("parameters"):
        trained = run.get("trained_parameters")
        note = f"{format_count(trained)} of them trained" if trained and trained != run["parameters"] else ""
        figures.append(Figure("Parameters", format_count(run["parameters"]), note))
    return figures


def _late_mean(points: Points) -> tuple[float, int]:
    """The mean over the last tenth, since a single step is mostly noise; and how many steps that is."""
    late = points[-max(1, len(points) // 10) :]
    return sum(y for _, y in late) / len(late), len(late)


def _add_curves(report: Report, metrics: Metrics, told: str | None) -> None:
    loss = {"training": _points(metrics, "loss"), "held out": _points(metrics, "val_loss")}
    loss = {name: points for name, points in loss.items() if points}
    if not loss:
        return
    report.section("Curves")
    unit = "; nats a token" if told is not None and told.endswith("token") else ""
    caption = f"Lower is better{unit}. The faint line is each step, the strong one their running mean."
    report.chart(LineChart("Loss", loss, caption=caption, smooth=("training",), markers=("held out",)))
    fit = _fit(metrics)
    add_gap(report, fit)
    add_measures(report, metrics, NAMES)
    for key, title, caption in (
        ("lr", "Learning rate", "How large the updates were."),
        ("grad_norm", "Gradient norm", "Spikes mean unsteady training."),
        ("tokens_per_second", "Speed", "Tokens read each second."),
    ):
        if points := _points(metrics, key):
            smooth = () if key == "lr" else (title,)
            report.chart(LineChart(title, {title: points}, caption=caption, smooth=smooth))
    report.note(fit.text, warning=fit.warns)


def _add_ledger(report: Report, ledger: Mapping[str, Any]) -> None:
    report.section("What became of the data", LEDGER_MEANING)
    total = ledger.get("total") or {}
    bars = [(name, amount) for part, name in LEDGER_PARTS.items() if (amount := _tokens_of(total.get(part)))]
    if bars:
        report.chart(BarChart("Tokens of all sources", bars, unit="tokens"))
    columns = ["source", "documents", "tokens", *LEDGER_PARTS.values()]
    named = {**ledger.get("sources", {})}
    if len(named) > 1 and total:
        named["all"] = total
    rows = [
        [name, source.get("documents"), source.get("tokens"), *(_tokens_of(source.get(part)) for part in LEDGER_PARTS)]
        for name, source in named.items()
    ]
    report.table("Ledger, in tokens", columns, rows)
    reasons = [
        [name, reason, counts.get("documents"), counts.get("tokens")]
        for name, source in ledger.get("sources", {}).items()
        for reason, counts in (source.get("dropped") or {}).items()
        if isinstance(counts, Mapping)
    ]
    if reasons:
        report.table("Dropped, with the reason", ["source", "reason", "documents", "tokens"], reasons)
    if truncated := _tokens_of(total.get("truncated")):
        report.note(f"{truncated:,} tokens were cut off because their documents were too long.", warning=True)


def _add_planned(report: Report, run: Mapping[str, Any]) -> None:
    """What 'ownlm plan' said of the run, beside what it took."""
    planned = run.get("planned") or {}
    hours = run["seconds"] / 3600 if run.get("seconds") else None
    actual: dict[str, Any] = {"memory_bytes": run.get("peak_memory_bytes"), "hours": hours}
    actual |= {key: run.get(key) for key in ("tokens_per_second", "parameters")}
    rows = [
        [name, show(planned[key]), show(actual[key]), f"{100 * (actual[key] / planned[key] - 1):+.0f}%"]
        for key, name, show in PLANNED
        if planned.get(key) and actual.get(key)
    ]
    if rows:
        report.section("Planned and actual", "What 'ownlm plan' said of this run before it began, and what it took.")
        report.table("Planned and actual", ["what", "planned", "actual", "difference"], rows)


def _tokens_of(part: Any) -> int:
    """The tokens of one part of the ledger: a number, or counts by reason."""
    if isinstance(part, Mapping):
        return sum(counts.get("tokens", 0) if isinstance(counts, Mapping) else counts for counts in part.values())
    return int(part or 0)


def _add_lineage(report: Report, run_folder: Path, run: Mapping[str, Any]) -> None:
    saved = _optional_json(run_folder / "model" / "ownlm.json")
    lineage = saved.get("lineage") or run.get("lineage") or {}
    # The configuration and the metrics have their own sections.
    rows = as_rows({key: value for key, value in lineage.items() if key not in ("config", "metrics", "held_out")})
    if saved.get("ownlm"):
        rows.append(("ownlm", saved["ownlm"]))
    if rows:
        report.section("Lineage", "What the model was made from. The hashes name exact contents.")
        report.table("Where it comes from", ["what", "value"], rows)
