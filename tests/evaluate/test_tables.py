"""Metrics of tables against scikit-learn's, over random answers."""

from __future__ import annotations

import numpy as np
import pytest

from ownlm.evaluate.tables import BINS, calibration_error, macro_f1, matthews, of_confidences, of_confusions

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("items", [1, 5, 200])
def test_f1_and_correlation_are_scikit_learns(classes: int, items: int) -> None:
    random = np.random.default_rng(classes * items)
    for _ in range(20):
        right, chosen = random.integers(0, classes, (2, items))
        sums = of_confusions(right, chosen, classes).sum(0)
        assert float(macro_f1(classes).of(sums)) == pytest.approx(
            sklearn_metrics.f1_score(right, chosen, average="macro")
        )
        assert float(matthews(classes).of(sums)) == pytest.approx(sklearn_metrics.matthews_corrcoef(right, chosen))


def test_many_sums_at_once_are_each_by_itself() -> None:
    random = np.random.default_rng(0)
    rows = of_confusions(*random.integers(0, 3, (2, 50)), 3)
    many = random.multinomial(50, np.full(50, 0.02), size=6) @ rows
    for metric in (macro_f1(3), matthews(3)):
        assert metric.of(many) == pytest.approx([float(metric.of(one)) for one in many])


def test_calibration_is_the_gap_of_each_bin_by_its_size() -> None:
    random = np.random.default_rng(1)
    confidence, hit = random.random(300), random.random(300) < 0.6
    expected = 0.0
    for place in range(BINS):
        # As Guo et al. have it, a bin holds its upper edge.
        inside = (confidence > place / BINS) & (confidence <= (place + 1) / BINS)
        if inside.any():
            expected += inside.sum() / 300 * abs(confidence[inside].mean() - hit[inside].mean())
    assert float(calibration_error().of(of_confidences(confidence, hit).sum(0))) == pytest.approx(expected)


def test_nothing_says_nothing() -> None:
    assert np.isnan(macro_f1(2).of(np.zeros(4))) and np.isnan(calibration_error().of(np.zeros(3 * BINS)))
