"""``ownlm scorers train``, ``list`` and ``show``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .answer import Answer, columns

if TYPE_CHECKING:
    from ..evaluate.scorers import Scorer

NONE = "There are no scorers. Make one with: ownlm scorers train toxicity --data DIR"

Which = Annotated[str, typer.Argument(help="toxicity or sentiment.", metavar="NAME")]
Shown = Annotated[str, typer.Argument(help="An installed scorer, or a scorer's folder.", metavar="NAME")]
Data = Annotated[
    Path,
    typer.Option(
        help="The folder with its data: Davidson's and Surge's tables for toxicity, SST-2's for sentiment.",
        metavar="DIR",
    ),
]
Base = Annotated[str | None, typer.Option(help="The model to begin with, in place of the recipe's.", metavar="MODEL")]
Out = Annotated[Path | None, typer.Option(help="Where it goes; else it is installed under its name.", metavar="DIR")]
Limit = Annotated[int | None, typer.Option(help="The most texts to learn from.", metavar="N", min=1)]


def train(name: Which, data: Data, base: Base = None, out: Out = None, limit: Limit = None) -> Answer:
    """Train a scorer, measure it on texts that it never saw, and install it.

    A toxicity scorer is also checked with HateCheck, which comes with ownlm. What is found, and what the scorer is known to get
    wrong, is kept in its folder and shown beside every number that it gives. The same command again goes on where it stopped.
    """
    from ..evaluate.scorer_train import train_scorer

    scorer = train_scorer(name, data, base=base, out=out, limit=limit)
    return Answer(_data(scorer), f"{_text(scorer)}\n\nIt is in {scorer.folder}.")


def list_scorers() -> Answer:
    """List the installed scorers, with what they were measured to be worth."""
    from ..evaluate.scorers import installed_scorers, scorers_folder

    found = list(installed_scorers().values())
    data = {"scorers": [_data(one) for one in found], "folder": str(scorers_folder())}
    if not found:
        return Answer(data, NONE)
    rows = [("NAME", "ACCURACY", "AUROC", "HATECHECK", "IN")]
    for one in found:
        held_out = {figure.name: f"{figure.value:.3f}" for figure in one.report.held_out}
        hatecheck = f"{one.report.hatecheck[0].value:.3f}" if one.report.hatecheck else ""
        rows.append((one.name, held_out.get("accuracy", ""), held_out.get("auroc", ""), hatecheck, str(one.folder)))
    return Answer(data, columns(rows, indent=""))


def show(name: Shown) -> Answer:
    """Show how far a scorer can be trusted: held-out figures, HateCheck, known errors."""
    from ..evaluate.scorers import load_scorer

    scorer = load_scorer(name)
    return Answer(_data(scorer), _text(scorer))


def _data(scorer: Scorer) -> dict[str, Any]:
    return {"folder": str(scorer.folder), **scorer.report.model_dump(mode="json"), "name": scorer.name}


def _text(scorer: Scorer) -> str:
    from ..evaluate.scorers import spread

    report = scorer.report
    parts = [f"{scorer.name}: {report.measures}"]
    for title, figures in (
        ("On texts that it did not learn from", report.held_out),
        ("HateCheck", report.hatecheck),
        ("HateCheck by group", report.hatecheck_groups),
    ):
        if figures:
            rows = [("", "value", "95% interval", "texts")]
            rows += [
                (one.name, f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}", f"{one.n:,}") for one in figures
            ]
            parts.append(f"{title}\n{columns(rows)}")
    if report.groups:
        parts.append("\n".join(["Harmless texts that name groups of people", *(f"  {x}" for x in spread(report))]))
    if report.errors:
        parts.append("\n".join(["Known errors", *(f"  {text}" for text in report.errors)]))
    return "\n\n".join(parts)
