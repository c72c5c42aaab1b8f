"""``ownlm predict``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .answer import Answer, columns
from .sampling import Device, Dtype, ModelName

if TYPE_CHECKING:
    from ..model.transformer import Transformer
    from ..tokens.tokenizer import Tokenizer

# Characters of a text that a line shows.
SHOWN = 60

Texts = Annotated[list[str] | None, typer.Option(help="A text; may be repeated.", metavar="TEXT")]
File = Annotated[
    Path | None, typer.Option(help="JSON Lines, CSV or TSV with texts, or with questions.", metavar="FILE")
]
BatchTokens = Annotated[int | None, typer.Option(help="Tokens read at once; auto suits the device.", metavar="N")]
Cut = Annotated[bool, typer.Option("--cut", help="Read the beginning of a text that is too long.")]
Top = Annotated[int, typer.Option(help="How many words for a gap, or answers to a question.", metavar="N", min=1)]
MaxAnswer = Annotated[int | None, typer.Option(help="The most tokens of an answer.", metavar="N", min=1)]
NullThreshold = Annotated[
    float | None,
    typer.Option(help="Say that there is no answer where that is likelier by more than this; inf is never."),
]


def predict(
    model: ModelName,
    text: Texts = None,
    file: File = None,
    question: Annotated[str | None, typer.Option(help="A question about --context.", metavar="TEXT")] = None,
    context: Annotated[str | None, typer.Option(help="The text that holds the answer.", metavar="TEXT")] = None,
    top: Top = 5,
    cut: Cut = False,
    max_answer: MaxAnswer = None,
    null_threshold: NullThreshold = None,
    batch_tokens: BatchTokens = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """The class of a text, the answer to a question about a text, or the word for a [MASK].

    What it does is what the model was trained for. Each prediction is a line on stdout.
    """
    if (question is None) != (context is None):
        missing = "--context" if context is None else "--question"
        raise UserError(f"{missing} is missing", where="ownlm predict", hint="a question needs its context")
    if sum(given is not None for given in (text, file, question)) != 1:
        hint = "--text, --file, or --question with --context"
        raise UserError("give one of the ways to say what to predict on", where="ownlm predict", hint=hint)
    from .. import api
    from ..prediction.heads import check_head

    loaded, tokenizer = api.load_model(model, dtype, device), api.load_tokenizer(model)
    if question is not None:
        check_head(loaded, "span")
    elif text is not None:
        check_head(loaded, "classify", "masked")
    else:
        check_head(loaded, "classify", "masked", "span")
    if loaded.config.head == "span":
        asked = [(question, context)] if question is not None and context is not None else _questions(file)
        options = {"count": top, "max_answer": max_answer, "null_threshold": null_threshold}
        return _answers(model, loaded, tokenizer, asked, options, batch_tokens)
    texts: list[Any] = list(text) if text is not None else _texts(file)
    if loaded.config.head == "masked":
        return _gaps(model, loaded, tokenizer, texts, top, batch_tokens)
    return _classes(model, loaded, tokenizer, texts, cut, batch_tokens)


def _classes(
    name: str, model: Transformer, tokenizer: Tokenizer, texts: list[Any], cut: bool, batch_tokens: int | None
) -> Answer:
    from ..prediction.classes import classify

    found = classify(model, tokenizer, texts, cut=cut, batch_tokens=batch_tokens)
    several = model.config.problem == "multi"
    lines = [[", ".join(one.labels) if several else one.label, f"{one.score:.3f}", _short(one.text)] for one in found]
    rows = [asdict(one) for one in found]
    return Answer({"model": name, "predictions": rows}, output=columns(lines, indent=""))


def _answers(
    name: str,
    model: Transformer,
    tokenizer: Tokenizer,
    questions: Sequence[tuple[str, str]],
    options: dict[str, Any],
    batch_tokens: int | None,
) -> Answer:
    from ..prediction.answers import AnswerOptions, answer

    found = answer(model, tokenizer, questions, AnswerOptions(**options), batch_tokens=batch_tokens)
    lines = [
        ["(no answer)" if one.answer is None else one.answer, f"{one.score:.3f}", _short(one.question)] for one in found
    ]
    return Answer({"model": name, "predictions": [asdict(one) for one in found]}, output=columns(lines, indent=""))


def _gaps(
    name: str, model: Transformer, tokenizer: Tokenizer, texts: list[Any], top: int, batch_tokens: int | None
) -> Answer:
    from ..prediction.gaps import fill

    found = fill(model, tokenizer, texts, count=top, batch_tokens=batch_tokens)
    lines = [
        [*(f"{word} {score:.3f}" for word, score in gap.items()), _short(one.text)] for one in found for gap in one.gaps
    ]
    return Answer({"model": name, "predictions": [asdict(one) for one in found]}, output=columns(lines, indent=""))


def _texts(file: Path | None) -> list[Any]:
    """The texts of a file, or the pairs of texts."""
    from ..data.read import read_rows
    from ..files import existing_file
    from ..tokens.labels import LabelledFormat, text_columns, text_of

    assert file is not None
    texts: list[Any] = []
    names: tuple[str, str | None] | None = None
    for row in read_rows([existing_file(file)]):
        names = names or text_columns(row, LabelledFormat())
        first, second = names
        texts.append(text_of(row, first) if second is None else (text_of(row, first), text_of(row, second)))
    return texts


def _questions(file: Path | None) -> list[tuple[str, str]]:
    from ..files import existing_file
    from ..tokens.questions import read_questions

    assert file is not None
    return [(one.question, one.context) for one in read_questions([existing_file(file)], answered=False)]


def _short(text: Any) -> str:
    line = " ".join(" / ".join([text] if isinstance(text, str) else text).split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."
