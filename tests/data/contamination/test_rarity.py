"""What words are worth: ranks, counts and templates, against a plain computation."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.contamination.rarity import surprisal, template_discount, text_column
from ownlm.data.words import find_words

NOTHING = np.zeros(0, np.uint64)


def bits_of(text: str) -> list[float]:
    return surprisal(find_words(text_column([text]), "letters"), NOTHING).round(4).tolist()


def test_rare_words_are_worth_more() -> None:
    # The commonest word, the second, a word of no list; 10 rank by Zipf's law.
    assert bits_of("the to photosynthesis") == [round(math.log2(10), 4), round(math.log2(20), 4), 14.2877]
    assert bits_of("x 7 42 1789 123456") == [4.0, 4.0, 6.0, 10.0, 12.0]
    # A Chinese character is a word of its own.
    assert bits_of("中国") == [9.0, 9.0]


def test_what_the_evaluation_sets_say_often_is_worth_less() -> None:
    words = find_words(text_column(["quokka " * 4000]), "letters")
    assert surprisal(words, np.sort(words.hashes))[0] == np.float64(-np.log2(4000 / 24000)).clip(3)
    assert surprisal(words, words.hashes[:1])[0] > 14


def brute_force(texts: list[list[str]], n: int) -> list[float]:
    """Each word's least factor over the n-grams that hold it."""
    grams = [[tuple(words[i : i + n]) for i in range(len(words) - n + 1)] for words in texts]
    items = Counter(gram for found in grams for gram in set(found))
    few = max(4, 0.02 * len(texts))
    kept = []
    for words, found in zip(texts, grams, strict=True):
        for place in range(len(words)):
            mine = found[max(0, place - n + 1) : place + 1]
            kept.append(min([1.0, *(few / items[gram] for gram in mine)]))
    return kept


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=7), max_size=25), st.integers(2, 4))
def test_template_discount_by_brute_force(texts: list[list[str]], n: int) -> None:
    words = find_words(text_column([" ".join(text) for text in texts]), "letters")
    one_set = template_discount(words, np.zeros(len(texts), np.int32), n)
    assert np.allclose(one_set, brute_force(texts, n))
    # Sets do not share their templates.
    halves = np.arange(len(texts), dtype=np.int32) % 2
    both = template_discount(words, halves, n)
    for half in (0, 1):
        mine = np.repeat(halves == half, words.counts)
        assert np.allclose(both[mine], brute_force(texts[half::2], n))


def test_an_instruction_shared_by_all_is_next_to_nothing() -> None:
    texts = [
        f"Choose the best answer to the question. Where do {name} nest?" for name in map("bird{}".format, range(400))
    ]
    words = find_words(text_column(texts), "letters")
    kept = template_discount(words, np.zeros(400, np.int32), 3)[: words.counts[0]]
    # "where do bird0" and what follows is the item's own, and "nest" belongs to no common n-gram.
    assert kept[:9].max() <= 0.02
    assert kept[-2:].tolist() == [1.0, 1.0]
