"""How far a scorer can be trusted, for pages that show numbers it gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .page import Report


def add_scorers(report: Report, scorers: Sequence[Mapping[str, Any]]) -> None:
    """A section with each scorer's held-out figures, its known errors and HateCheck's functionalities.

    Args:
        report: the page.
        scorers: reports as ``scorer.json`` has them, of those that gave a number of this page.
    """
    if not scorers:
        return
    report.section(
        "Scorers",
        "Some numbers here were given by small models, which err as well. What is known of them stands here.",
    )
    for one in scorers:
        name = one["name"]
        report.note(f"{name}: {one['measures']}. Trained from {one['base'] or 'a model of its own'}.")
        if one["errors"]:
            report.table(f"Known errors of '{name}'", ["what it gets wrong"], [[text] for text in one["errors"]])
        if one["held_out"]:
            report.table(f"'{name}' on texts that it did not learn from", *_figures("figure", one["held_out"]))
        for title, key, column in (
            (f"'{name}' on HateCheck", "hatecheck", "functionality"),
            (f"'{name}' on HateCheck, by the group that a case is about", "hatecheck_groups", "group"),
        ):
            if one[key]:
                with report.fold(title):
                    report.table("Share of cases that it has right", *_figures(column, one[key]))
        if one.get("groups"):
            with report.fold(f"'{name}' on harmless texts that name groups of people"):
                report.table(
                    "Mean score, and how well it tells these texts from insults of the group (AUC) and from other toxic texts (BPSN)",
                    ["group", "in added texts", "mean score", "95% interval", "AUC", "BPSN AUC"],
                    _groups(one),
                )


def _groups(one: Mapping[str, Any]) -> list[list[Any]]:
    """A row for each group, the highest score first."""
    auc, bpsn = ({figure["name"]: figure["value"] for figure in one[key]} for key in ("groups_auc", "groups_bpsn"))
    rows = []
    for figure in sorted(one["groups"], key=lambda figure: -figure["value"]):
        name, low, high = figure["name"], figure["low"], figure["high"]
        both = [f"{of[name]:.3f}" if name in of else "" for of in (auc, bpsn)]
        rows.append([name, figure["label"], f"{figure['value']:.3f}", f"{low:.3f} to {high:.3f}", *both])
    return rows


def _figures(column: str, figures: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    labelled = any(one["label"] for one in figures)
    rows = [
        [
            one["name"].replace("_", " ") if column == "figure" else one["name"],
            *([one["label"]] if labelled else []),
            f"{one['value']:.3f}",
            f"{one['low']:.3f} to {one['high']:.3f}",
            one["n"],
        ]
        for one in figures
    ]
    return [column, *(["cases are"] if labelled else []), "value", "95% interval", "texts"], rows
