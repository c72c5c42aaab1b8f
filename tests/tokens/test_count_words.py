"""Counted words against those that the library's own pre-tokenizers cut."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from ownlm.tokens.count_words import count_bert_words, count_characters, count_marked_words

# Letters, marks, spaces of all kinds, control characters, accents, Chinese, and what is mapped to several characters.
anything = st.text(
    st.sampled_from("aBz9 .,-'\n\t\r\0\x0b\x0c\x1c\x1f\x85\xa0\u2003\u200b\u2028\u3000▁éÄ\u0301ßİ中文ﬁ😀\ufffd"),
    max_size=30,
)


def library_words(backend: Tokenizer, texts: list[str]) -> Counter[str]:
    words: Counter[str] = Counter()
    for text in texts:
        written = backend.normalizer.normalize_str(text) if backend.normalizer else text
        words.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(written))
    return words


@given(st.lists(anything, max_size=3))
@example(["\n a", " \n", "▁\n", "\n\n"])
def test_marked_words_are_the_librarys(texts: list[str]) -> None:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.Metaspace(prepend_scheme="first")]
    )
    assert count_marked_words(filter(None, texts), 1000) == library_words(backend, texts)


@given(st.lists(anything, max_size=3))
@example(["a\x1cb", "e\u0301 \u0301e"])
def test_bert_words_are_the_librarys(texts: list[str]) -> None:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert count_bert_words(texts, backend) == library_words(backend, texts)


def test_long_words_are_counted_in_parts() -> None:
    assert count_marked_words(["abcdefgh abcdefgh"], 4) == {"▁abc": 2, "defg": 2, "h": 2}


def test_characters_are_counted_as_often_as_their_words() -> None:
    assert count_characters({"aba": 2, "b": 3}) == {"a": 4, "b": 5}
