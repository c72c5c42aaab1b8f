"""Gaps against the public library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from ownlm.errors import ModelError, UserError
from ownlm.model.transformer import Transformer
from ownlm.prediction.gaps import fill
from ownlm.tokens.tokenizer import Tokenizer

Loaded = Callable[[Path], tuple[Transformer, Tokenizer]]
TEXTS = ["the [MASK] reads text", "[MASK] learns what it [MASK] seen", "by word and [MASK]"]


def test_the_likeliest_words_are_the_public_ones(headed: Callable[..., Path], loaded: Loaded) -> None:
    folder = headed("masked")
    public = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    batch = public(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        chances = model(**batch).logits.softmax(-1)
    found = fill(*loaded(folder), TEXTS, count=4)
    for number, one in enumerate(found):
        places = (batch["input_ids"][number] == public.mask_token_id).nonzero()[:, 0].tolist()
        assert len(one.gaps) == len(places) == TEXTS[number].count("[MASK]")
        for words, place in zip(one.gaps, places, strict=True):
            values, ids = chances[number, place].topk(4)
            assert list(words) == [public.decode([i]).strip() for i in ids.tolist()]
            assert list(words.values()) == pytest.approx(values.tolist(), rel=1e-4)
        assert one.scores == one.gaps[0] and (one.label, one.score) == next(iter(one.scores.items()))
        expected = TEXTS[number]
        for words in one.gaps:
            expected = expected.replace("[MASK]", next(iter(words)), 1)
        assert one.filled == expected and one.text == TEXTS[number]


def test_the_answer_does_not_depend_on_what_else_is_asked(headed: Callable[..., Path], loaded: Loaded) -> None:
    model, tokenizer = loaded(headed("masked"))
    alone = [fill(model, tokenizer, [text])[0] for text in TEXTS]
    assert fill(model, tokenizer, TEXTS) == alone
    assert fill(model, tokenizer, TEXTS * 40) == alone * 40


def test_what_cannot_be_filled_is_said(headed: Callable[..., Path], loaded: Loaded) -> None:
    model, tokenizer = loaded(headed("masked"))
    with pytest.raises(UserError, match="text 2 has no gap: 'the model'"):
        fill(model, tokenizer, ["[MASK]", "the model"])
    tokenizer.names.pop("mask_token")
    with pytest.raises(ModelError, match="no mask token"):
        fill(model, tokenizer, ["[MASK]"])
    with pytest.raises(ModelError, match="tells the class") as caught:
        fill(*loaded(headed("classify", labels=("a", "b"))), ["[MASK]"])
    assert "--text" in (caught.value.hint or "")
