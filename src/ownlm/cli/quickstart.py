"""``ownlm quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .answer import Answer


def quickstart(
    base: Annotated[
        str | None,
        typer.Option(help="The model to start from, or 'scratch' for random weights and no network.", metavar="NAME"),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the model and its report.", metavar="DIR")] = Path(
        "quickstart"
    ),
) -> Answer:
    """Fine-tune a small model on the bundled example, and show what it learned.

    Prepares the data, trains, compares held-out loss and answers before and after, checks for bias, writes a report.
    """
    from ..progress import say
    from ..quickstart import quickstart as run

    result = run(base=base, out=out, say=say)
    return Answer(result, summary(result))


def summary(result: dict) -> str:
    """The ending: what happened, in three lines, and three commands to try next."""
    from ..units import format_seconds

    before, after = result["before"]["loss"], result["after"]["loss"]
    lines = [
        "",
        f"Done in {format_seconds(result['seconds'])}.",
        f"Held-out loss {before:.3f} before, {after:.3f} after: {100 * (1 - after / before):.0f}% lower.",
        f"Model:  {result['model']}",
        f"Report: {result['report']}",
        "",
        "Try next:",
        f"  ownlm chat {result['model']}" if result["base"] != "scratch" else _scratch_command(result),
        "  ownlm train --help-config",
        f"  ownlm export {result['model']} --to hf --out exported",
    ]
    return "\n".join(lines)


def _scratch_command(result: dict) -> str:
    return f'  ownlm generate {result["model"]} --prompt "Once upon a time"'
