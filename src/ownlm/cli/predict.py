"""``ownlm predict``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .answer import Answer, columns
from .sampling import Device, Dtype, ModelName
from .usage import whole_text

if TYPE_CHECKING:
    from ..model.transformer import Transformer
    from ..tokens.tokenizer import Tokenizer

# Characters of a text that a line shows.
SHOWN = 60

Texts = Annotated[list[str] | None, typer.Option(help="A text; may be repeated.", metavar="TEXT", callback=whole_text)]
Question = Annotated[str | None, typer.Option(help="A question about --context.", metavar="TEXT", callback=whole_text)]
Context = Annotated[
    str | None, typer.Option(help="The text that holds the answer.", metavar="TEXT", callback=whole_text)
]
File = Annotated[
    Path | None, typer.Option(help="JSON Lines, CSV or TSV with texts, or with questions.", metavar="FILE")
]
BatchTokens = Annotated[int | None, typer.Option(help="Tokens read at once; auto suits the device.", metavar="N")]
Cut = Annotated[bool, typer.Option("--cut", help="Read the beginning of a text that is too long.")]
Score = Annotated[bool, typer.Option("--score", help="Compare with the labels or answers that the file has.")]
Top = Annotated[int, typer.Option(help="How many words for a gap, or answers to a question.", metavar="N", min=1)]
MaxAnswer = Annotated[int | None, typer.Option(help="The most tokens of an answer.", metavar="N", min=1)]
Beams = Annotated[
    int | None, typer.Option(help="Beginnings of a text that are followed at a time.", metavar="N", min=1)
]
MaxTokens = Annotated[int | None, typer.Option(help="The most tokens of a text that is made.", metavar="N", min=1)]
SourceColumn = Annotated[str | None, typer.Option(help="The column of texts to make others from.", metavar="NAME")]
TargetColumn = Annotated[str | None, typer.Option(help="The column of the right ones, for --score.", metavar="NAME")]
NullThreshold = Annotated[
    float | None,
    typer.Option(help="Say that there is no answer where that is likelier by more than this; inf is never."),
]


def predict(
    model: ModelName,
    text: Texts = None,
    file: File = None,
    question: Question = None,
    context: Context = None,
    top: Top = 5,
    score: Score = False,
    cut: Cut = False,
    max_answer: MaxAnswer = None,
    null_threshold: NullThreshold = None,
    beams: Beams = None,
    max_tokens: MaxTokens = None,
    source: SourceColumn = None,
    target: TargetColumn = None,
    batch_tokens: BatchTokens = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """The class of a text, the answer to a question about a text, the word for a [MASK], or a text made from another.

    What it does is what the model was trained for. Each prediction is a line on stdout.
    """
    if (question is None) != (context is None):
        missing = "--context" if context is None else "--question"
        raise UserError(f"{missing} is missing", where="ownlm predict", hint="a question needs its context")
    if sum(given is not None for given in (text, file, question)) != 1:
        hint = "--text, --file, or --question with --context"
        raise UserError("give one of the ways to say what to predict on", where="ownlm predict", hint=hint)
    if score and file is None:
        raise UserError("there is nothing to compare with", where="--score", hint="give --file with labels or answers")
    from .. import api
    from ..prediction.heads import check_head

    loaded, tokenizer = api.load_model(model, dtype, device), api.load_tokenizer(model)
    if question is not None:
        check_head(loaded, "span")
    elif text is not None:
        check_head(loaded, "classify", "masked", "seq2seq")
    else:
        check_head(loaded, "classify", "masked", "span", "seq2seq")
    job = _Job(loaded, tokenizer, text, file, score, batch_tokens)
    if loaded.config.head == "span":
        asked = (question, context) if question is not None and context is not None else None
        predictions, lines, scores = job.answers(asked, count=top, max_answer=max_answer, null_threshold=null_threshold)
    elif loaded.config.head == "seq2seq":
        predictions, lines, scores = job.rewritings(source, target, beams=beams, max_tokens=max_tokens)
    elif loaded.config.head == "masked":
        predictions, lines, scores = job.gaps(top)
    else:
        predictions, lines, scores = job.classes(cut)
    data: dict[str, Any] = {"model": model, "predictions": [asdict(one) for one in predictions]}
    if not score:
        return Answer(data, output=columns(lines, indent=""))
    shown = columns([[name, f"{value:.{2 if abs(value) >= 10 else 4}f}"] for name, value in scores.items()], indent="")
    return Answer({**data, "scores": scores}, text=shown, output=columns(lines, indent=""))


_Found = tuple[Sequence[Any], list[list[str]], dict[str, float]]


@dataclass(frozen=True)
class _Job:
    """What is predicted on, and by whom; each method gives predictions, a line for each, and scores where asked."""

    model: Transformer
    tokenizer: Tokenizer
    text: list[str] | None
    file: Path | None
    score: bool
    batch_tokens: int | None

    def classes(self, cut: bool) -> _Found:
        from ..prediction.classes import classify
        from ..prediction.scores import read_labelled_for, score_labels

        config = self.model.config
        given = read_labelled_for(config, self._file()) if self.score else []
        texts = [row.text if row.pair is None else (row.text, row.pair) for row in given] or self._texts()
        found = classify(self.model, self.tokenizer, texts, cut=cut, batch_tokens=self.batch_tokens)
        several = config.problem == "multi"
        lines = [
            [", ".join(one.labels) if several else one.label, f"{one.score:.3f}", _short(one.text)] for one in found
        ]
        return found, lines, score_labels(found, given, config) if self.score else {}

    def answers(self, asked: tuple[str, str] | None, **options: Any) -> _Found:
        from ..prediction.answers import AnswerOptions, answer
        from ..prediction.scores import score_answers
        from ..tokens.questions import read_questions

        read = [] if asked else list(read_questions([self._file()], answered=self.score))
        questions = [asked] if asked else [(one.question, one.context) for one in read]
        settings = AnswerOptions(**options)
        found = answer(self.model, self.tokenizer, questions, settings, batch_tokens=self.batch_tokens)
        shown = ["(no answer)" if one.answer is None else _short(one.answer) for one in found]
        lines = [[text, f"{one.score:.3f}", _short(one.question)] for text, one in zip(shown, found, strict=True)]
        return found, lines, score_answers(found, read) if self.score else {}

    def gaps(self, count: int) -> _Found:
        from ..prediction.gaps import fill

        if self.score:
            raise UserError("a gap has no right word to compare with", where="--score", hint="leave --score out")
        found = fill(self.model, self.tokenizer, self._texts(), count=count, batch_tokens=self.batch_tokens)
        lines = [
            [", ".join(f"{word} {score:.3f}" for word, score in gap.items()), _short(one.text)]
            for one in found
            for gap in one.gaps
        ]
        return found, lines, {}

    def rewritings(self, source: str | None, target: str | None, **options: int | None) -> _Found:
        from ..prediction.rewriting import RewriteOptions, rewrite
        from ..prediction.scores import score_rewritings
        from ..tokens.text_pairs import PairFormat, read_sources, read_text_pairs

        read = list(read_text_pairs([self._file()], PairFormat(source, target))) if self.score else []
        texts = [one.source for one in read] or self.text or list(read_sources(self._file(), source))
        settings = RewriteOptions(**{name: value for name, value in options.items() if value is not None})
        found = rewrite(self.model, self.tokenizer, texts, settings)
        lines = [[" ".join(one.output.split()), _short(one.text)] for one in found]
        return found, lines, score_rewritings(found, [one.target for one in read]) if self.score else {}

    def _file(self) -> Path:
        from ..files import existing_file

        assert self.file is not None
        return existing_file(self.file)

    def _texts(self) -> list[Any]:
        """The texts, or the pairs of texts in a file."""
        from ..data.read import read_rows
        from ..tokens.labels import LabelledFormat, text_columns, text_of

        if self.text is not None:
            return list(self.text)
        texts: list[Any] = []
        names: tuple[str, str | None] | None = None
        for row in read_rows([self._file()]):
            names = names or text_columns(row, LabelledFormat())
            first, second = names
            texts.append(text_of(row, first) if second is None else (text_of(row, first), text_of(row, second)))
        return texts


def _short(text: Any) -> str:
    line = " ".join(" / ".join([text] if isinstance(text, str) else text).split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 3]}..."
