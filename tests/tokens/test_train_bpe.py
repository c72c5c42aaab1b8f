"""Training tokenizers."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import AutoTokenizer

from ownlm.errors import UserError
from ownlm.tokens import train_bpe
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.tokens.train_bpe import DEFAULT_SPECIALS, bytes_per_token, train_tokenizer

TEXTS = ["A fox and a dog.\nAnother fox, and another dog!\n", "Der Fuchs und der Hund: größer, schöner.\n"] * 5


def test_bpe_equals_the_librarys_own_recipe() -> None:
    ours = train_tokenizer(iter(TEXTS), 290)
    reference = ByteLevelBPETokenizer()
    reference.train_from_iterator(TEXTS, 290, special_tokens=list(DEFAULT_SPECIALS), show_progress=False)
    assert ours.backend.get_vocab() == reference.get_vocab()
    assert ours.vocab_size == 290
    assert (ours.eos_id, ours.bos_id, ours.pad_id) == (0, 0, 0)
    assert "<|im_start|>" in (ours.chat_template or "")


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert train_tokenizer(TEXTS, 320).fingerprint == train_tokenizer(TEXTS, 320).fingerprint


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_kinds_are_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 300 if kind == "bpe" else 80, kind)  # type: ignore[arg-type]
    tokenizer.save(tmp_path)
    ids = tokenizer.encode("A fox and\nanother dog.")
    assert load_tokenizer(tmp_path).encode("A fox and\nanother dog.") == ids
    assert (
        AutoTokenizer.from_pretrained(tmp_path)("A fox and\nanother dog.", add_special_tokens=False)["input_ids"] == ids
    )
    if kind == "wordpiece":
        assert tokenizer.backend.encode("A fox").tokens[0] == "[CLS]"
    else:
        assert tokenizer.decode(ids) == "A fox and\nanother dog."


@given(st.text("abAB .,\n", max_size=40))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_unigram_reads_back(unigram, text: str) -> None:
    assert unigram.decode(unigram.encode("x" + text))[1:] == text


@pytest.fixture(scope="module")
def unigram():
    return train_tokenizer(["abAB x., ab AB\nab x\n"] * 20, 40, "unigram")


def test_bytes_per_token() -> None:
    tokenizer = train_tokenizer(TEXTS, 260, specials=())
    assert tokenizer.vocab_size <= 260
    assert bytes_per_token(tokenizer, ["zq", "ü"]) == 1.0
    assert bytes_per_token(train_tokenizer(TEXTS, 400), TEXTS) > 3


def test_more_text_than_can_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_bpe, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="random sample"):
        train_tokenizer(TEXTS, 400)


def test_bad_input() -> None:
    with pytest.raises(UserError, match="vocabulary of 258 is too small") as caught:
        train_tokenizer(TEXTS, 258)
    assert "at least 259" in str(caught.value)
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(iter([]), 400)
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(["", ""], 400)
    with pytest.raises(UserError, match="did you mean 'bpe'"):
        train_tokenizer(TEXTS, 400, "bp")  # type: ignore[arg-type]

    def failing():
        yield "a"
        raise UserError("this line is broken")

    with pytest.raises(UserError, match="this line is broken"):
        train_tokenizer(failing(), 400)


def test_words_without_end_are_no_trouble() -> None:
    # A picture in letters, a line of dashes, blanks: counted whole, the first alone takes more than ten minutes.
    for kind in ("bpe", "wordpiece"):
        texts = ["<" * 1_000_000, "ab" * 400_000, " " * 500_000, "the model reads text"]
        tokenizer = train_tokenizer(texts, 320, kind)
        assert tokenizer.decode(tokenizer.encode("the text")) == "the text"


def test_a_long_text_is_counted_in_parts_as_if_it_were_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(0)
    words = ["model", "reads", "text,", "  twice", "über", "a\n", "\n\nb", "42", "中文。", "\t", "x "]
    text = " ".join(draw.choices(words, k=5000))
    whole = train_tokenizer([text], 400)
    monkeypatch.setattr(train_bpe, "LONGEST_PART", 1000)
    assert train_tokenizer([text], 400).fingerprint == whole.fingerprint
