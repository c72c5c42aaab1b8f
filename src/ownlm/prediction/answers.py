"""Questions to answers: parts of a text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import DataError, UserError
from ..files import read_json
from ..model.head import SpanHead
from ..model.transformer import Transformer
from ..tokens.frame import Frame, frame_of
from ..tokens.tokenizer import Tokenizer
from ..tokens.windows import Window, encode_with_places, make_windows
from .heads import check_head
from .passes import Document, passes
from .spans import Decoded, ReadWindow, decode, window_logits

# What a folder that says nothing of itself gets: the usual limit, and no answer where that is likelier.
MAX_ANSWER, NULL_THRESHOLD, STRIDE = 30, 0.0, 128


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
        question: the question.
        answer: a part of the context, or None where it has no answer.
        score: the probability of it, or of there being none.
        start, end: its first character in the context and the one after its last; None where there is no answer.
        others: the next best answers, with their probabilities.
    """

    question: str
    answer: str | None
    score: float
    start: int | None
    end: int | None
    others: dict[str, float]


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are looked for; None is what the model's folder says of itself, or the usual.

    Attributes:
        max_answer: the most tokens of an answer; usually 30.
        null_threshold: how much likelier no answer must be than the best one, as a difference of scores, to say that
            there is none; infinite is to answer always.
        stride: how many tokens two windows of a long context share; usually 128.
        length: the most tokens of a window; usually what the model reads.
        count: how many answers are given.
    """

    max_answer: int | None = None
    null_threshold: float | None = None
    stride: int | None = None
    length: int | None = None
    count: int = 1


@torch.no_grad()
def answer(
    model: Transformer,
    tokenizer: Tokenizer,
    questions: Sequence[tuple[str, str]],
    options: AnswerOptions | None = None,
    *,
    batch_tokens: int | None = None,
) -> list[Answer]:
    """The answer to each question, whatever else is asked at the same time.

    Args:
        model: with a span head.
        tokenizer: its own.
        questions: each with its context; a long one is read in windows.
        options: how answers are looked for.
        batch_tokens: tokens read at once; None is what suits the device.

    Raises:
        UserError: an empty question or context, or a question too long for the model.
        ModelError: the model has another head.
    """
    check_head(model, "span")
    options = _settled(options or AnswerOptions(), model)
    assert options.max_answer and options.length and options.stride is not None and options.null_threshold is not None
    model.eval()
    contexts = encode_with_places(tokenizer, [context for _, context in questions])
    asked = tokenizer.encode_many([question for question, _ in questions])
    frame = frame_of(tokenizer, pair=True, causal=model.config.causal)
    windows: list[list[Window]] = []
    for number, (ids, context) in enumerate(zip(asked, contexts, strict=True)):
        made = make_windows(frame, ids, context.ids, options.length, options.stride)
        _check(questions[number], [ids, context.ids], made, number + 1, options.length)
        windows.append(made)
    read = _read(model, frame, windows, batch_tokens)
    settings: dict[str, Any] = {"max_answer": options.max_answer, "count": options.count}
    settings["may_be_none"] = options.null_threshold < math.inf
    found = [decode(parts, context, **settings) for parts, context in zip(read, contexts, strict=True)]
    return [
        _answer(*question, decoded, options.null_threshold) for question, decoded in zip(questions, found, strict=True)
    ]


def _read(
    model: Transformer, frame: Frame, windows: Sequence[Sequence[Window]], batch_tokens: int | None
) -> list[list[ReadWindow]]:
    """What the model says of each question's windows."""
    assert isinstance(model.head, SpanHead)
    flat = list(itertools.chain.from_iterable(windows))
    documents = [Document(w.ids, w.place if frame.segments else len(w.ids)) for w in flat]
    logits: list[Tensor] = [torch.zeros(0)] * len(flat)
    for each in passes(model, documents, batch_tokens):
        rows = model.head(each.hidden.float()).cpu()
        for place, (start, end) in zip(each.documents, itertools.pairwise(each.starts), strict=True):
            logits[place] = rows[start:end]
    read = iter(
        window_logits(values.numpy(), window.first, window.count, window.place)
        for values, window in zip(logits, flat, strict=True)
    )
    return [list(itertools.islice(read, len(parts))) for parts in windows]


def _settled(options: AnswerOptions, model: Transformer) -> AnswerOptions:
    """The options with nothing left open."""
    own, longest = answer_settings(model.source), model.config.max_positions
    threshold = options.null_threshold
    if threshold is None:
        threshold = own.get("null_threshold", NULL_THRESHOLD) if own.get("may_be_none", True) else math.inf
    usual: dict[str, Any] = {"max_answer": MAX_ANSWER, "stride": STRIDE, "length": longest} | own
    given = {name: getattr(options, name) for name in ("max_answer", "stride", "length")}
    chosen: dict[str, Any] = {name: usual[name] if value is None else value for name, value in given.items()}
    chosen["length"] = min(chosen["length"], longest)
    return replace(options, null_threshold=threshold, **chosen)


def answer_settings(folder: Path | None) -> dict[str, Any]:
    """What a model's folder says of how it answers: the fields of AnswerOptions, and whether no answer may be one."""
    if folder is None or not (folder / "ownlm.json").is_file():
        return {}
    try:
        held = read_json(folder / "ownlm.json")
    except DataError:
        return {}
    lineage = held.get("lineage") if isinstance(held, dict) else None
    measured = lineage.get("held_out") if isinstance(lineage, dict) else None
    if not isinstance(measured, dict):
        return {}
    answers = measured.get("answers")
    settings = dict(answers) if isinstance(answers, dict) else {}
    threshold = measured.get("null_threshold")
    return settings | ({"null_threshold": float(threshold)} if isinstance(threshold, int | float) else {})


def _check(question: tuple[str, str], ids: Sequence[Sequence[int]], windows: Any, number: int, longest: int) -> None:
    for what, text, tokens in zip(("question", "context"), question, ids, strict=True):
        if not text.strip() or not tokens:
            raise UserError(f"the {what} of question {number} is empty", hint="give it some words")
    if not windows:
        raise UserError(
            f"question {number} has {len(ids[0]):,} tokens, which leaves too little of the {longest:,} that the model "
            "reads for its context",
            hint="shorten the question",
        )


def _answer(question: str, context: str, decoded: Decoded, threshold: float) -> Answer:
    spans = decoded.spans
    others = {context[span.start : span.end]: span.probability for span in spans}
    if not spans or decoded.doubt > threshold:
        return Answer(question, None, decoded.none, None, None, others)
    best = spans[0]
    text = context[best.start : best.end]
    others.pop(text)
    return Answer(question, text, best.probability, best.start, best.end, others)
