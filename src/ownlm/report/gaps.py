"""Gaps between groups on the page of an evaluation: a table a kind of swap, and the widest as pairs of answers side by side."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from .page import Excerpt, Report
from .remarks import about, add_remarks

# Pairs of answers that are shown of a task, and of each kind of swap.
SHOWN, OF_A_KIND = 8, 2
MEASURES = {
    "likelihood": ("the same answer is likelier", "nats a token"),
    "length": ("answers are longer", "tokens"),
    "refusal": ("more refusals", ""),
    "sentiment": ("answers are of better sentiment", ""),
    "toxicity": ("answers are more toxic", ""),
}
"""What a gap above 0 means for the first group, and what it is counted in."""


def is_pair(record: Mapping[str, Any]) -> bool:
    """Whether a record is a pair of prompts that differ in whom they are about."""
    return "pair" in record and "prompts" in record


def add_gaps(report: Report, task: Mapping[str, Any], scores: Sequence[Mapping[str, Any]]) -> None:
    """Tables of a task's gaps, and its widest pairs.

    Args:
        report: the page.
        task: as ``evaluation_report`` has it; its records are pairs.
        scores: those of all tasks.
    """
    name = task["task"]
    own = [score for score in scores if score["task"].startswith(f"{name}/")]
    report.section(
        f"{name}: gaps between groups",
        "Each prompt was asked about two groups, all else the same. A gap is the first group's value less the second's; its "
        "size is what single pairs differ by, either way. Where the interval holds 0, no difference was found, which does "
        "not show that there is none.",
    )
    by_kind: dict[str, list[list[Any]]] = {}
    gaps = [score for score in own if score["metric"].endswith("_gap")]
    for score in gaps:
        kind, groups = _groups(score["task"])
        measure = score["metric"].removesuffix("_gap")
        size = next(
            (one["value"] for one in own if (one["task"], one["metric"]) == (score["task"], score["metric"] + "_size")),
            None,
        )
        row = [
            " less ".join(groups),
            measure,
            f"{score['value']:+.3g}",
            between(score),
            "" if size is None else f"{size:.3g}",
            score["n"],
            reading(score),
        ]
        by_kind.setdefault(kind, []).append(row)
    columns = ["groups", "measure", "gap", "95% interval", "size", "prompts", "reading"]
    for kind, rows in by_kind.items():
        differ = ", ".join(
            f"{' and '.join(_groups(score['task'])[1])} {100 * score['value']:.0f}%"
            for score in own
            if score["metric"] == "answers_differ" and _groups(score["task"])[0] == kind
        )
        report.table(
            f"Swap of {kind}", columns, rows, note=f"Pairs whose two answers differ: {differ}." if differ else ""
        )
    units = ", ".join(f"{name} in {unit}" for name, (_, unit) in MEASURES.items() if unit)
    apart = sum(leaves_out_nothing(score) for score in gaps)
    report.note(
        f"Units: {units}; the others from 0 to 1. {apart} of {len(gaps)} intervals leave 0 out; where no group were treated "
        f"differently, about {len(gaps) / 20:.0f} would by chance."
    )
    add_remarks(report, task)
    if task["about"] or task["source"]:
        report.note(about(task))
    _add_widest(report, name, task["records"])


def between(score: Mapping[str, Any]) -> str:
    """A gap's interval as text."""
    if not (math.isfinite(score["low"]) and math.isfinite(score["high"])):
        return "too few prompts to say"
    return f"{score['low']:+.3g} to {score['high']:+.3g}"


def leaves_out_nothing(score: Mapping[str, Any]) -> bool:
    """Whether a gap's interval lies on one side of 0."""
    return bool(score["low"] > 0 or score["high"] < 0)


def reading(score: Mapping[str, Any]) -> str:
    """A gap in words."""
    if not leaves_out_nothing(score):
        return "no difference found"
    groups = _groups(score["task"])[1]
    return f"{MEASURES[score['metric'].removesuffix('_gap')][0]} for {groups[score['value'] < 0]}"


def _groups(part: str) -> tuple[str, tuple[str, str]]:
    """The kind of swap and both groups of "task/kind:first-second"."""
    kind, _, groups = part.rpartition("/")[2].partition(":")
    first, _, second = groups.partition("-")
    return kind, (first, second)


def _add_widest(report: Report, task: str, records: Sequence[Mapping[str, Any]]) -> None:
    widest = _widest(records)
    if not widest:
        return
    report.section(
        f"{task}: the widest gaps",
        "Pairs that differ most for their measures' usual gaps, at most two of each kind of swap. What differs is marked. They "
        "were chosen for being the widest: the tables say what is usual.",
    )
    for record in widest:
        kind, groups = _groups(record["pair"])
        prompts = list(record["prompts"])
        runs = _marked(*record["answers"]) if "answers" in record else _marked(*prompts)
        excerpts = []
        for side, group in enumerate(groups):
            facts = [
                (name, f"{record[name][side]:.3g} {unit}".strip())
                for name, (_, unit) in MEASURES.items()
                if name in record and name != "refusal"
            ]
            refused = bool(record.get("refusal", (0, 0))[side])
            place = f"{group}: {_short(prompts[side])}" if "answers" in record else group
            badge = "refuses" if refused else ""
            excerpts.append(
                Excerpt(place, runs[side] or [("(no answer)", False)], facts, badge, False if refused else None)
            )
        report.side_by_side(f"{kind}: {groups[0]} and {groups[1]}", excerpts)


def _widest(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Pairs by the sum of their gaps, each in shares of its measure's mean size."""
    sizes = {
        measure: [abs(record[measure][0] - record[measure][1]) for record in records if measure in record]
        for measure in MEASURES
    }
    usual = {measure: sum(found) / len(found) for measure, found in sizes.items() if sum(found) > 0}

    def width(record: Mapping[str, Any]) -> float:
        return sum(abs(record[one][0] - record[one][1]) / usual[one] for one in usual if one in record)

    found: list[Mapping[str, Any]] = []
    kinds: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    for record in sorted(records, key=width, reverse=True):
        kind = _groups(record["pair"])[0]
        if not width(record) or kinds.get(kind, 0) == OF_A_KIND or (kind, record["where"]) in seen:
            continue
        kinds[kind] = kinds.get(kind, 0) + 1
        seen.add((kind, record["where"]))
        found.append(record)
        if len(found) == SHOWN:
            break
    return found


def _marked(first: str, second: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Two texts as runs, of which those are marked that the other lacks."""
    parts: list[list[str]] = [re.findall(r"\s+|\w+|[^\w\s]", text) for text in (first, second)]
    runs: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for step, a, b, c, d in difflib.SequenceMatcher(None, parts[0], parts[1], autojunk=False).get_opcodes():
        for into, words in ((runs[0], parts[0][a:b]), (runs[1], parts[1][c:d])):
            if words:
                into.append(("".join(words), step != "equal"))
    return runs


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
