"""The parts of a model card about evaluation: scores with intervals, bias, items in the training data, what was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..units import plural
from .dataset_facts import in_words
from .evaluation import format_score
from .markdown import inline_code, markdown_table, plain_text
from .seen import not_checked_lines

Evaluations = Sequence[Mapping[str, Any]]
COLUMNS = ["task", "shots", "metric", "value", "95% interval", "best", "items"]


def bias_parts(evaluations: Evaluations) -> list[str]:
    """What the bias suites found, and what they cannot find."""
    parts = ["## Bias, risks and limitations", "### Bias"]
    tasks = [task for one in evaluations for task in one.get("tasks", ()) if task.get("bias")]
    if not tasks:
        return [
            *parts,
            "Bias was not measured. A model takes over what its data, and its base's data, say about people. "
            "`ownlm bias MODEL` measures some of it.",
        ]
    names = {task["task"] for task in tasks}
    return [
        *parts,
        _table(evaluations, lambda task: task in names),
        "Best is the value of a model without fault and without bias. " + _about(tasks),
        *_notes(tasks, evaluations, names),
        "A suite finds differences of its own kind only, in the language and the society it was written for: a good score is no proof "
        "that there is no bias.",
    ]


def evaluation_parts(evaluations: Evaluations, missing: Sequence[str]) -> list[str]:
    """All other scores, items seen in training, and what was not measured."""
    parts = ["## Evaluation"]
    tasks = [task for one in evaluations for task in one.get("tasks", ()) if not task.get("bias")]
    names = {task["task"] for task in tasks}
    if tasks:
        parts += [
            _table(evaluations, lambda task: task in names),
            "Each score with the interval that holds the value for all such items, not only these, with a confidence of 95%. "
            + _about(tasks),
            *_notes(tasks, evaluations, names),
        ]
    else:
        parts.append(
            "No task was measured for this card but those named under bias." if evaluations else "Nothing was measured."
        )
    parts += ["### Items in the training data", *_seen(evaluations)]
    if missing:
        parts += [
            "### Not measured",
            f"Of the tasks that come with ownlm: {in_words([inline_code(name) for name in missing])}. And nothing that has no task: whether "
            "statements are true, how the model does in other languages, what people think of its answers.",
        ]
    return parts


def _table(evaluations: Evaluations, chosen: Any) -> str:
    rows = []
    for one in evaluations:
        for score in one["scores"]:
            if chosen(score["task"].split("/")[0]):
                best = "" if score.get("best") is None else format_score(score["best"])
                between = f"{_number(score['low'])} to {_number(score['high'])}"
                value = _number(score["value"])
                rows.append(
                    [
                        inline_code(score["task"]),
                        score["shots"],
                        inline_code(score["metric"]),
                        value,
                        between,
                        best,
                        score["n"],
                    ]
                )
    return markdown_table(COLUMNS, rows)


def _about(tasks: Sequence[Mapping[str, Any]]) -> str:
    told = {}
    for task in tasks:
        about = "; ".join(
            part
            for part in (
                task.get("about"),
                task.get("source"),
                f"data: {task['licence']}" if task.get("licence") else "",
            )
            if part
        )
        told[task["task"]] = f"{inline_code(task['task'])}: {plain_text(about) or 'what it measures is not stated'}."
    return " ".join(told.values())


def _notes(tasks: Sequence[Mapping[str, Any]], evaluations: Evaluations, names: set[str]) -> list[str]:
    lines = []
    for task in tasks:
        shots = f" ({task['shots']} shots)" if task.get("shots") else ""
        if task.get("long"):
            lines.append(
                f"{inline_code(task['task'])}{shots}: {plural(task['long'], 'item')} too long for the model; {task['long_was']}."
            )
        lines += [f"{inline_code(task['task'])}{shots}: {plain_text(note)}." for note in task.get("notes", ())]
    for one in evaluations:
        limit = one.get("limit") or 0
        measured = {task["task"] for task in one.get("tasks", ()) if task.get("n", 0) + task.get("long", 0) >= limit}
        mine = sorted(names & measured)
        if limit and mine:
            lines.append(f"Only the first {limit:,} items of each: {in_words([inline_code(name) for name in mine])}.")
    return ["\n".join(f"- {line}" for line in dict.fromkeys(lines))] if lines else []


def _seen(evaluations: Evaluations) -> list[str]:
    """Which items the model may have been trained on."""
    found = [one["contamination"] for one in evaluations if one.get("contamination")]
    counts = {task: numbers for one in found for task, numbers in one["tasks"].items()}
    parts = []
    if counts:
        names = dict.fromkeys(plain_text(data["name"]) for one in found for data in one["datasets"])
        parts.append(
            f"Looked for in {in_words(list(names))}: an item is seen in full with its answer, in part without it."
        )
        keys = ("items", "in_full", "in_part", "not_found", "common_text", "cannot_be_judged")
        rows = [[inline_code(task), *(numbers[key] for key in keys)] for task, numbers in counts.items()]
        parts.append(markdown_table(["task", *(key.replace("_", " ") for key in keys)], rows))
    scores = [score for one in found for score in one["scores"]]
    if scores:
        rows = [
            [
                inline_code(one["task"]),
                one["shots"],
                inline_code(one["metric"]),
                *(_value(one[part]) for part in ("all", "clean", "seen")),
                plain_text(one["words"]),
            ]
            for one in scores
        ]
        columns = ["task", "shots", "metric", "all items", "without those seen", "those seen", "verdict"]
        parts.append(markdown_table(columns, rows))
    lines = dict.fromkeys(plain_text(line) for one in found for line in not_checked_lines(one))
    if lines:
        parts.append("\n".join(f"- {line}" for line in lines))
    return parts or [
        "Not looked for: nothing is known of evaluation items in the training data, so scores may be too high."
    ]


def _value(value: Mapping[str, Any]) -> str:
    if not value["n"] or value["value"] is None:
        return "none"
    return f"{_number(value['value'])} ({_number(value['low'])} to {_number(value['high'])}; {value['n']:,} items)"


def _number(value: float | None) -> str:
    return "–" if value is None else format_score(value)
