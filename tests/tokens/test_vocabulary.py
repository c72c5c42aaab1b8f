"""Words and sentences found by ids alone are those that the text itself shows."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.tokens.tokenizer import Tokenizer
from ownlm.tokens.train_bpe import train_tokenizer
from ownlm.tokens.vocabulary import Vocabulary

WORDS = ["the", "fox", "internationalisation", "dog", "don't", "3.14", "naïve", "你好", "नमस्ते", "x2", "(well)", "end."]
MARKS = ("\u0120", "\u2581")
TEXTS = st.lists(
    st.one_of(st.sampled_from(WORDS), st.text(alphabet="abZé 1.,-\n語🙂", max_size=6)), min_size=1, max_size=12
).flatmap(lambda words: st.sampled_from([" ", "\n", ""]).map(lambda gap: gap.join(words)))


@pytest.fixture(scope="module")
def wordpiece(sample: list[str]) -> Tokenizer:
    return train_tokenizer(sample, 400, "wordpiece")


@pytest.fixture(scope="module")
def unigram(sample: list[str]) -> Tokenizer:
    return train_tokenizer(sample, 400, "unigram")


def words(tokenizer: Tokenizer, vocabulary: Vocabulary, text: str) -> list[list[int]]:
    """The places of each word's tokens."""
    ids = np.array(tokenizer.encode(text), np.int64)
    if not len(ids):
        return []
    ordinary = vocabulary.ordinary[ids]
    begins = vocabulary.word_begins(ids, np.append(False, ordinary[:-1]))
    groups: list[list[int]] = []
    for place in range(len(ids)):
        if begins[place]:
            groups.append([place])
        elif ordinary[place]:
            groups[-1].append(place)
    return groups


@settings(deadline=None, max_examples=150)
@given(text=TEXTS)
def test_words_of_wordpiece_are_those_of_its_own_splitter(wordpiece: Tokenizer, text: str) -> None:
    encoding = wordpiece.backend.encode(text, add_special_tokens=False)
    expected: dict[int, list[int]] = {}
    for place, (word, token) in enumerate(zip(encoding.word_ids, encoding.tokens, strict=True)):
        # An unknown word is hidden from nobody.
        if token != "[UNK]":
            expected.setdefault(word, []).append(place)
    assert words(wordpiece, Vocabulary.of(wordpiece), text) == list(expected.values())


@pytest.mark.parametrize("name", ["bpe", "gpt2", "unigram"])
def test_words_of_marked_spaces_are_runs_of_letters_and_digits(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    vocabulary, unknown = Vocabulary.of(tokenizer), tokenizer.backend.token_to_id("<unk>")

    @settings(deadline=None, max_examples=150)
    @given(TEXTS)
    def check(text: str) -> None:
        encoding = tokenizer.backend.encode(text, add_special_tokens=False)
        expected: list[list[int]] = []
        # A character whose bytes are in several tokens counts as a letter: its tokens cannot tell what it is.
        spans = [span for span, token in zip(encoding.offsets, encoding.tokens, strict=True) if token not in MARKS]
        covered = [place for span in spans for place in range(*span)]

        def in_word(place: int) -> bool:
            return covered.count(place) > 1 or unicodedata.category(text[place])[0] in "LMN"

        for place, (start, end) in enumerate(encoding.offsets):
            if encoding.ids[place] == unknown:
                continue
            goes_on = place > 0 and encoding.ids[place - 1] != unknown
            if goes_on and start >= encoding.offsets[place - 1][1]:
                # Two tokens of one character (bytes) always belong together; others where letters or digits meet, or
                # where a lone space waits for its word.
                first, last = encoding.offsets[place - 1]
                goes_on = start < end and in_word(start) and first < last and in_word(last - 1)
            if encoding.tokens[place - 1] in MARKS and place > 0:
                goes_on = not encoding.tokens[place].startswith(MARKS)
            expected[-1].append(place) if goes_on else expected.append([place])
        assert words(tokenizer, vocabulary, text) == expected

    check()


def test_special_tokens_and_holes_are_no_text() -> None:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[MASK]": 3, "a": 4, "##b": 7, "##": 8, "c.": 9}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.add_special_tokens(["[PAD]", "[CLS]"])
    tables = Vocabulary.of(Tokenizer(backend, names={"unk_token": "[UNK]", "mask_token": "[MASK]"}))
    assert np.flatnonzero(tables.ordinary).tolist() == [4, 7, 8, 9]
    assert np.flatnonzero(tables.continues).tolist() == [7]
    assert np.flatnonzero(tables.ends_sentence).tolist() == [9]


@pytest.mark.parametrize("name", ["bpe", "gpt2", "unigram", "wordpiece"])
def test_sentences_end_with_their_marks(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(name)
    tables = Vocabulary.of(tokenizer)
    for mark, ends in ((".", True), (",", False), ("?", True), ("dog", False)):
        last = tokenizer.encode(f"the dog{mark}")[-1]
        if last != tokenizer.backend.token_to_id(tokenizer.names.get("unk_token", "")):
            assert tables.ends_sentence[last] == ends, mark
