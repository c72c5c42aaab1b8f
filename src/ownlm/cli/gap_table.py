"""Gaps between groups on the terminal: a row for each two groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .answer import columns


def gap_table(scores: Sequence[dict[str, Any]]) -> list[str]:
    """The table, with a star where a gap's interval leaves 0 out, and what it means.

    Args:
        scores: of tasks whose items are pairs of prompts.
    """
    from ..report.gaps import figure, leaves_nothing_out

    by_groups: dict[str, dict[str, str]] = {}
    apart = count = 0
    for score in scores:
        metric = score["metric"]
        cells = by_groups.setdefault(score["task"], {"prompts": f"{score['n']:,}"})
        if metric.endswith("_gap"):
            starred = leaves_nothing_out(score)
            apart, count = apart + starred, count + 1
            cells[metric.removesuffix("_gap")] = figure(score) + ("*" if starred else "")
        elif metric == "answers_differ":
            cells["answers differ"] = f"{100 * score['value']:.0f}%"
    names = list(dict.fromkeys(name for cells in by_groups.values() for name in cells))
    rows = [("groups", *names)]
    rows += [(groups, *(cells.get(name, "") for name in names)) for groups, cells in by_groups.items()]
    said = "The first group's value less the second's: likelihood of the same answer in nats a token, length in tokens, the"
    star = (
        f"others from 0 to 1. * {apart} of {count} intervals leave 0 out; by chance alone about {count / 20:.0f} would."
    )
    return [columns(rows), f"\n{said}\n{star}\n"]
