"""What a result does on the held-out data beyond its loss: its measures, and which classes it takes for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..units import plural
from .page import Report

# Classes up to which the whole table of confusions is shown.
WHOLE_TABLE = 12
# Of more, so many of the commonest mistakes.
MISTAKES = 20

NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "F1, mean over the classes",
    "micro_f1": "F1 over all decisions",
    "matthews": "Matthews' correlation",
    "mean_squared_error": "mean squared error",
    "pearson": "Pearson's correlation",
    "spearman": "Spearman's rank correlation",
    "exact": "exact match, %",
    "f1": "F1 of the answers' words, %",
    "has_exact": "exact match where there is an answer, %",
    "has_f1": "F1 where there is an answer, %",
    "no_exact": "right where there is none, %",
    "null_threshold": "doubt from which there is no answer",
}


def add_held_out(report: Report, measured: Mapping[str, Any]) -> None:
    """Adds a section of held_out.json's measures; nothing where there are none."""
    rows = [[NAMES[name], float(value)] for name, value in measured.items() if name in NAMES]
    if not rows:
        return
    report.section("On the held-out data", "How good the result is, measured on data that it was not trained on.")
    report.table("Measures", ["measure", "value"], rows)
    confusion = measured.get("confusion") or {}
    labels, table = confusion.get("labels", []), confusion.get("table", [])
    if not labels:
        return
    note = "How much of what was taken for a class is of it, and how much of a class was found."
    report.table("Each class", ["class", "texts", "precision", "recall", "F1"], _by_class(labels, table), note)
    if len(labels) <= WHOLE_TABLE:
        counts = [[label, *row] for label, row in zip(labels, table, strict=True)]
        report.table("Taken for", ["given \\ taken for", *labels], counts)
        return
    mistakes = _mistakes(labels, table)
    if mistakes:
        title = f"The commonest mistakes: {plural(len(mistakes), 'pair')} of classes"
        report.table(title, ["given", "taken for", "texts"], mistakes)


def _by_class(labels: Sequence[str], table: Sequence[Sequence[int]]) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for place, label in enumerate(labels):
        right, given, taken = table[place][place], sum(table[place]), sum(row[place] for row in table)
        f1 = 2 * right / (given + taken) if given + taken else 0.0
        rows.append([label, given, right / taken if taken else 0.0, right / given if given else 0.0, f1])
    return rows


def _mistakes(labels: Sequence[str], table: Sequence[Sequence[int]]) -> list[tuple[str, str, int]]:
    pairs: list[tuple[str, str, int]] = [
        (given, taken, count)
        for given, row in zip(labels, table, strict=True)
        for taken, count in zip(labels, row, strict=True)
        if given != taken and count
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MISTAKES]
