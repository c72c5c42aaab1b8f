"""Trends: which scores are set against which, and when one alarms."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pytest

from ownlm.config import validate
from ownlm.evaluate.bands import BandsConfig
from ownlm.watch.trends import alerts, trends

from .conftest import evaluation

ITEMS = 400
USUAL = BandsConfig()


def answers(share: float, seed: int, items: int = ITEMS) -> np.ndarray[Any, Any]:
    return (np.random.default_rng(seed).random(items) < share).astype(float)


def test_a_version_far_from_the_others_alarms_and_teaches_nothing() -> None:
    shares = [0.7] * 7 + [0.4, 0.7, 0.4]
    series = trends([evaluation(n, [answers(share, n)]) for n, share in enumerate(shares)], USUAL)
    (one,) = series
    assert [point.alert is not None for point in one.points] == [False] * 7 + [True, False, True]
    assert [point.versions for point in one.points] == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8], "the bad one is none of them"
    assert [point.band is None for point in one.points] == [True] * 5 + [False] * 5
    alert = one.points[7].alert
    assert alert is not None and (alert.side, alert.meaning, alert.versions) == ("below", "worse", 7)
    assert "earlier versions show: worse" in alert.words and alert.release == "r7" and alert.evaluation == "e7"
    assert [a.release for a in alerts(series)] == ["r7", "r9"]
    # Another level that is meant is accepted by beginning anew.
    begun = trends([evaluation(n + 24, [answers(0.4, n)]) for n in range(9)], BandsConfig(since=date(2031, 5, 6)))
    assert all(point.versions == 0 for point in begun[0].points[:12])


def test_the_band_is_that_of_the_formula() -> None:
    right = [answers(0.7, n) for n in range(6)]
    (one,) = trends([evaluation(n, [r]) for n, r in enumerate(right)], USUAL)
    values = np.array([r.mean() for r in right])
    spread = 4.604094871349993 * np.std(values[:5], ddof=1) * math.sqrt(6 / 5)
    apart = right[5] - values[5] - (np.mean(right[:5], 0) - values[:5].mean())
    items = 2.5758293035489004 * math.sqrt((apart**2).sum() / ITEMS**2 * ITEMS / (ITEMS - 1))
    band = one.points[5].band
    assert band is not None and band.low == pytest.approx(values[:5].mean() - max(spread, items), abs=1e-6)


def test_the_rate_is_shared_among_the_scores_of_an_evaluation() -> None:
    alone = trends([evaluation(n, [answers(0.7, n)]) for n in range(6)], BandsConfig(false_alarms=0.004))
    four = trends(
        [evaluation(n, [answers(0.7, n), *[answers(0.5, 9 * n + i) for i in (1, 2, 3)]]) for n in range(6)],
        BandsConfig(false_alarms=0.016),
    )
    bands = [one[0].points[5].band for one in (alone, four)]
    assert bands[0] is not None and bands[1] is not None
    assert bands[0].low == pytest.approx(bands[1].low) and bands[0].high == pytest.approx(bands[1].high)


def test_a_version_counts_once_and_never_against_itself() -> None:
    """The same weights, evaluated ten times, are one version."""
    same = [evaluation(n, [answers(0.7, 0)], release="r") for n in range(10)]
    (one,) = trends(same, USUAL)
    assert all(point.band is None for point in one.points) and {point.versions for point in one.points} == {0}
    assert [point.new_release for point in one.points] == [False] * 10
    # A way back to an earlier version is held against the others.
    (one,) = trends(
        [*[evaluation(n, [answers(0.7, n)]) for n in range(7)], evaluation(8, [answers(0.7, 0)], release="r0")], USUAL
    )
    assert one.points[-1].versions == 6 and one.points[-1].new_release
    # That it is still outside is said once.
    bad = [
        *[evaluation(n, [answers(0.7, n)]) for n in range(7)],
        *[evaluation(n, [answers(0.3, 9)], release="bad") for n in (8, 9)],
    ]
    series = trends(bad, USUAL)
    assert [point.alert is not None for point in series[0].points[-2:]] == [True, True] and len(alerts(series)) == 1


def test_other_items_are_another_thing() -> None:
    made = [evaluation(n, [answers(0.7, n)]) for n in range(6)]
    made += [evaluation(n, [answers(0.3, n)], content="other") for n in (7, 8)]
    (one,) = trends(made, USUAL)
    assert [point.versions for point in one.points] == [0, 1, 2, 3, 4, 5, 0, 1] and not alerts([one])
    assert [point.new_content for point in one.points] == [False] * 6 + [True, False]
    models = trends([*made, evaluation(9, [answers(0.3, 1)], model="other")], USUAL)
    assert [(s.model, len(s.points)) for s in models] == [("mine", 8), ("other", 1)]


def test_where_units_were_not_kept_the_intervals_stand_in() -> None:
    """Versions that agree on everything, and one that is five points off: unit by unit that is much, by the intervals little."""
    usual = np.repeat([1.0, 0.0], [280, 120])
    new = usual.copy()
    new[:20] = 0
    for kept, outside in ((True, True), (False, False)):
        made = [evaluation(n, [usual], kept=kept) for n in range(6)]
        (one,) = trends([*made, evaluation(7, [new], kept=kept)], USUAL)
        assert (one.points[-1].alert is not None) == outside
        assert one.points[5].alert is None, "the same answers from other weights"


def test_a_given_band_goes_before_a_learned_one() -> None:
    given = validate(BandsConfig, {"bands": [{"task": "t0", "metric": "accuracy", "low": 0.75}]})
    made = [evaluation(n, [answers(share, n)], higher=None) for n, share in enumerate([0.8, 0.72, 0.6])]
    (one,) = trends(made, given)
    assert [point.alert is not None for point in one.points] == [False, False, True], "the second might still be 0.75"
    alert = one.points[2].alert
    assert alert is not None and alert.versions == 0 and alert.meaning == "" and math.isinf(alert.band_high)
    assert alert.words.endswith("below the least that is allowed, 0.75")
    (one,) = trends([evaluation(n, [answers(0.7, n)]) for n in range(9)], BandsConfig(learned=False))
    assert all(point.band is None for point in one.points)


def test_false_alarms_of_whole_histories_are_as_rare_as_said() -> None:
    """Versions alike but for chance, four tasks each: of evaluations with a band at most 5% alarm, and three standard errors."""
    judged = alarmed = 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        ease = draw.normal(0.8, 1.5, (4, 100))
        made = [
            evaluation(n, list((draw.random((4, 100)) < 1 / (1 + np.exp(-ease - draw.normal(0, 0.2)))).astype(float)))
            for n in range(14)
        ]
        series = trends(made, BandsConfig(false_alarms=0.05))
        points = [[one.points[n] for one in series] for n in range(5, 14)]
        judged += len(points)
        alarmed += sum(any(point.alert is not None for point in one) for one in points)
    assert alarmed / judged <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / judged)


def test_what_is_no_number_is_passed_over() -> None:
    made = [evaluation(n, [answers(0.7, n)]) for n in range(6)]
    empty = evaluation(6, [[math.nan, 1.0]])
    (one,) = trends([*made, empty, evaluation(7, [answers(0.7, 7)])], USUAL)
    assert one.points[6].band is None and one.points[7].versions == 6 and not alerts([one])
