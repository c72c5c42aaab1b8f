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
    "likelihood": "the same answer is likelier, in nats a token",
    "length": "answers are longer, in tokens",
    "refusal": "more answers refuse, as a share",
    "sentiment": "answers are of better sentiment, from 0 to 1",
    "toxicity": "answers are more toxic, from 0 to 1",
}
"""What a gap above 0 means for the first group, and after the comma what it is counted in."""
_FACTS = {"likelihood": "the same answer's likelihood"}
_UNITS = {"likelihood": " nats a token", "length": " tokens"}
# Answers that have less in common are not marked: nearly all would be.
_ALIKE = 0.5


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
        "Each prompt was asked about two groups, all else the same. A gap is the first group's value less the second's. "
        "Where its interval holds 0, no difference was found, which does not show that there is none.",
    )
    gaps = [score for score in own if score["metric"].endswith("_gap")]
    _add_overview(report, own, gaps)
    add_remarks(report, task)
    if task["about"] or task["source"]:
        report.note(about(task))
    _add_widest(report, name, task["records"])
    report.section(f"{name}: every gap with its interval")
    for kind in dict.fromkeys(_groups(score["task"])[0] for score in gaps):
        with report.fold(f"Swap of {kind}"):
            _add_table(report, kind, own, gaps)


def _add_overview(report: Report, scores: Sequence[Mapping[str, Any]], gaps: Sequence[Mapping[str, Any]]) -> None:
    """A row for each two groups."""
    measures = list(dict.fromkeys(score["metric"].removesuffix("_gap") for score in gaps))
    rows: dict[str, dict[str, Any]] = {}
    for score in scores:
        cells = rows.setdefault(score["task"], {"prompts": score["n"]})
        if score in gaps:
            star = "*" if leaves_nothing_out(score) else ""
            cells[score["metric"].removesuffix("_gap")] = figure(score) + star
        elif score["metric"] == "answers_differ":
            cells["answers differ"] = f"{100 * score['value']:.0f}%"
    columns = [
        "prompts",
        *measures,
        *(["answers differ"] if any("answers differ" in one for one in rows.values()) else []),
    ]
    shown = []
    for part, cells in rows.items():
        kind, groups = _groups(part)
        shown.append([f"{kind}: {groups[0]} less {groups[1]}", *(cells.get(column, "") for column in columns)])
    apart = sum(map(leaves_nothing_out, gaps))
    meanings = "; ".join(f"{name}: {said}" for name, said in MEASURES.items() if name in measures)
    report.table(
        "Mean gaps",
        ["groups", *columns],
        shown,
        note=f"Above 0, for the first group, {meanings}. * The 95% interval leaves 0 out: {apart} of {len(gaps)}. Were no "
        f"group treated differently, about {len(gaps) / 20:.0f} would by chance.",
    )


def _add_table(
    report: Report, kind: str, scores: Sequence[Mapping[str, Any]], gaps: Sequence[Mapping[str, Any]]
) -> None:
    """All gaps of a kind of swap."""
    sizes = {(score["task"], score["metric"]): score["value"] for score in scores}
    rows = [
        [
            " less ".join(_groups(score["task"])[1]),
            score["metric"].removesuffix("_gap"),
            figure(score),
            between(score),
            figure(score, sizes[score["task"], score["metric"] + "_size"]).removeprefix("+"),
            score["n"],
            reading(score),
        ]
        for score in gaps
        if _groups(score["task"])[0] == kind
    ]
    columns = ["groups", "measure", "gap", "95% interval", "size", "prompts", "reading"]
    report.table(f"Gaps of {kind}", columns, rows, note="Size is what single pairs differ by, either way.")


def figure(score: Mapping[str, Any], value: float | None = None) -> str:
    """A gap's value, or another of its kind, with its sign and as many places as all of its kind."""
    places = 1 if score["metric"] == "length_gap" else 3
    return f"{score['value'] if value is None else value:+.{places}f}"


def between(score: Mapping[str, Any]) -> str:
    """A gap's interval as text."""
    if not (math.isfinite(score["low"]) and math.isfinite(score["high"])):
        return "too few prompts to say"
    return f"{figure(score, score['low'])} to {figure(score, score['high'])}"


def leaves_nothing_out(score: Mapping[str, Any]) -> bool:
    """Whether a gap's interval lies on one side of 0."""
    return bool(score["low"] > 0 or score["high"] < 0)


def reading(score: Mapping[str, Any]) -> str:
    """A gap in words."""
    if not leaves_nothing_out(score):
        return "no difference found"
    groups = _groups(score["task"])[1]
    return f"{MEASURES[score['metric'].removesuffix('_gap')].split(',')[0]} for {groups[score['value'] < 0]}"


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
        "The pairs of prompts whose answers differ most, at most two of each kind of swap; where answers are much alike, what "
        "differs is marked. They were chosen for being the widest: the table says what is usual.",
    )
    for record in widest:
        kind, groups = _groups(record["pair"])
        prompts = list(record["prompts"])
        runs = _marked(*record["answers"]) if "answers" in record else _marked(*prompts)
        excerpts = []
        for side, group in enumerate(groups):
            facts = [
                (_FACTS.get(name, name), f"{record[name][side]:.3g}{_UNITS.get(name, '')}")
                for name in MEASURES
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
    matcher = difflib.SequenceMatcher(None, parts[0], parts[1], autojunk=False)
    if matcher.ratio() < _ALIKE:
        return [(first, False)] if first else [], [(second, False)] if second else []
    for step, a, b, c, d in matcher.get_opcodes():
        for into, words in ((runs[0], parts[0][a:b]), (runs[1], parts[1][c:d])):
            if words:
                into.append(("".join(words), step != "equal"))
    return runs


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} … {text[-most // 2 :]}"
