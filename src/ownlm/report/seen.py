"""The part of an evaluation's page that says which items the model may have been trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..units import plural
from .page import Report

# Items that the page shows.
SHOWN = 20


def add_seen(report: Report, found: Mapping[str, Any]) -> None:
    """Adds the section.

    Args:
        report: the page.
        found: as ``Check.as_json`` gives it.
    """
    if not found["datasets"] and not found["not_checked"]:
        return
    report.section(
        "Items in the training data",
        "An item counts as seen where its question stands in a training document, told from common quotations and templates by "
        "how rare its words are and by its answer nearby: in full with its answer, in part without it.",
    )
    if found["datasets"]:
        names = ", ".join(f"{one['name']} ({plural(one['documents'], 'document')})" for one in found["datasets"])
        report.note(f"Looked into: {names}.")
    for line in not_checked_lines(found):
        report.note(line)
    if not found["tasks"]:
        return
    keys = ("items", "in_full", "in_part", "not_found", "common_text", "cannot_be_judged")
    rows = [[task, *(counts[key] for key in keys)] for task, counts in found["tasks"].items()]
    note = "Common text stands in many documents. Items that are too short or too common cannot be judged, and are not called clean."
    report.table("Items seen", ["task", *(key.replace("_", " ") for key in keys)], rows, note=note)
    if found["scores"]:
        report.table(
            "Scores with and without them",
            [
                "task",
                "shots",
                "metric",
                "all items",
                "without those seen",
                "those seen",
                "seen less the others",
                "verdict",
            ],
            [
                [
                    one["task"],
                    one["shots"],
                    one["metric"],
                    *(_value(one[part]) for part in ("all", "clean", "seen")),
                    f"{one['difference']:.3g} ({one['low']:.3g} to {one['high']:.3g})",
                    one["words"],
                ]
                for one in found["scores"]
            ],
            note="With 95% intervals. Items seen may be easier or harder for other reasons.",
        )
    if found["seen"]:
        with report.fold(f"{plural(len(found['seen']), 'item')} seen, with the text that was found"):
            rows = [
                [
                    one["task"],
                    one["where"],
                    one["text"],
                    one["how"],
                    place["text"],
                    place["where"],
                    f"{place['share']:.0%}",
                ]
                for one in found["seen"][:SHOWN]
                for place in one["places"][:1]
            ]
            columns = ["task", "item", "its text", "seen", "training document", "where", "share of it"]
            report.table("Items seen", columns, rows, note="All of them stand in scores.json, by task and key.")


def not_checked_lines(found: Mapping[str, Any]) -> list[str]:
    """A sentence for each data set, model and task that could not be looked into."""
    titles = {"data": "Not looked into", "model": "Not known", "task": "Not looked for"}
    return [f"{titles[one['what']]}: {one['name']}, {one['reason']}." for one in found["not_checked"]]


def _value(value: Mapping[str, Any]) -> str:
    if not value["n"]:
        return "none"
    return f"{value['value']:.3g} ({value['low']:.3g} to {value['high']:.3g}; {value['n']:,} items)"
