"""What the report says of a result on the held-out data."""

from __future__ import annotations

from ownlm.report.held_out import add_held_out
from ownlm.report.page import Report


def page(measured: dict) -> str:
    report = Report("title")
    add_held_out(report, measured)
    return report.html()


def test_few_classes_are_shown_with_all_their_confusions() -> None:
    table = {"labels": ["bad", "good"], "table": [[3, 1], [2, 4]]}
    html = page({"loss": 0.5, "accuracy": 0.7, "confusion": table})
    assert (
        "On the held-out data" in html
        and "accuracy" in html
        and "loss" not in html.split("<main")[-1].split("Each class")[0]
    )
    # Of five taken for bad three are; of four that are bad three were found: F1 is 6 / 9.
    for shown in ("0.6", "0.75", "0.667", "Taken for"):
        assert shown in html


def test_of_many_classes_the_commonest_mistakes_are_shown() -> None:
    labels = [f"class {i}" for i in range(13)]
    table = [[5 if i == j else 0 for j in range(13)] for i in range(13)]
    table[2][7] = 4
    html = page({"accuracy": 0.9, "confusion": {"labels": labels, "table": table}})
    assert "The commonest mistakes: 1 pair" in html and "Taken for" not in html


def test_scores_of_answers_have_names_and_nothing_measured_shows_nothing() -> None:
    html = page({"exact": 50.0, "f1": 60.0, "answers": {"max_answer": 30}})
    assert "exact match, %" in html and "max_answer" not in html
    assert "On the held-out data" not in page({}) and "On the held-out data" not in page({"loss": 1.0})
