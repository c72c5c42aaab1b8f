"""Metrics of classes against scikit-learn's, and AUROC's spread against DeLong's written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.evaluate.classes import MetricName, class_measurements
from ownlm.evaluate.sample import sample_of
from ownlm.evaluate.statistics import interval
from ownlm.evaluate.tables import auroc, of_ranks

sklearn_metrics = pytest.importorskip("sklearn.metrics")
ALL: tuple[MetricName, ...] = ("accuracy", "macro_f1", "matthews", "calibration_error", "auroc")


def test_metrics_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    for items in (3, 40, 300):
        right = random.integers(0, 2, items)
        right[:2] = 0, 1
        # Few different values, so that there are ties.
        score = np.round(np.clip(0.3 * right + 0.7 * random.random(items), 0, 1), 1)
        found = class_measurements("a", np.stack((1 - score, score), 1), right, ALL, [str(i) for i in range(items)])
        chosen = (score > 0.5).astype(int)
        assert {one.metric.name: one.value for one in found if one.metric.name != "calibration_error"} == pytest.approx(
            {
                "accuracy": sklearn_metrics.accuracy_score(right, chosen),
                "macro_f1": sklearn_metrics.f1_score(right, chosen, average="macro"),
                "matthews": sklearn_metrics.matthews_corrcoef(right, chosen),
                "auroc": sklearn_metrics.roc_auc_score(right, score),
            }
        )


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40))
@settings(deadline=None)
def test_the_area_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    score, positive = np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs])
    value = float(auroc().of(of_ranks(score, positive).sum(0)))
    ups, downs = score[positive], score[~positive]
    if not len(ups) or not len(downs):
        assert np.isnan(value)
    else:
        assert value == pytest.approx(np.mean([(a > b) + (a == b) / 2 for a in ups for b in downs]))


def test_the_spread_of_the_area_is_delongs() -> None:
    """The variance of the mean of V10 and of V01, as DeLong et al. (1988) have it."""
    random = np.random.default_rng(1)
    positive = random.random(400) < 0.3
    score = random.normal(positive * 1.0, 1)
    ups, downs = score[positive], score[~positive]
    order = (ups[:, None] > downs[None]) + (ups[:, None] == downs[None]) / 2
    expected = order.mean(1).var(ddof=1) / len(ups) + order.mean(0).var(ddof=1) / len(downs)
    (one,) = class_measurements(
        "a", np.stack((1 - score, score), 1), positive.astype(int), ["auroc"], [str(i) for i in range(400)]
    )
    assert sample_of(one).variance == pytest.approx(expected, rel=0.02)
    low, high = interval(one)
    assert low < one.value < high and (high - low) / 2 == pytest.approx(1.96 * expected**0.5, rel=0.1)


def test_a_bootstrap_says_the_same_of_the_area() -> None:
    random = np.random.default_rng(2)
    positive = random.random(200) < 0.5
    score = random.normal(positive * 1.5, 1)
    (one,) = class_measurements(
        "a", np.stack((1 - score, score), 1), positive.astype(int), ["auroc"], [str(i) for i in range(200)]
    )
    draws = [random.integers(0, 200, 200) for _ in range(500)]
    values = [sklearn_metrics.roc_auc_score(positive[draw], score[draw]) for draw in draws]
    assert interval(one) == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.015)
