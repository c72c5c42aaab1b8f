"""The page of trends, and a run's section of tasks: what stands in them, and that odd histories are drawn too."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ownlm.report.training import training_report
from ownlm.report.trend_chart import TrendChart, TrendPoint
from ownlm.report.trends import chart_of, trend_page


def series(values: list[float | None], **more: Any) -> dict[str, Any]:
    points = [
        {
            "time": f"2031-05-{4 + n:02}T12:00:00+00:00",
            "release": f"r{n}",
            "value": value,
            "low": None if value is None else value - 0.05,
            "high": None if value is None else value + 0.05,
            "n": 100,
            "band_low": 0.5 if n > 2 else None,
            "band_high": None,
            "versions": n,
            "learned": n > 2,
            "new_release": n > 0,
            "new_content": False,
            "alert": "boolq accuracy is low" if value is not None and value < 0.5 and n > 2 else None,
        }
        for n, value in enumerate(values)
    ]
    named = {"model": "mine", "task": "boolq", "metric": "accuracy", "shots": 0, "higher_is_better": True, "best": 1.0}
    return {**named, **more, "points": points}


def alert(words: str, current: bool) -> dict[str, Any]:
    return {"time": "2031-05-07T12:00:00+00:00", "model": "mine", "words": words, "current": current}


def test_the_page_says_what_is_outside_and_when_it_was() -> None:
    bad = trend_page([series([0.7, 0.7, 0.7, 0.4])], [alert("boolq is <low>", True)], 0.01, 5).html()
    assert (
        "1 score of 1 lies outside its band" in bad
        and "boolq is &lt;low&gt;" in bad
        and 'class="remark warning"' in bad
    )
    assert "at most 1% alarm" in bad and "at least 0.500, learned from 3 versions" in bad
    good = trend_page([series([0.7, 0.7, 0.7, 0.4, 0.7])], [alert("boolq was low", False)], 0.01, 5).html()
    assert "Every score that has a band lies in it (1 of 1 have one)" in good and 'class="remark warning"' not in good
    young = trend_page([series([0.7])], [], 0.01, 5).html()
    assert "No score has a band yet" in young and "none yet" in young
    odd = trend_page([series([None], task="lost"), series([0.7])], [], 0.01, 5).html()
    assert odd.count("<svg") == 1 and "lost" in odd
    assert "Nothing was evaluated yet" in trend_page([], [], 0.01, 5).html()


def test_many_scores_are_folded_and_those_that_alarm_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownlm.report.trends.OPEN", 2)
    many = [series([0.7] * 4, task=f"task{n}") for n in range(3)] + [series([0.7, 0.7, 0.7, 0.4], task="bad")]
    page = trend_page(many, [], 0.01, 5).html()
    assert "2 more scores" in page and page.index("bad: accuracy") < page.index("task0: accuracy")


@pytest.mark.parametrize("values", [[], [None], [0.5], [None, 0.5, None], [0.5] * 200, [math.inf, 0.5]])
@pytest.mark.parametrize("dated", [True, False])
def test_odd_histories_are_drawn(values: list[float | None], dated: bool) -> None:
    numbers = [math.nan if value is None else value for value in values]
    points = [TrendPoint(86400.0 * n, v, v - 0.1, math.inf, (None, 0.6), n == 3) for n, v in enumerate(numbers)]
    chart = TrendChart("t", points, dated=dated, best=0.5)
    assert chart.svg().startswith("<svg") and chart.describe()


def test_the_chart_in_words() -> None:
    chart = chart_of(series([0.7, 0.7, 0.7, 0.4]))
    assert (
        chart.describe()
        == "0.700 (0.650 to 0.750) on 2031-05-04, 0.400 (0.350 to 0.450) on 2031-05-07; 1 outside the band."
    )
    assert chart.caption == "Higher is better. Its band is at least 0.500, learned from 3 versions."
    by_step = TrendChart("t", [TrendPoint(0, 5000.0, 4900, 5100), TrendPoint(10, 20.0, 19, 21)])
    assert by_step.describe() == "5,000 (4,900 to 5,100) at step 0, 20.0 (19 to 21) at step 10."
    assert ">1,000<" in by_step.svg(), "a perplexity that is being learned is drawn by its ratios"


def test_a_runs_report_has_the_tasks_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ownlm.report.evaluated.MOST_CHARTS", 3)

    def row(step: int, value: float | None) -> dict[str, Any]:
        score = {"task": "boolq", "metric": "accuracy", "shots": 1, "value": value, "low": 0.1, "high": 0.9, "n": 12}
        parts = [{**score, "task": f"bbq/{n}", "metric": "bias"} for n in range(4)]
        return {"step": step, "scores": [*parts, score]}

    lines = [row(0, 0.25), {"step": 1, "loss": 2.0}, row(1, 0.75), row(2, None)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = training_report(tmp_path).html()
    assert "Tasks on the way" in page and "boolq: accuracy, 1 shots" in page and page.count("<svg") == 1 + 3
    assert "0.250" in page and "bbq/3" in page
    (tmp_path / "metrics.jsonl").write_text(json.dumps(lines[1]) + "\n")
    assert "Tasks on the way" not in training_report(tmp_path).html()
