"""Texts made from others, against Transformers' greedy search and against every text that there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

from ownlm.errors import ModelError, UserError
from ownlm.model.checkpoint import random_model, save_model_folder
from ownlm.model.cross import SourceTokens
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.prediction.rewriting import GROUP, RewriteOptions, Rewritten, rewrite
from ownlm.prediction.scores import score_rewritings
from ownlm.tokens.tokenizer import Tokenizer

Loaded = Callable[[Path], tuple[Transformer, Tokenizer]]
WORDS = ["<end>", "<start>", "ada", "bob", "cat"]


def saved(folder: Path, words: list[str], **changes: Any) -> Path:
    """A small model over whole words, its weights large enough for texts to differ."""
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "ada"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(words[:2])
    tokenizer = Tokenizer(backend, names={"eos_token": words[0], "pad_token": words[1]})
    shape = {"family": "marian", "layers": 2, "width": 32, "heads": 4, "vocab_size": len(words), "max_positions": 64}
    config = config_from_user({**shape, "initializer_range": 0.25, "start_token": 1, **changes})
    model = random_model(config, 11)
    with torch.no_grad():
        model.get_parameter("head.bias").normal_(generator=torch.Generator().manual_seed(2))
    save_model_folder(model, folder, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("rewriting") / "model", WORDS)


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = [*WORDS[:2], *(f"w{number}" for number in range(60)), "ada"]
    return saved(tmp_path_factory.mktemp("rewriting") / "model", words)


def sources(count: int, words: int) -> list[str]:
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(1, 40, (count,), generator=generator).tolist()
    return [" ".join(f"w{n}" for n in torch.randint(0, words, (k,), generator=generator).tolist()) for k in lengths]


def test_greedy_texts_are_the_public_ones(larger: Path, loaded: Loaded) -> None:
    model, tokenizer = loaded(larger)
    public = transformers.MarianMTModel.from_pretrained(larger, dtype=torch.float32).eval()
    texts = sources(12, 60)
    for one in rewrite(model, tokenizer, texts, RewriteOptions(beams=1, max_tokens=20)):
        ids = torch.tensor([[*tokenizer.encode(one.text), 0]])
        given = public.generate(ids, max_new_tokens=20, num_beams=1, do_sample=False, suppress_tokens=[1])
        assert one.output == tokenizer.decode(given[0].tolist()).strip()


def every_text(model: Transformer, source: list[int], limit: int, options: RewriteOptions) -> tuple[float, list[int]]:
    """The best of all texts of at most so many tokens, by scoring each of them."""
    best = (-math.inf, [0])
    for length in range(limit + 1):
        for text in itertools.product(range(2, len(WORDS)), repeat=length):
            whole = [*text, 0] if length < limit else list(text)
            target = torch.tensor([1, *whole[:-1]])
            places = torch.arange(len(target)), torch.arange(len(source))
            given = SourceTokens(torch.tensor(source), places[1], [0, len(source)])
            hidden = model.read(target, places[0], [0, len(target)], source=given)[: len(target)]
            # The start token is left out, and the others keep their chances.
            chances = model.logits_of(hidden).log_softmax(-1)
            score = chances[torch.arange(len(whole)), torch.tensor(whole)].sum().item()
            best = max(best, (score / options.penalty(len(whole)), list(text)))
    return best


@torch.no_grad()
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_enough_beams_find_the_best_of_all_texts(penalty: float, small: Path, loaded: Loaded) -> None:
    model, tokenizer = loaded(small)
    options = RewriteOptions(beams=300, length_penalty=penalty, max_tokens=4)
    for one in rewrite(model, tokenizer, ["ada bob", "cat", "cat cat bob ada bob"], options):
        score, ids = every_text(model, [*tokenizer.encode(one.text), 0], 4, options)
        assert tokenizer.encode(one.output) == ids
        assert one.score == pytest.approx(score, abs=1e-4)


def test_more_beams_are_never_left_without_a_text(larger: Path, loaded: Loaded) -> None:
    model, tokenizer = loaded(larger)
    texts = sources(3, 60)
    greedy = rewrite(model, tokenizer, texts, RewriteOptions(beams=1))
    for beams in (2, 4, 9):
        found = rewrite(model, tokenizer, texts, RewriteOptions(beams=beams))
        assert [one.text for one in found] == [one.text for one in greedy]
        assert all(math.isfinite(one.score) for one in found)


def test_a_text_is_what_it_is_whatever_is_asked_beside_it(larger: Path, loaded: Loaded) -> None:
    model, tokenizer = loaded(larger)
    texts = sources(2 * GROUP + 3, 60)
    together = rewrite(model, tokenizer, texts)
    backwards = rewrite(model, tokenizer, texts[::-1])[::-1]
    assert together == backwards
    assert [rewrite(model, tokenizer, [text])[0] for text in texts] == together


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (["ada", " "], RewriteOptions(), "text 2 is empty"),
        (["ada " * 64], RewriteOptions(), "text 1 has 65 tokens, and the model reads at most 64"),
        (["ada"], RewriteOptions(beams=0), "at least 1"),
        (["ada"], RewriteOptions(max_tokens=0), "at least 1"),
        (["ada"], RewriteOptions(length_penalty=math.nan), "finite"),
    ],
)
def test_what_cannot_be_made_is_said(
    texts: list[str], options: RewriteOptions, message: str, small: Path, loaded: Loaded
) -> None:
    with pytest.raises(UserError, match=message):
        rewrite(*loaded(small), texts, options)


def test_other_models_are_refused(corpus: Path, loaded: Loaded) -> None:
    with pytest.raises(ModelError, match="continues texts"):
        rewrite(*loaded(corpus / "base"), ["a"])


def test_scores_are_those_of_the_public_measure() -> None:
    found = [Rewritten("", "the cat sat on the mat", 0.0), Rewritten("", "a dog  barks", 0.0)]
    scores = score_rewritings(found, ["the cat sat on the mat", "a dog barks"])
    assert scores == {"exact": 1.0, "bleu": pytest.approx(100.0, abs=1e-6), "chrf": pytest.approx(100.0)}
    other = score_rewritings(found, ["the cat sat on a mat", "dogs bark"])
    assert other["exact"] == 0.0 and 0 < other["bleu"] < other["chrf"] < 100
