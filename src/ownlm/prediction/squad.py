"""SQuAD's own measures (Rajpurkar et al. 2016 and 2018): exact match and F1 of an answer's words.

An answer is compared in lower case, without punctuation, articles and extra spaces, with the given answer that it is
nearest to. Where questions may have no answer, an empty one is right for those and wrong for all others.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """An answer as it is compared."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, given: Sequence[str]) -> float:
    """1 if the answer is one of those given, else 0; none given means that there is none."""
    return max(float(normalized(answer) == normalized(text)) for text in _answers(given))


def word_f1(answer: str, given: Sequence[str]) -> float:
    """The best F1 of the answer's words against a given answer's."""
    return max(_f1(normalized(answer).split(), normalized(text).split()) for text in _answers(given))


def squad_scores(answers: Sequence[str], given: Sequence[Sequence[str]]) -> dict[str, float]:
    """Exact match and F1, in percent as the official evaluation prints them.

    Args:
        answers: one a question; empty where there is none.
        given: every right answer of each question; none where it has none.

    Returns:
        "exact" and "f1"; where some questions have no answer, also of those that have one ("has_exact", "has_f1") and
        of those that have none ("no_exact").
    """
    exact = [exact_match(answer, right) for answer, right in zip(answers, given, strict=True)]
    f1 = [word_f1(answer, right) for answer, right in zip(answers, given, strict=True)]
    scores = {"exact": _percent(exact), "f1": _percent(f1)}
    has = [bool(right) for right in given]
    if not all(has):
        if any(has):
            scores["has_exact"] = _percent([value for value, there in zip(exact, has, strict=True) if there])
            scores["has_f1"] = _percent([value for value, there in zip(f1, has, strict=True) if there])
        scores["no_exact"] = _percent([value for value, there in zip(exact, has, strict=True) if not there])
    return scores


def best_threshold(answers: Sequence[str], given: Sequence[Sequence[str]], doubts: Sequence[float]) -> float:
    """The doubt above which saying nothing gives the best F1 over all questions.

    Args:
        answers: the best answer to each question, never empty.
        given: every right answer of each question.
        doubts: how much likelier than its answer each question has none; any numbers.

    Returns:
        Half-way between two doubts, or infinite where an answer is always best; the largest of those equally good.
    """
    order = sorted(range(len(doubts)), key=lambda i: doubts[i])
    # To say nothing at all is right wherever there is no answer; then each question in turn gets its answer.
    total = best = float(sum(not right for right in given))
    threshold = doubts[order[0]] - 1.0
    for place, i in enumerate(order):
        total += word_f1(answers[i], given[i]) - float(not given[i])
        following = doubts[order[place + 1]] if place + 1 < len(order) else float("inf")
        if following > doubts[i] and total >= best:
            best, threshold = total, (doubts[i] + following) / 2
    return threshold


def _answers(given: Sequence[str]) -> Sequence[str]:
    """Those that something is left of; an answer of punctuation alone is none."""
    return [text for text in given if normalized(text)] or [""]


def _f1(found: Sequence[str], right: Sequence[str]) -> float:
    if not found or not right:
        return float(found == right)
    common = (Counter(found) & Counter(right)).total()
    return 2 * common / (len(found) + len(right)) if common else 0.0


def _percent(values: Sequence[float]) -> float:
    return 100 * sum(values) / len(values)
