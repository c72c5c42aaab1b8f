"""Hidden tokens scored many copies to a pass have the probabilities that each copy gives alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ownlm.errors import DataError, ModelError
from ownlm.evaluate.pseudo import Gap, framed, gap_log_probs, pseudo_log_likelihoods
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

TEXTS = ["The model reads text.", "Who learns? A token by word!", "it"]


def gaps_for(vocab: int, seed: int) -> list[Gap]:
    rng = random.Random(seed)
    found = []
    for _ in range(60):
        tokens = tuple(rng.randrange(vocab) for _ in range(rng.randint(1, 40)))
        found += [Gap(tokens, rng.randrange(len(tokens)), rng.randrange(vocab)) for _ in range(rng.randint(1, 3))]
    rng.shuffle(found)
    return found


@pytest.fixture(scope="session")
def tokenizer(encoder: Path) -> Tokenizer:
    return load_tokenizer(encoder)


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_gaps_are_those_of_each_copy_alone(make_model: Callable[..., Transformer], name: str) -> None:
    model = make_model(name, head="masked")
    gaps = gaps_for(model.config.vocab_size, 1)
    expected = []
    for gap in gaps:
        (logits,) = model.logits([list(gap.tokens)])
        expected.append(float(logits[gap.place].double().log_softmax(-1)[gap.target]))
    for size in (None, 256):
        np.testing.assert_allclose(gap_log_probs(model, gaps, batch_tokens=size), expected, atol=2e-5)


def test_a_gap_has_the_same_bits_in_any_company(make_model: Callable[..., Transformer]) -> None:
    model = make_model("bert", head="masked")
    gaps = gaps_for(model.config.vocab_size, 2)
    together = gap_log_probs(model, gaps)
    alone = np.concatenate([gap_log_probs(model, [gap]) for gap in gaps])
    np.testing.assert_array_equal(together, alone)


def test_blocks_join(make_model: Callable[..., Transformer], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("bert", head="masked")
    gaps = gaps_for(model.config.vocab_size, 3)
    whole = gap_log_probs(model, gaps)
    monkeypatch.setattr("ownlm.evaluate.pseudo.BLOCK", 7)
    seen: list[int] = []
    np.testing.assert_array_equal(gap_log_probs(model, gaps, progress=seen.append), whole)
    assert seen[:2] == [7, 14] and seen[-1] == len(gaps)


def test_pseudo_log_likelihoods_hide_each_own_token(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    model = make_model("bert", head="masked", vocab_size=tokenizer.vocab_size)
    found = pseudo_log_likelihoods(model, tokenizer, TEXTS)
    for text, values in zip(TEXTS, found, strict=True):
        ids = tokenizer.backend.encode(text).ids
        assert ids[0] == tokenizer.cls_id and ids[-1] == tokenizer.sep_id
        expected = []
        for place in range(1, len(ids) - 1):
            copy = list(ids)
            copy[place] = tokenizer.mask_id  # type: ignore[call-overload]
            (logits,) = model.logits([copy])
            expected.append(float(logits[place].log_softmax(-1)[ids[place]]))
        np.testing.assert_allclose(values, expected, atol=2e-5)


def test_what_cannot_be_scored_is_named(make_model: Callable[..., Transformer], tokenizer: Tokenizer) -> None:
    model = make_model("bert", head="masked", vocab_size=tokenizer.vocab_size, max_positions=16)
    assert framed(model, tokenizer, "token " * 30) is None
    with pytest.raises(DataError, match="longer than the 16 tokens") as error:
        pseudo_log_likelihoods(model, tokenizer, ["it", "token " * 30])
    assert error.value.where == "text 1"
    for wrong in (Gap((1, 2), 2, 0), Gap((1,) * 17, 0, 0)):
        with pytest.raises(DataError, match="inside a text") as error:
            gap_log_probs(model, [Gap((1,), 0, 0), wrong])
        assert error.value.where == "gap 1"
    with pytest.raises(ModelError, match="continues texts"):
        gap_log_probs(make_model("gpt2"), [Gap((1,), 0, 0)])
    with torch.no_grad():
        model.layers[0].feedforward.down.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="no numbers"):
        gap_log_probs(model, [Gap((1,), 0, 0)])


def test_nothing_asked_is_nothing_found(make_model: Callable[..., Transformer]) -> None:
    assert gap_log_probs(make_model("bert", head="masked"), []).tolist() == []
