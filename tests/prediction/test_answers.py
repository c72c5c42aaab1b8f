"""Answers against the public library's logits, and the same answer whatever is asked with it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ownlm.errors import ModelError, UserError
from ownlm.model.transformer import Transformer
from ownlm.prediction.answers import AnswerOptions, answer
from ownlm.tokens.tokenizer import Tokenizer

Loaded = Callable[[Path], tuple[Transformer, Tokenizer]]
WORDS = [
    "the",
    "model",
    "reads",
    "text",
    "learns",
    "token",
    "by",
    "word",
    "and",
    "writes",
    "what",
    "it",
    "has",
    "seen",
    "before",
    "while",
    "loss",
    "falls",
]
ALWAYS = AnswerOptions(null_threshold=math.inf)


def questions(count: int, seed: int, longest: int = 30) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    return [
        (" ".join(draw.choices(WORDS, k=5)) + "?", " ".join(draw.choices(WORDS, k=draw.randint(3, longest))) + ".")
        for _ in range(count)
    ]


@torch.no_grad()
def public_best(folder: Path, question: str, context: str, stride: int, max_answer: int) -> tuple[float, int, int]:
    """The best span over the public tokenizer's windows and the public model's padded logits: score, start, end."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    options: dict[str, Any] = {"truncation": "only_second", "max_length": 64, "stride": stride, "padding": True}
    options |= {"return_overflowing_tokens": True, "return_offsets_mapping": True, "return_tensors": "pt"}
    options["return_token_type_ids"] = True
    batch = tokenizer(question, context, **options)
    offsets, _ = batch.pop("offset_mapping"), batch.pop("overflow_to_sample_mapping")
    output = model(**batch)
    best = (-math.inf, 0, 0)
    for number in range(len(offsets)):
        inside = [i for i, text in enumerate(batch.sequence_ids(number)) if text == 1]
        for i in inside:
            for j in range(i, min(i + max_answer, inside[-1] + 1)):
                score = (output.start_logits[number, i] + output.end_logits[number, j]).item()
                best = max(best, (score, int(offsets[number, i, 0]), int(offsets[number, j, 1])))
    return best


@pytest.mark.parametrize("longest", [30, 150])
def test_the_answer_is_the_best_span_of_the_public_models_logits(
    longest: int, headed: Callable[..., Path], loaded: Loaded
) -> None:
    folder = headed("span")
    options = AnswerOptions(max_answer=7, stride=10, null_threshold=math.inf)
    asked = questions(6, 1, longest)
    for (question, context), found in zip(asked, answer(*loaded(folder), asked, options), strict=True):
        _, start, end = public_best(folder, question, context, stride=10, max_answer=7)
        assert (found.start, found.end) == (start, end)
        assert found.answer == context[start:end] and found.question == question
        assert 0 < found.score <= 1


def test_no_answer_by_the_threshold(headed: Callable[..., Path], loaded: Loaded) -> None:
    model, tokenizer = loaded(headed("span"))
    asked = questions(8, 2)
    never = answer(model, tokenizer, asked, AnswerOptions(null_threshold=-1e6))
    assert all(one.answer is None and one.start is None and one.end is None for one in never)
    always = answer(model, tokenizer, asked, ALWAYS)
    assert all(one.answer for one in always)
    for one, other in zip(never, always, strict=True):
        # The probability of no answer, and of the one that was not given.
        assert other.answer in one.others and 0 < one.score < 1
        assert one.others[other.answer] <= (1 - one.score) * other.score + 1e-6
    several = answer(model, tokenizer, asked, AnswerOptions(null_threshold=math.inf, count=3))
    for one in several:
        scores = [one.score, *one.others.values()]
        assert scores == sorted(scores, reverse=True) and len(scores) <= 3 and sum(scores) <= 1


def test_a_folder_says_how_its_model_answers(headed: Callable[..., Path], loaded: Loaded) -> None:
    folder = headed("span")
    model, tokenizer = loaded(folder)
    asked = questions(8, 3)

    def with_settings(**held_out: Any) -> list[Any]:
        lineage = json.loads((folder / "ownlm.json").read_text())
        (folder / "ownlm.json").write_text(json.dumps({**lineage, "lineage": {"held_out": held_out}}))
        return answer(model, tokenizer, asked)

    always = answer(model, tokenizer, asked, AnswerOptions(max_answer=2, null_threshold=math.inf))
    assert with_settings(answers={"max_answer": 2, "may_be_none": False}) == always
    none = with_settings(answers={"max_answer": 2, "may_be_none": True}, null_threshold=-1e6)
    assert [one.answer for one in none] == [None] * 8
    # What is asked for goes before what the folder says.
    assert answer(model, tokenizer, asked, ALWAYS) == answer(model, tokenizer, asked, AnswerOptions(2, math.inf))
    (folder / "ownlm.json").write_text("{")
    assert answer(model, tokenizer, asked, AnswerOptions(2, math.inf)) == always


def test_the_answer_does_not_depend_on_what_else_is_asked(headed: Callable[..., Path], loaded: Loaded) -> None:
    model, tokenizer = loaded(headed("span"))
    options = AnswerOptions(stride=10, count=3)
    asked = questions(25, 4, 120)
    alone = [answer(model, tokenizer, [one], options)[0] for one in asked]
    assert answer(model, tokenizer, asked, options) == alone
    assert answer(model, tokenizer, asked[::-1] * 3, options) == alone[::-1] * 3


def test_what_cannot_be_asked_is_said(headed: Callable[..., Path], loaded: Loaded) -> None:
    model, tokenizer = loaded(headed("span"))
    for asked, message in (
        (("", "text"), "the question of question 2 is empty"),
        (("text", " "), "the context of question 2 is empty"),
        (("what " * 70, "text"), "question 2 has 70 tokens, which leaves too little of the 64"),
    ):
        with pytest.raises(UserError, match=message):
            answer(model, tokenizer, [("what?", "the model"), asked])
    with pytest.raises(ModelError, match="tells the class"):
        answer(*loaded(headed("classify", labels=("a", "b"))), [("what?", "the model")])
