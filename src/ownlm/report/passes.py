"""How often a run passes over each of its sources, and which of them too often."""

from __future__ import annotations

from collections.abc import Mapping

from .page import Report

# Up to about four passes, repeated data is nearly as good as new data; beyond, it is worth less and less
# (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models").
NEARLY_NEW = 4.0


def repeat_warnings(passes: Mapping[str, float]) -> list[str]:
    """A sentence for each source that is passed more often than repeated data is worth."""
    return [
        f"{name} is passed {number:.1f} times in this run: beyond about {NEARLY_NEW:.0f} passes, repeated data teaches "
        f"less and less (Muennighoff et al. 2023)"
        for name, number in passes.items()
        if number > NEARLY_NEW
    ]


def add_passes(report: Report, passes: Mapping[str, float]) -> None:
    """Adds a table of them and the warnings, under the section that is open."""
    if passes:
        report.table("Passes over each source", ["source", "passes"], [[name, float(n)] for name, n in passes.items()])
    for line in repeat_warnings(passes):
        report.note(f"{line}.", warning=True)
