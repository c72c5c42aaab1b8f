"""Measures against scikit-learn's and SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from ownlm.prediction import metrics


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(4))
def test_of_one_class_a_text(classes: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    # The last class is never given, and of three or more the first never predicted.
    given, predicted = draw.integers(0, classes - (classes > 2), 50), draw.integers(classes > 2, classes, 50)
    table = metrics.confusion_table(given, predicted, classes)
    assert (table == sklearn.confusion_matrix(given, predicted, labels=range(classes))).all()
    assert metrics.accuracy(table) == pytest.approx(sklearn.accuracy_score(given, predicted))
    assert metrics.macro_f1(table) == pytest.approx(sklearn.f1_score(given, predicted, average="macro"))
    assert metrics.matthews(table) == pytest.approx(sklearn.matthews_corrcoef(given, predicted))


def test_a_model_that_always_says_the_same_has_no_correlation() -> None:
    table = metrics.confusion_table(np.array([0, 1, 1, 0]), np.array([1, 1, 1, 1]), 2)
    assert metrics.matthews(table) == 0 == sklearn.matthews_corrcoef([0, 1, 1, 0], [1, 1, 1, 1])


@pytest.mark.parametrize("seed", range(4))
def test_of_several_classes_a_text(seed: int) -> None:
    draw = np.random.default_rng(seed)
    given, predicted = draw.random((30, 5)) < 0.3, draw.random((30, 5)) < 0.4
    predicted[:, 4] = given[:, 4] = False
    micro, macro = metrics.multi_f1(given, predicted)
    assert micro == pytest.approx(sklearn.f1_score(given, predicted, average="micro"))
    assert macro == pytest.approx(sklearn.f1_score(given, predicted, average="macro", zero_division=0))


@pytest.mark.parametrize("seed", range(4))
def test_of_numbers(seed: int) -> None:
    draw = np.random.default_rng(seed)
    # Rounded, so that many are equal.
    given = draw.normal(size=40).round(1)
    predicted = (given + draw.normal(size=40)).round(1)
    assert metrics.pearson(given, predicted) == pytest.approx(stats.pearsonr(given, predicted).statistic)
    assert metrics.spearman(given, predicted) == pytest.approx(stats.spearmanr(given, predicted).statistic)
    assert metrics.pearson(given, np.ones(40)) == metrics.spearman(np.ones(40), given) == 0
