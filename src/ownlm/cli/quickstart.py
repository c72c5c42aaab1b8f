"""``ownlm quickstart``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .answer import Answer


def quickstart(
    base: Annotated[
        str | None,
        typer.Option(help="The model to start from, or 'scratch' for random weights and no network.", metavar="NAME"),
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder for the model and its report.", metavar="DIR")] = Path(
        "ownlm-quickstart"
    ),
) -> Answer:
    """Fine-tune a small model on the bundled example, and show what it learned.

    Prepares the data, trains, compares held-out loss and answers before and after, checks for bias, writes a report.
    """
    from ..progress import say
    from ..quickstart import quickstart as run

    result = run(base=base, out=out, say=say)
    return Answer(result, summary(result))


def summary(result: dict[str, Any]) -> str:
    """The ending: an answer, what happened, and the commands to try next."""
    from ..units import format_seconds

    before, after = result["before"]["loss"], result["after"]["loss"]
    lines = ["", f"Done in {format_seconds(result['seconds'])}."]
    for sample in result["samples"][:1]:
        lines += [f"  asked:  {_short(sample['prompt'])}"]
        lines += [f"  before: {_short(sample['before'])}", f"  after:  {_short(sample['after'])}"]
    lines += [f"Held-out loss {before:.3f} before, {after:.3f} after: {100 * (1 - after / before):.0f}% lower."]
    for old, new in zip(result["bias"]["before"], result["bias"]["after"], strict=True):
        lines.append(f"Bias, {old['task']}: {_interval(old)} before, {_interval(new)} after.")
    lines += [f"Model:  {result['model']}", f"Report: {result['report']}", "", "Try next:"]
    return "\n".join(lines + [f"  {command}" for command in result["next"]])


def _short(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= 100 else line[:99] + "…"


def _interval(score: dict[str, Any]) -> str:
    return f"{score['value']:.3g} ({score['low']:.3g} to {score['high']:.3g})"
