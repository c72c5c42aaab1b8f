"""Showing a batch: every token's text, place and share in the loss are those of the batch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.tokens.batch import Batch
from ownlm.tokens.show import as_terminal_text, show_batch, token_texts, write_batch_page
from ownlm.tokens.tokenizer import Tokenizer
from ownlm.tokens.train_bpe import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["the cat sat on the mat\nand 語 🙂 there it sat"] * 20, 300)


def batch_of(tokenizer: Tokenizer, texts: list[str], trained_from: int, *, goes_on: bool = False) -> Batch:
    """Documents packed by hand: targets are the next tokens, weights begin at ``trained_from`` in each."""
    tokens: list[int] = []
    positions: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    starts = [0]
    for text in texts:
        ids = tokenizer.encode(text)
        tokens += ids
        positions += range(len(ids))
        targets += [*ids[1:], ids[0]]
        weights += [float(i + 1 >= trained_from) for i in range(len(ids) - 1)] + [float(goes_on)]
        starts.append(len(tokens))
    arrays = (torch.tensor(tokens), torch.tensor(positions), tuple(starts), torch.tensor(targets))
    return Batch(*arrays, torch.tensor(weights), documents=tuple(range(10, 10 + len(texts))))


def test_documents_come_back_with_what_is_trained(tokenizer: Tokenizer):
    texts = ["the cat sat", "and there it sat"]
    batch = batch_of(tokenizer, texts, trained_from=2)
    shown = show_batch(batch, tokenizer)
    assert [d.text for d in shown] == texts
    assert [d.index for d in shown] == [10, 11]
    for document, text in zip(shown, texts, strict=True):
        ids = tokenizer.encode(text)
        assert [t.id for t in document.tokens] == ids
        assert [t.position for t in document.tokens] == list(range(len(ids)))
        assert [t.trained for t in document.tokens] == [i >= 2 for i in range(len(ids))]
    assert sum(d.trained_tokens for d in shown) == batch.trained_tokens


def test_a_piece_that_goes_on_shows_what_its_last_token_predicts(tokenizer: Tokenizer):
    batch = batch_of(tokenizer, ["the cat sat"], trained_from=1, goes_on=True)
    (document,) = show_batch(batch, tokenizer)
    assert document.following is not None
    assert document.following.id == tokenizer.encode("the cat sat")[0]
    assert document.trained_tokens == batch.trained_tokens == len(batch)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=40))
def test_the_texts_of_tokens_add_up_to_the_text(text: str):
    tokenizer = train_tokenizer(["the cat sat on the mat"], 280)
    ids = tokenizer.encode(text, special=False)
    assert "".join(token_texts(ids, tokenizer)) == tokenizer.decode(ids, skip_special=False)


def test_without_colours_trained_spans_are_marked_and_lines_begin_with_positions(tokenizer: Tokenizer):
    batch = batch_of(tokenizer, ["a\nb\nc"], trained_from=2)
    text = as_terminal_text(show_batch(batch, tokenizer), colored=False)
    assert text.split("\n") == [
        "document 10: 5 tokens, 3 trained",
        "     0 │ a",
        "     2 │ «b»",
        "     4 │ «c»",
    ]


def test_with_colours_the_same_text_is_shown(tokenizer: Tokenizer):
    batch = batch_of(tokenizer, ["the cat sat", "there it sat"], trained_from=2)
    text = as_terminal_text(show_batch(batch, tokenizer), colored=True)
    assert "the cat sat" in re.sub(r"\x1b\[[\d;]*m", "", text)
    assert "\x1b[1;36m" in text
    assert "\x1b[1;33m" in text


def test_control_characters_of_a_text_do_not_reach_the_terminal(tokenizer: Tokenizer):
    batch = batch_of(tokenizer, ["a\x1b[2Jb"], trained_from=1)
    assert "\x1b" not in as_terminal_text(show_batch(batch, tokenizer), colored=False)


def test_the_page_marks_trained_tokens(tokenizer: Tokenizer, tmp_path: Path):
    batch = batch_of(tokenizer, ["the <b> sat"], trained_from=2)
    write_batch_page(show_batch(batch, tokenizer), tmp_path / "batch.html", "here")
    page = (tmp_path / "batch.html").read_text()
    assert page.count('<span class="t"') == batch.trained_tokens
    assert "<b>" not in page


def test_hidden_tokens_are_shown_as_the_model_gets_them_with_what_they_were(tokenizer: Tokenizer, tmp_path: Path):
    ids = tokenizer.encode("the cat sat on the mat")
    seen = ids.copy()
    seen[1], seen[4] = tokenizer.encode("語")[0], tokenizer.encode(" there")[0]
    weights = torch.zeros(len(ids))
    weights[[1, 3, 4]] = 1.0
    arrays = (torch.tensor(seen), torch.arange(len(ids)), (0, len(ids)), torch.tensor(ids))
    batch = Batch(*arrays, weights, documents=(7,))
    (document,) = show_batch(batch, tokenizer, shifted=False)
    assert [t.id for t in document.tokens] == seen
    assert [t.position for t in document.tokens if t.trained] == [1, 3, 4]
    assert document.following is None and document.trained_tokens == batch.trained_tokens
    assert document.hidden == tuple(tokenizer.decode([ids[i]]).strip() for i in (1, 3, 4))
    assert document.as_json()["hidden"] == list(document.hidden)
    last = as_terminal_text([document], colored=False).split("\n")[-1]
    assert last == "hidden │ " + ", ".join(f"{i} {tokenizer.decode([ids[i]]).strip()}" for i in (1, 3, 4))
    write_batch_page([document], tmp_path / "batch.html", "here")
    assert "Hidden, by position: 1 cat" in (tmp_path / "batch.html").read_text()
