"""Intervals: against scipy and worked cases, where there is hardly any evidence, and what must not change them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.special
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ownlm.evaluate.measurement import Measurement, Metric, exponent_of_mean, mean, of_values
from ownlm.evaluate.sample import grouped_rows, sample_of
from ownlm.evaluate.statistics import effective_items, interval, standard_error
from ownlm.evaluate.student import incomplete_beta, quantile, two_sided
from ownlm.evaluate.tables import calibration_error, macro_f1, of_confidences, of_confusions

Rows = NDArray[np.float64]


def measured(values: Rows, metric: Metric | None = None, clusters: NDArray[np.int64] | None = None) -> Measurement:
    rows = values if values.ndim == 2 else of_values(values)
    return Measurement("t", metric or mean("m"), rows, [f"{n:06}" for n in range(len(rows))], clusters)


@pytest.mark.parametrize("freedom", [1, 2, 3.7, 19, 200, 5e4])
def test_students_distribution_is_scipys(freedom: float) -> None:
    for level in (0.6, 0.9, 0.975, 0.9999):
        assert quantile(level, freedom) == pytest.approx(scipy.stats.t.ppf(level, freedom), rel=1e-7)
    for t in (0.0, 0.3, -2.0, 9.0):
        assert two_sided(t, freedom) == pytest.approx(2 * scipy.stats.t.sf(abs(t), freedom), rel=1e-8, abs=1e-14)
    assert two_sided(np.inf, freedom) == 0 and np.isnan(two_sided(np.nan, freedom))


@given(st.floats(0.05, 300), st.floats(0.05, 300), st.floats(0, 1))
def test_incomplete_beta_is_scipys(a: float, b: float, x: float) -> None:
    assert incomplete_beta(a, b, x) == pytest.approx(scipy.special.betainc(a, b, x), rel=1e-7, abs=1e-12)


@pytest.mark.parametrize(("right", "n"), [(0, 20), (1, 20), (13, 20), (20, 20), (1, 1), (970, 1000)])
def test_the_share_of_right_items_has_wilsons_interval(right: int, n: int) -> None:
    expected = scipy.stats.binomtest(right, n).proportion_ci(method="wilson")
    assert interval(measured(np.arange(n) < right)) == pytest.approx(tuple(expected), abs=1e-9)


def test_all_right_is_no_certainty() -> None:
    low, high = interval(measured(np.ones(20)))
    assert 0.8 < low < 0.9 and high == 1
    # Four passages of five questions tell less than twenty items.
    low, high = interval(measured(np.ones(20), clusters=np.repeat(np.arange(4), 5)))
    assert 0.2 < low < 0.5 and high == 1
    low, high = interval(measured(of_confusions(np.arange(20) % 2, np.arange(20) % 2, 2), macro_f1(2)))
    assert 0.7 < low < 0.9 and high == 1


def test_one_item_or_one_cluster_tells_nothing_of_others() -> None:
    assert interval(measured(np.ones(20), clusters=np.zeros(20, np.int64))) == (0, 1)
    assert interval(measured(np.array([[30.0, 10.0]]), exponent_of_mean("p"))) == (1, np.inf)
    assert interval(measured(np.array([3.5]))) == (-np.inf, np.inf)
    # Nor do items that are all the same, where values have no bounds.
    assert interval(measured(np.full(9, 3.5))) == (-np.inf, np.inf)


def test_without_items_or_with_nan_there_is_no_interval() -> None:
    for values in (np.zeros(0), np.array([1.0, np.nan, 0.0])):
        assert np.isnan(interval(measured(values))).all()


def test_items_that_say_nothing_do_not_narrow_an_interval() -> None:
    """A quotient most of whose rows are empty: draws without any of the others give NaN."""
    rows = np.zeros((30, 2))
    rows[0], rows[1] = (7.0, 2.0), (1.0, 2.0)
    low, high = interval(measured(rows, Metric("q", mean("m").of)))
    assert low < 0 and high > 4


def test_the_jackknifes_error_of_a_mean_is_the_standard_error() -> None:
    values = np.random.default_rng(0).exponential(2, 40) - 1
    assert standard_error(sample_of(measured(values))) == pytest.approx(scipy.stats.sem(values))


def test_clusters_of_equal_size_have_the_error_of_their_means() -> None:
    random = np.random.default_rng(1)
    values = random.normal(0, 1, (12, 5)) + random.normal(0, 1, (12, 1))
    sample = sample_of(measured(values.reshape(-1), clusters=np.repeat(np.arange(12), 5)))
    assert standard_error(sample) == pytest.approx(scipy.stats.sem(values.mean(1)))


def test_items_that_are_all_alike_in_a_cluster_count_as_one() -> None:
    right = np.repeat(np.arange(40) % 4 > 0, 5)
    sample = sample_of(measured(right, clusters=np.repeat(np.arange(40), 5)))
    assert effective_items(sample) == pytest.approx(40)


def test_a_mean_without_bounds_is_near_scipys_bootstraps() -> None:
    values = np.random.default_rng(3).gamma(2, 3, 300) - 2
    theirs = scipy.stats.bootstrap((values,), np.mean, method="BCa", rng=0).confidence_interval
    low, high = interval(measured(values))
    width = theirs.high - theirs.low
    assert abs(low - theirs.low) < 0.06 * width and abs(high - theirs.high) < 0.06 * width


def test_a_perplexity_stays_above_nothing_and_is_the_exponent_of_its_losses() -> None:
    words = np.random.default_rng(4).integers(5, 50, 12).astype(float)
    rows = np.stack((words * np.random.default_rng(5).exponential(3, 12), words), -1)
    low, high = interval(measured(rows, exponent_of_mean("p")))
    assert interval(measured(rows)) == pytest.approx((np.log(low), np.log(high)))
    assert 0 < low < np.exp(rows[:, 0].sum() / rows[:, 1].sum()) < high


def test_the_same_measurement_has_the_same_interval_whatever_the_order() -> None:
    random = np.random.default_rng(6)
    one = measured(random.normal(0, 1, 50), clusters=random.integers(0, 20, 50))
    order = random.permutation(50)
    assert one.clusters is not None
    again = Measurement("t", one.metric, one.rows[order], [one.keys[n] for n in order], 30 - one.clusters[order])
    assert interval(one) == interval(one) == pytest.approx(interval(again), abs=1e-12)


def test_the_calibration_error_has_one_between_0_and_1() -> None:
    random = np.random.default_rng(7)
    confidence = random.uniform(0.5, 1, 100)
    one = measured(of_confidences(confidence, random.random(100) < confidence), calibration_error())
    low, high = interval(one)
    assert 0 <= low <= one.value <= high <= 1


Numbers = st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=8, max_size=40)


@settings(max_examples=40, deadline=None)
@given(Numbers, st.floats(-50, 50), st.floats(0.1, 10))
def test_moved_and_scaled_items_move_and_scale_the_interval(values: list[float], shift: float, scale: float) -> None:
    one = np.round(np.array([250.0, -200.0, *values]), 3)
    low, high = interval(measured(one))
    assert low <= one.mean() <= high
    moved = interval(measured(one * scale + shift))
    assert moved == pytest.approx((low * scale + shift, high * scale + shift), rel=1e-5, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_clusters_of_one_are_none(right: list[bool]) -> None:
    values = np.array(right, float)
    names = np.random.default_rng(0).permutation(len(values))
    assert interval(measured(values, clusters=names)) == interval(measured(values))
    low, high = interval(measured(values))
    assert 0 <= low <= values.mean() <= high <= 1 and low < high


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(-9, 9)), min_size=1, max_size=30))
def test_grouped_rows_hold_each_clusters_sum(items: list[tuple[int, float]]) -> None:
    clusters = np.array([name for name, _ in items])
    rows = np.array([[value] for _, value in items])
    found = grouped_rows(rows, [f"{n:03}" for n in range(len(items))], clusters)
    expected = [rows[clusters == name].sum() for name in dict.fromkeys(clusters.tolist())]
    assert found[:, 0] == pytest.approx(expected)


def test_a_class_whose_few_items_all_went_wrong_is_not_sure_to_go_wrong() -> None:
    """Twelve right ones of two classes, and one wrong one of a third: its F1 of 0 is no sure third of the mean."""
    right, chosen = np.array([0, 1] * 6 + [2]), np.array([0, 1] * 6 + [0])
    sample = sample_of(measured(of_confusions(right, chosen, 3), macro_f1(3)))
    assert sample.table and standard_error(sample) > 0.1


def test_a_share_in_clusters_is_never_surer_than_of_items() -> None:
    """Clusters that happen to be nearly alike: most of five have four of five right."""
    values = np.tile([1.0, 1, 1, 1, 0], 5)
    values[[4, 5]] = values[[5, 4]]
    sample = sample_of(measured(values, clusters=np.repeat(np.arange(5), 5)))
    assert effective_items(sample) == 25


def test_no_perplexity_is_below_one() -> None:
    """Few items leave much open, but only above; what is in no doubt stays as it is."""
    rows = np.array([[0.02, 1.0], [0.05, 1.0], [9.0, 1.0], [0.01, 1.0]])
    measurement = Measurement("t", exponent_of_mean("perplexity"), rows, ["a", "b", "c", "d"])
    low, high = interval(measurement)
    assert low == 1.0 and high > measurement.value
    # Only the clip differs: the same numbers under a metric without a best value reach below 1.
    free = replace(measurement, metric=replace(measurement.metric, best=None))
    assert interval(free)[0] < 1.0 and interval(free)[1] == high
