"""The page of a comparison of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .page import Report

FACTS = (
    ("architecture", "architecture", str),
    ("can be used for", "use", str),
    ("parameters", "parameters", lambda n: f"{n / 1e6:,.1f} M"),
    ("weights", "weight_bytes", lambda n: f"{n / 1e6:,.0f} MB"),
    ("a conversation of 1,000 tokens", "cache_token_bytes", lambda n: f"{n / 1e3:,.1f} MB more"),
    ("computes in", "dtype", str),
    ("context", "context", lambda n: f"{n:,} tokens"),
    ("reads", "read_tokens_per_second", lambda n: f"{n:,.0f} tokens/s"),
    ("writes one answer", "write_tokens_per_second", lambda n: f"{n:,.0f} tokens/s"),
    ("writes eight answers at once", "together_tokens_per_second", lambda n: f"{n:,.0f} tokens/s"),
    ("a million tokens cost", "cost_per_million", lambda n: f"{n:,.2f}"),
    ("limitations", "limitations", "; ".join),
)


def comparison_page(models: Sequence[Mapping[str, Any]], differences: Sequence[Mapping[str, Any]]) -> Report:
    """Builds the page.

    Args:
        models: facts of each, its scores and what it cannot do.
        differences: of the others from the first.
    """
    report = Report("Comparison", " and ".join(model["model"] for model in models))
    told = [one for one in differences if one["verdict"] in ("better", "worse", "different")]
    if differences:
        report.summary(
            f"{len(told)} of {len(differences)} differences are more than the noise, after correction for their number."
        )
    report.section("The models", "Counted, and timed on this machine.")
    rows = []
    for title, key, shown in FACTS:
        values = [model[key] for model in models]
        if any(value is not None for value in values):
            rows.append([title, *("" if value is None else shown(value) for value in values)])
    report.table("Facts", ["", *(model["model"] for model in models)], rows)
    for model in models:
        for why in model["cannot"]:
            report.note(f"{model['model']} cannot do {why}.")
    _add_scores(report, models)
    if differences:
        report.section("Differences", f"Of the same items, from {models[0]['model']}.")
        table = [
            [
                one["model"],
                one["task"],
                one["metric"],
                f"{one['difference']:+.3f}",
                f"{one['low']:+.3f} to {one['high']:+.3f}",
                f"{one['p_corrected']:.3f}",
                one["verdict"],
            ]
            for one in differences
        ]
        names = ["model", "task", "metric", "difference", "95% interval", "p, corrected", "verdict"]
        report.table("Differences", names, table)
        with report.fold("In words"):
            for one in differences:
                report.note(f"{one['task']}, {one['metric']}: {one['words']}")
    return report


def _add_scores(report: Report, models: Sequence[Mapping[str, Any]]) -> None:
    by_name: dict[tuple[str, int, str], dict[str, Mapping[str, Any]]] = {}
    for model in models:
        for score in model["scores"]:
            key = (score["task"], score["shots"], score["metric"])
            by_name.setdefault(key, {})[model["model"]] = score
    if not by_name:
        return
    report.section("Scores", "With their 95% intervals.")
    rows = []
    for (task, shots, metric), scores in by_name.items():
        cells = []
        for model in models:
            one = scores.get(model["model"])
            cells.append("" if one is None else f"{one['value']:.3f} ({one['low']:.3f} to {one['high']:.3f})")
        rows.append([task, shots, metric, *cells])
    report.table("Scores", ["task", "shots", "metric", *(model["model"] for model in models)], rows)
