"""``ownlm models`` and ``ownlm pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from .answer import Answer, columns


def models() -> Answer:
    """List the base models that can be fetched by name, and which of them are already here."""
    from ..model.registry import known_models

    known = known_models()
    rows = [[m.name, "here" if m.path else "", m.description] for m in known]
    data = [
        {"name": m.name, "parameters": m.parameters, "licence": m.licence, "about": m.about, "path": m.path}
        for m in known
    ]
    hint = "\n\nA folder, hf:ORG/NAME and a .gguf file are models too. Fetch one with: ownlm pull NAME"
    return Answer({"models": data}, columns(rows, indent="") + hint)


def pull(
    name: Annotated[str, typer.Argument(help="A name from 'ownlm models', or hf:ORG/NAME[@REVISION].", metavar="NAME")],
) -> Answer:
    """Fetch a base model, check it, and keep it in the cache for every later command."""
    from ..model import registry

    path = registry.pull(name)
    return Answer({"model": path, "name": name}, f"{name} is in {path}")
