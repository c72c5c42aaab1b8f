"""How often a run passes over each of its sources, and which of them too often."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .page import Report

# Up to about four passes, repeated data is nearly as good as new data; beyond, it is worth less and less
# (Muennighoff et al. 2023, "Scaling Data-Constrained Language Models").
NEARLY_NEW = 4.0


def repeat_warnings(passes: Mapping[str, float], wanted: Collection[str] = ()) -> list[str]:
    """A sentence for each source that is passed more often than repeated data is worth.

    Args:
        passes: how often each source is.
        wanted: those that are repeated on purpose.
    """
    return [
        f"{name} is passed {number:.1f} times in this run: beyond about {NEARLY_NEW:.0f} passes, repeated data teaches "
        f"less and less (Muennighoff et al. 2023)"
        for name, number in passes.items()
        if number > NEARLY_NEW and name not in wanted
    ]


def add_passes(report: Report, passes: Mapping[str, float], wanted: Collection[str] = ()) -> None:
    """Adds a table of them and the warnings, under the section that is open; ``wanted`` are repeated on purpose."""
    if passes:
        report.table("Passes over each source", ["source", "passes"], [[name, float(n)] for name, n in passes.items()])
    for line in repeat_warnings(passes, wanted):
        report.note(f"{line}.", warning=True)
