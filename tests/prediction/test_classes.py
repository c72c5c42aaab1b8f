"""Classes and numbers against the public library, and the same answer whatever is asked with it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ownlm.errors import ModelError, UserError
from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.prediction.classes import classify
from ownlm.tokens.tokenizer import Tokenizer

Loaded = Callable[[Path], tuple[Transformer, Tokenizer]]
WORDS = ["the", "model", "reads", "text", "learns", "token", "by", "word", "and", "writes", "what", "it", "has", "seen"]
LABELS = {"labels": ("bad", "good", "mixed")}


def texts(count: int, seed: int, longest: int = 40) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


@torch.no_grad()
def public_logits(folder: Path, first: list[str], second: list[str] | None = None) -> torch.Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    return model(**tokenizer(first, second, padding=True, return_token_type_ids=True, return_tensors="pt")).logits


def test_the_probabilities_are_the_public_ones(headed: Callable[..., Path], loaded: Loaded) -> None:
    folder = headed("classify", **LABELS)
    first, second = texts(9, 1, 20), texts(9, 2, 20)
    for asked, expected in (
        (first, public_logits(folder, first)),
        (list(zip(first, second, strict=True)), public_logits(folder, first, second)),
    ):
        found = classify(*loaded(folder), asked)
        scores = torch.tensor([[one.scores[label] for label in LABELS["labels"]] for one in found])
        torch.testing.assert_close(scores, expected.softmax(-1), atol=1e-6, rtol=1e-5)
        assert [one.label for one in found] == [LABELS["labels"][i] for i in expected.argmax(-1).tolist()]
        for one in found:
            assert list(one.scores) == sorted(one.scores, key=lambda label: -one.scores[label])
            assert one.score == one.scores[one.label] == max(one.scores.values()) and one.labels == [one.label]
        assert [one.text for one in found] == asked


def test_several_classes_each_have_their_own_probability(headed: Callable[..., Path], loaded: Loaded) -> None:
    folder = headed("classify", problem="multi", **LABELS)
    asked = texts(9, 3)
    expected = public_logits(folder, asked).sigmoid()
    for one, row in zip(classify(*loaded(folder), asked), expected.tolist(), strict=True):
        assert [one.scores[label] for label in LABELS["labels"]] == pytest.approx(row, abs=1e-6)
        assert sorted(one.labels) == [label for label, p in zip(LABELS["labels"], row, strict=True) if p >= 0.5]


def test_numbers_are_given_as_they_are(headed: Callable[..., Path], loaded: Loaded) -> None:
    folder = headed("classify", problem="regression", labels=("score", "other"))
    asked = texts(5, 4)
    for one, row in zip(classify(*loaded(folder), asked), public_logits(folder, asked).tolist(), strict=True):
        assert list(one.scores) == ["score", "other"] and list(one.scores.values()) == pytest.approx(row, abs=1e-5)
        assert (one.label, one.score, one.labels) == ("score", one.scores["score"], [])


def test_a_decoder_reads_to_its_last_token(headed: Callable[..., Path], loaded: Loaded) -> None:
    _, tokenizer = loaded(headed("classify", **LABELS))
    shape = {"family": "gpt2", "layers": 2, "width": 32, "heads": 4, "vocab_size": 320, "max_positions": 64}
    config = config_from_user({**shape, "head": "classify", "labels": ["a", "b"], "initializer_range": 0.15})
    model = random_model(config, 1).eval()
    assert model.head is not None
    text = "the model reads"
    # The tokenizer frames every text, so the last token is its own.
    ids = tokenizer.backend.encode(text).ids
    with torch.no_grad():
        expected = model.head(model.hidden_states([ids])[0][-1:]).softmax(-1)
    (found,) = classify(model, tokenizer, [text])
    assert [found.scores["a"], found.scores["b"]] == pytest.approx(expected[0].tolist(), abs=1e-6)


@pytest.mark.parametrize("head", ["single", "multi"])
def test_the_answer_does_not_depend_on_what_else_is_asked(
    head: str, headed: Callable[..., Path], loaded: Loaded
) -> None:
    model, tokenizer = loaded(headed("classify", problem=head, **LABELS))
    asked: list[Any] = [*texts(30, 5, 45), *texts(30, 6, 3)]
    alone = [classify(model, tokenizer, [text])[0] for text in asked]
    draw = random.Random(7)
    for size in (2, 3, 7, 60, 60):
        chosen = draw.sample(range(len(asked)), size)
        # Bit for bit, so that a threshold cuts alike.
        assert classify(model, tokenizer, [asked[i] for i in chosen]) == [alone[i] for i in chosen]
    assert classify(model, tokenizer, asked * 12) == alone * 12


def test_what_cannot_be_read_is_said(headed: Callable[..., Path], loaded: Loaded) -> None:
    model, tokenizer = loaded(headed("classify", **LABELS))
    with pytest.raises(UserError, match="text 2 is empty"):
        classify(model, tokenizer, ["the", "  "])
    long = "model " * 100
    with pytest.raises(UserError, match="text 1 has 102 tokens, and the model reads at most 64") as caught:
        classify(model, tokenizer, [long])
    assert "--cut" in (caught.value.hint or "")
    cut = classify(model, tokenizer, [long], cut=True)[0]
    assert cut.scores == classify(model, tokenizer, ["model " * 62])[0].scores
    pair = classify(model, tokenizer, [(long, "the token")], cut=True)[0]
    assert pair.scores == classify(model, tokenizer, [("model " * 59, "the token")])[0].scores
    assert classify(model, tokenizer, []) == []


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [("span", {}, "answers questions"), ("masked", {}, "fills gaps"), ("none", {}, "has no head")],
)
def test_a_model_for_something_else_says_what_it_is_for(
    head: str, changes: dict[str, Any], message: str, headed: Callable[..., Path], loaded: Loaded
) -> None:
    folder = headed(head, **changes)
    with pytest.raises(ModelError, match=message) as caught:
        classify(*loaded(folder), ["the"])
    assert caught.value.where == str(folder) and caught.value.hint
