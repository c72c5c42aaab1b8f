"""Decoding against trying every span."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.prediction.spans import ReadWindow, decode, window_logits
from ownlm.tokens.windows import EncodedText


def words(count: int, empty: frozenset[int] = frozenset()) -> EncodedText:
    """A context of one-letter words: token i stands at character 2 i; those in ``empty`` have no character."""
    places = np.array([[2 * i, 2 * i + (i not in empty)] for i in range(count)], np.int64).reshape(-1, 2)
    return EncodedText(list(range(count)), places)


def brute_force(
    windows: list[ReadWindow], context: EncodedText, max_answer: int
) -> tuple[dict[tuple[int, int], float], float]:
    """The best score of every span of characters, and the sum of the exponentials of all spans' scores."""
    best: dict[tuple[int, int], float] = {}
    total = 0.0
    for window in windows:
        for i in range(len(window.begins)):
            for j in range(i, min(i + max_answer, len(window.begins))):
                first, last = context.places[window.first + i], context.places[window.first + j]
                if first[0] == first[1] or last[0] == last[1]:
                    continue
                score = float(window.begins[i] + window.ends[j])
                span = int(first[0]), int(last[1])
                best[span] = max(best.get(span, -math.inf), score)
                total += math.exp(score)
    return best, total


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 25),
    room=st.integers(1, 25),
    max_answer=st.integers(1, 30),
    count=st.integers(1, 8),
    empty=st.frozensets(st.integers(0, 24), max_size=4),
)
def test_the_best_spans_are_those_of_trying_all(
    seed: int, tokens: int, room: int, max_answer: int, count: int, empty: frozenset[int]
) -> None:
    draw = np.random.default_rng(seed)
    context = words(tokens, empty)
    step = max(1, room // 2)
    windows = []
    for first in range(0, tokens, step):
        size = min(room, tokens - first)
        windows.append(ReadWindow(first, draw.normal(size=size), draw.normal(size=size), float(draw.normal())))
    best, total = brute_force(windows, context, max_answer)
    found = decode(windows, context, max_answer=max_answer, count=count)
    expected = sorted(best.items(), key=lambda item: -item[1])[:count]
    assert [(s.start, s.end) for s in found.spans] == [span for span, _ in expected]
    none = min(window.none for window in windows)
    total += math.exp(none)
    assert [s.score for s in found.spans] == pytest.approx([score for _, score in expected])
    assert [s.probability for s in found.spans] == pytest.approx([math.exp(score) / total for _, score in expected])
    assert found.none == pytest.approx(math.exp(none) / total)
    assert found.doubt == (pytest.approx(none - expected[0][1]) if expected else math.inf)


def test_where_there_is_always_an_answer_it_has_all_the_probability() -> None:
    window = ReadWindow(0, np.array([1.0]), np.array([2.0]), 50.0)
    found = decode([window], words(1), max_answer=5, may_be_none=False)
    assert found.spans[0].probability == pytest.approx(1) and found.none == 0
    assert decode([window], words(1), max_answer=5).spans[0].probability == pytest.approx(math.exp(3 - 50))


def test_a_window_is_the_contexts_part_of_its_document() -> None:
    logits = np.arange(12, dtype=np.float32).reshape(6, 2)
    window = window_logits(logits, first=7, count=2, place=3)
    assert window.first == 7 and window.none == 0 + 1
    assert window.begins.tolist() == [6, 8] and window.ends.tolist() == [7, 9]
