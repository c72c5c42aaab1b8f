"""Which head a model has, and what it is asked for."""

from __future__ import annotations

from ..errors import ModelError
from ..model.transformer import Transformer

USE = {
    "classify": "this model tells the class of a text",
    "span": "this model answers questions about a text",
    "masked": "this model fills gaps in a text",
    "lm": "this model continues texts",
    "seq2seq": "this model makes a text from another",
    "none": "this model has no head: it turns texts into vectors",
}
HINTS = {
    "classify": "give texts: --text, or --file",
    "span": "give questions about texts: --question and --context, or --file",
    "masked": "give texts with a [MASK]: --text, or --file",
    "lm": "use 'ownlm generate' or 'ownlm chat', or fine-tune it with objective.kind classify or span",
    "seq2seq": "give texts to 'ownlm predict': --text, or --file",
    "none": "fine-tune it first, with objective.kind classify or span",
}


def check_head(model: Transformer, *wanted: str) -> None:
    """Checks that a model has one of some heads.

    Raises:
        ModelError: it has another; says what it is for.
    """
    head = model.config.head
    if head not in wanted:
        where = None if model.source is None else str(model.source)
        raise ModelError(USE[head], where=where, hint=HINTS[head])
