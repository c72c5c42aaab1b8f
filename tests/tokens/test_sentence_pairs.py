"""Pairs of sentences: every token its own text's once, half of the second halves another text's, nothing too long."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import DataError
from ownlm.tokens.sentence_pairs import Pairs, Sentences, pair_sentences
from ownlm.tokens.vocabulary import Vocabulary

END, WORD = 1, 0


def vocabulary() -> Vocabulary:
    """Two ids: a word, and the end of a sentence."""
    no, yes = np.zeros(2, bool), np.ones(2, bool)
    return Vocabulary(yes, no, no, no, no, np.array([False, True]))


def sentences_of(texts: list[list[int]], most: int, blocks: int = 3, margin: int = 1) -> Sentences:
    """Texts one after another, each with a token before and after it that is none of its own."""
    flat: list[int] = []
    bounds: list[tuple[int, int]] = []
    for text in texts:
        flat += [END] * margin
        bounds.append((len(flat), len(flat) + len(text)))
        flat += [*text, *([END] * margin)]

    def made():
        for place in range(0, len(bounds), blocks):
            group = bounds[place : place + blocks]
            first, last = group[0][0] - margin, group[-1][1] + margin
            begins, ends = (np.array([bound[i] - first for bound in group]) for i in range(2))
            yield np.array(flat[first:last], np.int64), first, begins, ends

    return Sentences.of(made(), vocabulary(), most)


TEXTS = st.lists(st.lists(st.sampled_from([WORD, WORD, END]), max_size=30), min_size=1, max_size=8)


@settings(deadline=None, max_examples=150)
@given(TEXTS, st.integers(1, 9), st.integers(1, 4))
def test_sentences_are_those_of_a_loop(texts: list[list[int]], most: int, blocks: int) -> None:
    expected: list[list[tuple[int, int]]] = []
    place = 0
    for text in texts:
        place += 1
        cuts = [0]
        for i in range(1, len(text)):
            if text[i - 1] == END and text[i] != END:
                cuts.append(i)
        found = []
        for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True):
            parts = -(-(b - a) // most)
            found += [(place + a + n * (b - a) // parts, place + a + (n + 1) * (b - a) // parts) for n in range(parts)]
        if found:
            expected.append(found)
        place += len(text) + 1
    sentences = sentences_of(texts, most, blocks)
    spans = list(zip(sentences.starts.tolist(), sentences.ends.tolist(), strict=True))
    assert [spans[a:b] for a, b in itertools.pairwise(sentences.texts.tolist())] == expected


def text_of(sentences: Sentences, place: int) -> int:
    """Which text a token is in."""
    firsts = sentences.starts[sentences.texts[:-1]]
    return int(np.searchsorted(firsts, place, side="right")) - 1


def check(sentences: Sentences, pairs: Pairs, room: int) -> None:
    own: list[int] = []
    starts, ends = set(sentences.starts.tolist()), set(sentences.ends.tolist())
    for a, b, c, d, follows in zip(*pairs.first, *pairs.second, pairs.follows, strict=True):
        assert a < b and c < d and (b - a) + (d - c) <= room
        assert {a, c} <= starts and b in ends
        assert text_of(sentences, a) == text_of(sentences, b - 1)
        assert text_of(sentences, c) == text_of(sentences, d - 1)
        own += range(a, b)
        if follows:
            assert c == b and d in ends
            own += range(c, d)
        else:
            assert text_of(sentences, c) != text_of(sentences, a)
    whole = [place for a, b in zip(sentences.starts, sentences.ends, strict=True) for place in range(a, b)]
    assert own == whole


@settings(deadline=None, max_examples=150)
@given(TEXTS.filter(lambda texts: sum(map(bool, texts)) > 1), st.integers(2, 24))
def test_every_token_stands_in_one_pair_as_its_own(texts: list[list[int]], room: int) -> None:
    sentences = sentences_of(texts, max(1, room // 2))
    check(sentences, pair_sentences(sentences, room, "here"), room)


def test_half_of_the_second_halves_are_other_texts() -> None:
    random = np.random.default_rng(0)
    texts = [([WORD] * 5 + [END]) * int(random.integers(30, 60)) for _ in range(60)]
    sentences = sentences_of(texts, 24)
    pairs = pair_sentences(sentences, 48, "here")
    check(sentences, pairs, 48)
    # A text's last sentence may be left over, and then nothing follows: at most once in each.
    forced = sum(1 for b in pairs.first[1][pairs.follows == 0] if b in set(sentences.ends[sentences.texts[1:] - 1]))
    free = len(pairs) - forced
    assert forced <= len(texts)
    assert pairs.follows.sum() / free == pytest.approx(0.5, abs=4 * 0.5 / free**0.5)
    # First halves of all sizes, and other texts from everywhere.
    sizes = np.unique(pairs.first[1] - pairs.first[0])
    assert sizes.tolist() == [6, 12, 18, 24, 30, 36, 42, 48][: len(sizes)] and len(sizes) >= 7
    others = [text_of(sentences, int(c)) for c in pairs.second[0][pairs.follows == 0]]
    assert len(set(others)) > 50


def test_pairs_are_the_same_on_every_machine() -> None:
    texts = [[WORD, END] * 6, [WORD, WORD, END] * 7, [END]]
    sentences = sentences_of(texts, 5)
    pairs = pair_sentences(sentences, 10, "here")
    # Written down once; a change would break resuming runs that were started before it.
    rows = np.stack([*pairs.first, *pairs.second, pairs.follows]).T.tolist()
    assert rows == [
        [1, 9, 18, 20, 0],
        [9, 11, 11, 13, 1],
        [15, 21, 3, 7, 0],
        [21, 27, 3, 7, 0],
        [27, 33, 33, 36, 1],
        [38, 39, 21, 30, 0],
    ]


def test_one_text_alone_has_no_other() -> None:
    with pytest.raises(DataError, match="two texts"):
        pair_sentences(sentences_of([[WORD, END] * 6, []], 5), 10, "here")
