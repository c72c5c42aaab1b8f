"""SQuAD's measures by hand and as the official evaluation gave them, and the threshold against trying all."""

from __future__ import annotations

import math
import random

import pytest

from ownlm.prediction.squad import best_threshold, exact_match, normalized, squad_scores, word_f1

ANSWERS = ["the cat", "The Cat!", "cat", "a big cat", "big cats", "Paris, France", "in Paris", "10th century", "an old"]


def test_articles_punctuation_case_and_spaces_do_not_count() -> None:
    assert normalized("The  Quick, brown\nfox's an a") == "quick brown foxs"
    assert exact_match("the Eiffel-Tower.", ["eiffeltower"]) == 1
    assert exact_match("Eiffel Tower", ["tower", "Tower Eiffel"]) == 0


def test_f1_by_hand() -> None:
    # Two of three words found, both right of two: precision 2/3, recall 1.
    assert word_f1("in old Paris", ["old Paris"]) == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))
    # Twice the same word counts twice at most as often as it is given.
    assert word_f1("very very good", ["very good"]) == pytest.approx(0.8)
    assert word_f1("cat", ["dog", "the cat"]) == 1
    assert word_f1("", []) == 1 and word_f1("cat", []) == 0 and word_f1("", ["cat"]) == 0


def drawn(seed: int, impossible: float) -> tuple[list[str], list[list[str]]]:
    """Answers to sixty questions, some of them empty, and the right ones."""
    draw = random.Random(seed)
    given = [[] if draw.random() < impossible else draw.sample(ANSWERS, draw.randint(1, 3)) for _ in range(60)]
    return [draw.choice(["", *ANSWERS]) for _ in given], given


@pytest.mark.parametrize(
    ("seed", "impossible", "expected"),
    [
        (1, 0.0, {"exact": 28.333333333333332, "f1": 41.111111111111114}),
        (2, 0.0, {"exact": 28.333333333333332, "f1": 35.833333333333336}),
        (
            3,
            0.4,
            {
                "exact": 21.666666666666668,
                "f1": 27.22222222222222,
                "has_exact": 26.31578947368421,
                "has_f1": 35.08771929824561,
                "no_exact": 13.636363636363637,
            },
        ),
        (
            4,
            0.4,
            {
                "exact": 26.666666666666668,
                "f1": 29.72222222222222,
                "has_exact": 35.294117647058826,
                "has_f1": 40.68627450980392,
                "no_exact": 15.384615384615385,
            },
        ),
        (5, 1.0, {"exact": 10.0, "f1": 10.0, "no_exact": 10.0}),
    ],
)
def test_the_scores_are_those_of_the_official_evaluation(
    seed: int, impossible: float, expected: dict[str, float]
) -> None:
    """The figures are what the evaluation script of SQuAD 2.0 gave for the same answers."""
    assert squad_scores(*drawn(seed, impossible)) == pytest.approx(expected)


def test_questions_without_an_answer_by_hand() -> None:
    scores = squad_scores(["the cat", "", "cat", "in Paris"], [["cat"], [], [], ["Paris"]])
    # Right, right, an answer where there is none, and half of two words right: 1, 1, 0, 2/3.
    assert scores["exact"] == pytest.approx(50) and scores["f1"] == pytest.approx(100 * (1 + 1 + 2 / 3) / 4)
    assert scores["has_exact"] == pytest.approx(50) and scores["has_f1"] == pytest.approx(100 * (1 + 2 / 3) / 2)
    assert scores["no_exact"] == pytest.approx(50)
    assert squad_scores(["", "x"], [[], []]) == {"exact": 50, "f1": 50, "no_exact": 50}


@pytest.mark.parametrize("seed", range(8))
def test_the_threshold_gives_the_best_f1_that_any_gives(seed: int) -> None:
    answers, given = drawn(seed, 0.5)
    answers = [answer or "cat" for answer in answers]
    draw = random.Random(seed)
    doubts = [round(draw.gauss(0, 1) + (1.0 if not right else 0.0), 1) for right in given]
    threshold = best_threshold(answers, given, doubts)

    def f1(limit: float) -> float:
        return squad_scores([a if d <= limit else "" for a, d in zip(answers, doubts, strict=True)], given)["f1"]

    assert f1(threshold) == pytest.approx(max(f1(limit) for limit in [-math.inf, *doubts]))


def test_the_threshold_lies_between_two_doubts_and_where_answers_are_always_best_beyond_all() -> None:
    assert best_threshold(["cat", "dog"], [["cat"], []], [1.0, 2.0]) == 1.5
    assert best_threshold(["cat", "dog"], [["cat"], ["dog"]], [1.0, 2.0]) == math.inf
    assert best_threshold(["cat", "dog"], [[], []], [1.0, 2.0]) < 1.0
