"""Training tokenizers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers.implementations import ByteLevelBPETokenizer
from transformers import AutoTokenizer

from ownlm.errors import UserError
from ownlm.tokens import train_bpe
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.tokens.train_bpe import DEFAULT_SPECIALS, Kind, bytes_per_token, train_tokenizer

TEXTS = ["A fox and a dog.\nAnother fox, and another dog!\n", "Der Fuchs und der Hund: größer, schöner.\n"] * 5


def test_bpe_equals_the_librarys_own_recipe() -> None:
    ours = train_tokenizer(iter(TEXTS), 290)
    reference = ByteLevelBPETokenizer()
    reference.train_from_iterator(TEXTS, 290, special_tokens=list(DEFAULT_SPECIALS), show_progress=False)
    assert ours.backend.get_vocab() == reference.get_vocab()
    assert ours.vocab_size == 290
    assert (ours.eos_id, ours.bos_id, ours.pad_id) == (0, 0, 0)
    assert "<|im_start|>" in (ours.chat_template or "")


SAME = """
import sys
from ownlm.tokens.train_bpe import train_tokenizer
texts = [f"w{i * 7919 % 1009}x{i % 37} reading{i % 91} writes the model" for i in range(3000)]
print(*(train_tokenizer(texts, 1000, kind).fingerprint for kind in ("bpe", "wordpiece", "unigram") for _ in range(2)))
"""


def test_the_same_texts_give_the_same_tokenizer_in_every_process() -> None:
    # Many words are equally frequent, so that chance would decide between them if it could.
    found = set()
    for threads in ("1", "4"):
        environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": threads}
        found.add(subprocess.run([sys.executable, "-c", SAME], env=environment, check=True, capture_output=True).stdout)
    assert len(found) == 1
    bpe, again, wordpiece, again_wordpiece, unigram, again_unigram = found.pop().split()
    assert bpe == again and wordpiece == again_wordpiece and unigram == again_unigram
    assert len({bpe, wordpiece, unigram}) == 3


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_the_order_of_the_texts_changes_nothing(kind: Kind) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices("abcde ", k=20)) for _ in range(200)]
    assert train_tokenizer(texts, 400, kind).fingerprint == train_tokenizer(texts[::-1], 400, kind).fingerprint


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

    with pytest.raises(UserError, match="too small for the 52 different characters") as caught:
        train_tokenizer(["".join(map(chr, range(0x4E00, 0x4E00 + 51)))], 50, "unigram")
    # Four special tokens, and the mark that stands for a space.
    assert "at least 56" in str(caught.value)

    def failing():
        yield "a"
        raise UserError("this line is broken")

    with pytest.raises(UserError, match="this line is broken"):
        train_tokenizer(failing(), 400)


def test_words_without_end_are_no_trouble() -> None:
    # A picture in letters, a line of dashes, blanks: counted whole, the first alone takes more than ten minutes.
    for kind in ("bpe", "wordpiece", "unigram"):
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
