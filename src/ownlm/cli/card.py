"""``ownlm card``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from .answer import Answer
from .sampling import ModelName

Evaluations = Annotated[
    list[Path] | None,
    typer.Option("--evaluation", help="What 'ownlm eval' or 'ownlm bias' wrote; may be repeated.", metavar="DIR"),
]
Licence = Annotated[
    str | None, typer.Option("--license", help="The model's, as the hub calls it, such as apache-2.0.", metavar="ID")
]
Out = Annotated[
    Path | None, typer.Option(help="The file; without it README.md in the model's folder.", metavar="README.md")
]


def card(model: ModelName, evaluation: Evaluations = None, license: Licence = None, out: Out = None) -> Answer:
    """Write a model's card in the Hub's format: what it is, what it was trained on, how it did, and what is not known.

    All of it is read from the model's folder, the data sets that it names and its evaluations; evaluations beside the model
    and in this folder are found by themselves, and only scores of these very weights are taken. What only people know is
    left as a place to write, and what you write there stays when the card is made again.
    """
    from ..evaluate.card.evaluations import is_about_bias, named_evaluations, nearby_evaluations, not_measured
    from ..evaluate.card.facts import card_facts
    from ..files import read_text, write_text
    from ..model.registry import find_model
    from ..report.model_card import left_to_write, model_card, title_of, with_owners_words

    folder = find_model(model)
    own = Path(model).is_dir()
    path = out or (folder / "README.md" if own else Path(f"{title_of(model)}-card.md"))
    if path.is_dir():
        raise UserError("this is a folder, a file was expected", where=str(path), hint="name a file, such as README.md")
    older = read_text(path) if path.exists() else ""
    if older and "<!-- owner:" not in older:
        hint = "give another --out, or move it away"
        raise UserError(
            "something else stands here already, that 'ownlm card' did not write", where=str(path), hint=hint
        )
    facts = card_facts(folder, model)
    found = named_evaluations(evaluation or (), facts["weights"])
    if not evaluation:
        found = nearby_evaluations(
            [Path(), *([folder, folder.parent, folder.parent.parent] if own else [])], facts["weights"]
        )
    for one in found:
        one["tasks"] = [{**task, "bias": is_about_bias(task)} for task in one.get("tasks", ())]
    text = with_owners_words(model_card(facts, found, license, not_measured(found)), older)
    write_text(path, text)
    left = left_to_write(text)
    data = {
        "card": str(path),
        "model": model,
        "weights": facts["weights"],
        "evaluations": [one["folder"] for one in found],
        "unknown": facts["silent"],
        "to_write": left,
    }
    lines = [f"Card: {path}"]
    lines.append(
        "Scores of: " + ", ".join(data["evaluations"]) if found else "No evaluation of these weights was found"
    )
    if facts["silent"]:
        lines.append(f"Not known: what {', '.join(facts['silent'])} was trained on")
    if left:
        lines.append(f"Yours to write: {', '.join(left)}")
    return Answer(data, "\n".join(lines))
