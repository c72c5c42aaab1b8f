"""Alignment, answers and scores against plain definitions."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.data.contamination.evidence import (
    Answer,
    Match,
    align,
    best_score,
    evenness,
    find_answer,
    is_passage,
    passage_share,
    score,
    surroundings,
)
from ownlm.data.contamination.index import EvaluationIndex
from ownlm.data.contamination.rarity import text_column
from ownlm.data.contamination.sets import Item
from ownlm.data.words import Hashes, find_words

SKIPPED = 32


def hashes(text: str) -> Hashes:
    return find_words(text_column([text]), "letters").hashes


def brute_force(unit: list[int], worth: list[int], words: list[int]) -> int:
    """The best chain of equal words, in both orders, less the words skipped between two of them: every chain tried."""

    @functools.cache
    def after(i: int, j: int) -> int:
        """The best that can follow a match of unit[i] with words[j]."""
        return max(
            [0]
            + [
                worth[k] - SKIPPED * (m - j - 1) + after(k, m)
                for k in range(i + 1, len(unit))
                for m in range(j + 1, len(words))
                if unit[k] == words[m]
            ]
        )

    starts = [(i, j) for i in range(len(unit)) for j in range(len(words)) if unit[i] == words[j]]
    return max([0] + [worth[i] + after(i, j) for i, j in starts])


few = st.lists(st.integers(0, 4), max_size=8)


@given(few, few.flatmap(lambda words: st.just(words)), st.data())
def test_align_is_the_best_chain(unit: list[int], words: list[int], data: st.DataObject) -> None:
    worth = data.draw(st.lists(st.integers(1, 90), min_size=len(unit), max_size=len(unit)))
    arrays = np.array(unit, np.uint64), np.array(worth, np.int32), np.array(words, np.uint64)
    match = align(*arrays)
    assert match.worth == brute_force(unit, worth, words)
    assert 0 <= match.start <= match.end <= len(words)
    if match.worth:
        # The region begins and ends with a matched word, and holds all that was found.
        assert words[match.start] in unit and words[match.end - 1] in unit
        assert brute_force(unit, worth, words[match.start : match.end]) == match.worth
        assert align(*arrays, least=match.worth + 1) == Match(0, 0, 0)


def test_evenness_by_hand() -> None:
    unit, worth = hashes("a b c d e f"), np.array([10, 10, 10, 10, 10, 10], np.int32)
    assert evenness(unit, worth, hashes("a b c d e f")) == 1.0
    assert evenness(unit, worth, hashes("d e f")) == 0.0
    assert evenness(unit, worth, hashes("a d e f")) == pytest.approx(1 / 3)


def test_score_by_hand() -> None:
    # 35 bits are one half, 70 three quarters; a missing answer leaves four fifths.
    assert score(35, 35) == pytest.approx(0.5)
    assert score(70, 70) == pytest.approx(0.75)
    assert score(70, 70, answer=Answer()) == pytest.approx(0.8 * 0.75)
    assert score(70, 140, answer=Answer(1.0, 35.0)) == pytest.approx(0.75 / 1.25 * (1 - 2**-3))
    assert score(70, 70, answer=Answer(), passage=0.0) == pytest.approx(0.75 / 1.4)
    assert score(70, 70, passage=1.0) == pytest.approx(1 - 2 ** -(110 / 35))
    assert score(70, 70, even=0.25) == pytest.approx(0.75 * 0.75)
    assert score(70, 70, items=2**35) == pytest.approx(0.5)
    assert score(0, 70) == score(0, 0) == 0.0


@given(st.floats(1, 200), st.floats(0, 1), st.floats(0, 1), st.floats(0, 40), st.floats(0, 1))
def test_more_evidence_never_lowers_a_score(total: float, share: float, found: float, bits: float, even: float) -> None:
    value = score(share * total, total, even=even, answer=Answer(found, bits), passage=found)
    assert 0 <= value <= 1
    more = [
        score(total, total, even=even, answer=Answer(found, bits), passage=found),
        score(share * total, total, even=1.0, answer=Answer(found, bits), passage=found),
        score(share * total, total, even=even, answer=Answer(1.0, 40.0), passage=found),
        score(share * total, total, even=even, answer=Answer(found, bits), passage=1.0),
    ]
    assert all(value <= other + 1e-9 for other in more)


ASKED = "which gas do yeast cells give off while bread dough is rising"


def answer_in(text: str, answers: tuple[str, ...], **more: object) -> Answer:
    """The answer found in a text that holds the question."""
    index = EvaluationIndex.build([Item("s", "1", ASKED, answers, **more)])  # type: ignore[arg-type]
    words, unit = hashes(text), hashes(ASKED)
    start = next(i for i in range(len(words)) if (words[i : i + len(unit)] == unit).all())
    return find_answer(index, 0, words, Match(start, start + len(unit), 1))


def test_answers_near_and_far() -> None:
    beside = answer_in(f"{ASKED} carbon dioxide", ("carbon dioxide",))
    assert (beside.found, beside.start, beside.end) == (1.0, 12, 14)
    assert answer_in(f"carbon dioxide {ASKED}", ("carbon dioxide",)).start == 0
    further = answer_in(f"{ASKED} {'so ' * 40} carbon dioxide", ("carbon dioxide",))
    assert 0 < further.bits < beside.bits
    assert answer_in(f"{ASKED} {'so ' * 51} carbon dioxide", ("carbon dioxide",)) == Answer()
    assert answer_in(f"{ASKED} carbon and dioxide", ("carbon dioxide",)) == Answer()
    assert answer_in(f"{ASKED} of course oxygen", ("carbon dioxide", "oxygen")).start == 14


def test_an_answer_that_could_stand_anywhere_counts_little() -> None:
    assert answer_in(f"{ASKED} 4", ("4",)).found == pytest.approx(4 / 6)
    assert answer_in(f"{ASKED} {'so ' * 40} 4", ("4",)).found == 0.0
    assert answer_in(f"{ASKED} {'so ' * 20} no", ("no",)).found < answer_in(f"{ASKED} no", ("no",)).found


def test_a_long_answer_may_be_reworded() -> None:
    answer = "the cells break sugar down and carbon dioxide swells the dough"
    assert answer_in(f"{ASKED} {answer}", (answer,)).found == 1.0
    reworded = answer_in(f"{ASKED} the cells break starch down and carbon dioxide swells all dough", (answer,))
    assert 0.6 <= reworded.found < 1.0
    assert answer_in(f"{ASKED} the baker puts the dough into the oven and goes for a walk", (answer,)).found == 0.0


def test_the_letter_alone() -> None:
    choices = ("oxygen", "carbon dioxide")
    for told in ("Answer: B", "the answer is (b)", "Ans. B", "Correct: b"):
        assert answer_in(f"{ASKED} {told}", choices[1:], choices=choices, letter="b").found == 1.0
    for told in ("Answer: A", "b", "plan b was the answer to it all"):
        assert answer_in(f"{ASKED} {told}", choices[1:], choices=choices, letter="b") == Answer()


def test_choices_lengthen_the_way_to_the_answer() -> None:
    text = f"{ASKED} {'so ' * 60} carbon dioxide"
    assert answer_in(text, ("carbon dioxide",)).found == 0.0
    choices = ("so " * 20, "carbon dioxide")
    assert answer_in(text, ("carbon dioxide",), choices=choices, letter="b").found == 1.0


def test_passage_and_sentence_of_it() -> None:
    passage = "the mill was built in 1790 by two brothers from the valley and it burned down one winter night"
    question = "the mill was built in 1790 by whom"
    index = EvaluationIndex.build([Item("s", "1", question, ("two brothers",), passage)])
    words = hashes(f"{passage} {question}")
    assert passage_share(index, 0, surroundings(index, [0], words, Match(19, 27, 1))) == 1.0
    assert passage_share(index, 0, surroundings(index, [0], hashes(question), Match(0, 8, 1))) == 0.0
    # Two fifths of its trigrams: seven of seventeen.
    part = hashes(f"the mill was built in 1790 by two brothers {'x ' * 70} {question}")
    near = surroundings(index, [0], part, Match(79, 87, 1))
    assert passage_share(index, 0, near) == pytest.approx(7 / 17)
    far = surroundings(index, [0], hashes(f"{passage} {'x ' * 95} {question}"), Match(114, 122, 1))
    assert passage_share(index, 0, far) == 0.0
    # The sentence matches the question as well as the passage itself does; the question matches it better.
    told, asked = words[:7], words[19:27]
    worth = index.unit_worth
    assert is_passage(index, 0, 0, told, align(index.unit_words, worth, told).worth)
    assert not is_passage(index, 0, 0, asked, align(index.unit_words, worth, asked).worth)


def test_the_best_score_is_that_of_a_verbatim_copy(index: EvaluationIndex) -> None:
    best = best_score(index)
    assert (best[:3] > 0.9).all()
    assert best[3] == 0.0
    assert 0 < best[4] < 0.6
