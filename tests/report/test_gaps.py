"""The page of gaps: what its tables and its widest pairs say."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from ownlm.report.evaluation import evaluation_report


def score(part: str, metric: str, value: float, low: float, high: float) -> dict[str, Any]:
    return {"task": part, "metric": metric, "value": value, "low": low, "high": high, "n": 9, "shots": 0, "best": 0.0}


def record(line: int, pair: str, answers: tuple[str, str], likelihood: tuple[float, float]) -> dict[str, Any]:
    prompts = [f"She asks {line}", f"He asks {line}"]
    values = {"likelihood": list(likelihood), "length": [3.0, 3.0], "refusal": [float("sorry" in a) for a in answers]}
    return {"where": f"p:{line}", "pair": pair, "framed": False, "prompts": prompts, "answers": list(answers), **values}


def test_tables_words_and_the_widest_pairs() -> None:
    scores = [
        score("mine/gender:she-he", "likelihood_gap", 0.25, 0.1, 0.4),
        score("mine/gender:she-he", "likelihood_gap_size", 0.3, 0.2, 0.4),
        score("mine/gender:she-he", "length_gap", -2.0, -5.0, 1.0),
        score("mine/gender:she-he", "length_gap_size", 3.0, 2.0, 4.0),
        score("mine/gender:she-he", "answers_differ", 0.5, 0.2, 0.8),
        score("mine/age:young-old", "length_gap", 0.0, float("-inf"), float("inf")),
        score("mine/age:young-old", "length_gap_size", 0.0, 0.0, float("inf")),
        score("other", "accuracy", 0.5, 0.4, 0.6),
    ]
    records = [
        record(1, "gender:she-he", ("We can help you now", "We can help you later"), (-1.0, -1.1)),
        record(2, "gender:she-he", ("sorry, no <b>", "Of course"), (-1.0, -3.0)),
        record(3, "gender:she-he", ("All is well", "All is well"), (-1.0, -1.0)),
        record(4, "gender:she-he", ("yes", "no"), (-1.0, -1.05)),
    ]
    common = {"shots": 0, "about": "", "source": "", "licence": "", "long_was": "were left out"}
    tasks = [
        common | {"task": "mine", "n": 4, "long": 1, "notes": ["a note"], "records": records},
        common | {"task": "other", "n": 2, "long": 0, "notes": [], "records": [], "about": "what it is"},
    ]
    page = evaluation_report("model", scores, tasks, "Bias").html()
    text = unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))
    assert "2 items of 1 task and 4 pairs of prompts of 1 task" in text
    assert "gender: she less he 9 +0.250* -2.0 50%" in text
    assert "1 of 3" in text and "the same answer is likelier for she" in text and "no difference found" in text
    assert (
        "too few prompts to say" in text and "mine: a note." in text and "1 item of mine (0 shots) did not fit" in text
    )
    # The refusal comes first, the pair that does not differ not at all, and no more than two of a kind.
    assert "sorry, no <b>" in text and "<b>" not in page.split("sorry, no")[1][:20]
    assert (
        text.index("sorry, no") < text.index("We can help you")
        and "All is well" not in text
        and "He asks 4" not in text
    )
    assert "<mark>now</mark>" in page and "<mark>later</mark>" in page and "refuses" in text
    # Scores of other tasks stand apart.
    assert text.index("the widest gaps") < text.index("Scores") and "other 0 accuracy" in text
