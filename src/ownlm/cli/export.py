"""``ownlm export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError, nearest
from .answer import Answer
from .sampling import ModelName

FORMATS = ("hf",)


def export(
    model: ModelName,
    out: Annotated[Path, typer.Option(help="The new folder.", metavar="PATH")],
    to: Annotated[str, typer.Option(help="The format: hf (a Hugging Face folder).", metavar="FORMAT")] = "hf",
) -> Answer:
    """Write a model for other tools, and check that it is the same model.

    The written folder is read back, by Transformers too where it is installed; its logits and its rendered chat must be
    the same, or the export fails.
    """
    if to not in FORMATS:
        raise UserError(f"'{to}' is not a format to export to", where="--to", hint=nearest(to, FORMATS))
    from ..model.export import export_hf

    result = export_hf(model, out)
    by = " and ".join(result["compared_with"])
    text = f"{result['path']}: checked by {by}, largest difference of a logit {result['max_difference']:.2g}"
    return Answer(result, text)
