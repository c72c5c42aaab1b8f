"""``ownlm runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answer import Answer, columns

# Characters of a line beyond which a table is split.
WIDEST = 120


def runs(
    folders: Annotated[list[Path], typer.Argument(help="The runs' folders.", metavar="RUN...", show_default=False)],
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with their curves over one another.", metavar="FILE")
    ] = None,
) -> Answer:
    """Compare runs: the settings that differ, losses, speed and memory."""
    from ..report.runs import compare_runs, comparison_report, settings_rows, table_rows

    compared = compare_runs(folders)
    text = columns(table_rows(compared), indent="")
    if len(text.partition("\n")[0]) > WIDEST:
        # Many settings differ: they go below one another.
        text = columns(table_rows(compared, settings=False), indent="")
        text += "\n\n" + columns(settings_rows(compared), indent="")
    if html is not None:
        comparison_report(folders).write(html)
        text += f"\n\ncurves: {html}"
    return Answer({"runs": compared}, text)
