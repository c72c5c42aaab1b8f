"""Two models on the same items: against scipy and a brute-force test, pairing, runs, corrections and verdicts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ownlm.errors import DataError
from ownlm.evaluate.correction import corrected
from ownlm.evaluate.differences import difference, differences
from ownlm.evaluate.measurement import Measurement, Metric, exponent_of_mean, mean, of_values
from ownlm.evaluate.permutation import randomisation_test
from ownlm.evaluate.tables import macro_f1, of_confusions

Values = NDArray[np.float64]


def measured(
    values: Values,
    metric: Metric | None = None,
    clusters: NDArray[np.int64] | None = None,
    *,
    model: str = "one",
    keys: list[str] | None = None,
    task: str = "t",
) -> Measurement:
    rows = values if values.ndim == 2 else of_values(values)
    names = keys or [f"{n:06}" for n in range(len(rows))]
    return Measurement(task, metric or mean("accuracy", best=1.0), rows, names, clusters, model=model)


def pair_of(seed: int, n: int, gain: float = 0.0) -> tuple[Values, Values]:
    random = np.random.default_rng(seed)
    first = random.normal(0, 3, n)
    return first + random.normal(gain, 1, n), first


@pytest.mark.parametrize("n", [6, 11])
def test_the_exact_test_is_scipys(n: int) -> None:
    first, second = pair_of(n, n, 0.5)
    theirs = scipy.stats.permutation_test(
        (first, second), lambda a, b: a.mean() - b.mean(), permutation_type="samples", n_resamples=np.inf
    )
    assert difference(measured(first), measured(second)).p == pytest.approx(theirs.pvalue)


def test_the_drawn_test_is_near_scipys() -> None:
    first, second = pair_of(3, 80, 0.25)
    theirs = scipy.stats.permutation_test(
        (first, second),
        lambda a, b, axis: a.mean(axis) - b.mean(axis),
        permutation_type="samples",
        n_resamples=20000,
        rng=0,
        vectorized=True,
    )
    assert difference(measured(first), measured(second)).p == pytest.approx(theirs.pvalue, abs=0.01)


def test_of_right_and_wrong_it_is_mcnemars_exact_test() -> None:
    first = np.array([1.0] * 9 + [0.0] * 2 + [1.0] * 30)
    second = np.array([0.0] * 9 + [1.0] * 2 + [1.0] * 30)
    assert difference(measured(first), measured(second)).p == pytest.approx(scipy.stats.binomtest(2, 11).pvalue)


def test_clusters_change_hands_together() -> None:
    """By brute force: every way to swap whole clusters, the metric computed anew for each."""
    random = np.random.default_rng(1)
    clusters = random.integers(0, 7, 40)
    right = random.integers(0, 3, 40)
    first, second = (
        of_confusions(right, np.where(random.random(40) < share, right, random.integers(0, 3, 40)), 3)
        for share in (0.8, 0.5)
    )
    f1 = macro_f1(3)
    far = []
    for swapped in itertools.product([False, True], repeat=7):
        swap = np.array(swapped)[clusters][:, None]
        far.append(abs(f1.of(np.where(swap, second, first).sum(0)) - f1.of(np.where(swap, first, second).sum(0))))
    expected = np.mean(np.array(far) >= far[0] - 1e-12)
    found = difference(measured(first, f1, clusters), measured(second, f1, clusters))
    assert found.p == pytest.approx(expected) and found.n == 40


def test_a_copy_is_inside_the_noise_by_exactly_nothing() -> None:
    right = (np.arange(30) % 3 > 0).astype(float)
    found = difference(measured(right), measured(right, model="copy"))
    assert (found.difference, found.p, found.verdict) == (0.0, 1.0, "inside the noise")
    assert found.low < 0 < found.high, "thirty items do not show that no other tells them apart"
    losses = np.random.default_rng(0).exponential(2, 30)
    found = difference(
        measured(losses, exponent_of_mean("perplexity")), measured(losses, exponent_of_mean("perplexity"))
    )
    assert (found.difference, found.low, found.high, found.verdict) == (0.0, 0.0, 0.0, "inside the noise")
    assert "same on every item" in found.words
    share = Metric("preference", lambda sums: 100 * sums[..., 0] / sums[..., 1], None, 50.0, "%", (0.0, 100.0))
    found = difference(measured(right, share), measured(right, share))
    assert found.difference == 0 and found.low < -1 and found.high > 1 and found.verdict == "inside the noise"


def test_verdicts() -> None:
    random = np.random.default_rng(0)
    base = (random.random(2000) < 0.6).astype(float)
    better = np.maximum(base, random.random(2000) < 0.2)
    found = difference(measured(better), measured(base))
    assert found.verdict == "better" and 0 < found.low < found.difference < found.high
    assert difference(measured(base), measured(better)).verdict == "worse"
    loss = random.exponential(2, 300)
    worse = difference(measured(loss * 1.1, exponent_of_mean("p")), measured(loss, exponent_of_mean("p")))
    assert worse.verdict == "worse" and worse.difference > 0
    few = difference(measured(better[:30]), measured(base[:30]))
    assert few.verdict == "too little data" and few.enough is not None and few.enough > 30
    assert f"{few.enough:,} items would show a difference of 0.02" in few.words
    swapped = base.copy()
    swapped[:4], swapped[4:8] = 1 - base[:4], 1 - base[4:8]
    assert difference(measured(swapped), measured(base)).verdict == "inside the noise"


def test_so_many_items_as_it_says_are_enough() -> None:
    """Power: models that differ by the margin are told apart by ``enough`` items in 0.8 of cases."""
    random = np.random.default_rng(2)

    def drawn(n: int, gain: float) -> tuple[Measurement, Measurement]:
        kind = random.random(n)
        first = kind < 0.5 + 0.1 + gain / 2
        second = (kind < 0.5) | (kind > 0.9 + gain / 2)
        return measured(first.astype(float)), measured(second.astype(float))

    enough = difference(*drawn(4000, 0.0), margin=0.06).enough
    assert enough is not None
    told = np.mean([difference(*drawn(enough, 0.06)).p < 0.05 for _ in range(150)])
    assert told == pytest.approx(0.8, abs=0.11)


def test_a_bias_is_compared_by_its_distance_from_the_best() -> None:
    metric = mean("stereotype", higher_is_better=None, best=0.5)
    random = np.random.default_rng(0)
    fair, biased = (random.random(800) < 0.5).astype(float), (random.random(800) < 0.7).astype(float)
    found = difference(measured(fair, metric), measured(biased, metric))
    assert found.from_best and found.verdict == "better" and found.difference < -0.1
    # On the other side of the best as far away, it is no better.
    found = difference(measured(1 - biased, metric), measured(biased, metric))
    assert found.difference == pytest.approx(0, abs=1e-12) and found.verdict == "inside the noise"
    plain = mean("length", higher_is_better=None)
    assert difference(measured(fair * 9 - 2, plain), measured(biased * 9 - 2, plain)).verdict == "different"


def test_only_items_of_both_are_compared() -> None:
    first = measured(np.array([1.0, 1, 0, 1]), keys=["a", "b", "c", "d"])
    second = measured(np.array([0.0, 1, 1]), keys=["d", "a", "x"], model="other")
    found = difference(first, second)
    assert (found.n, found.unpaired, found.value, found.other_value) == (2, 3, 1.0, 0.5)
    with pytest.raises(DataError, match="have no item of t in common"):
        difference(first, measured(np.ones(2), keys=["y", "z"], model="other"))
    with pytest.raises(DataError, match="different things"):
        difference(first, measured(np.ones(4), mean("f1")))


def test_items_that_stand_twice_are_two() -> None:
    found = difference(
        measured(np.array([1.0, 0.0, 1.0]), keys=["a", "a", "b"]), measured(np.zeros(3), keys=["b", "a", "a"])
    )
    assert (found.n, found.unpaired) == (3, 0) and found.difference == pytest.approx(2 / 3)


def test_nan_is_too_little_data() -> None:
    values = np.ones(20)
    values[3] = np.nan
    found = difference(measured(values), measured(np.ones(20)))
    assert np.isnan([found.difference, found.low, found.high, found.p]).all() and found.verdict == "too little data"
    nothing = difference(measured(np.zeros((9, 2))), measured(np.zeros((9, 2))))
    assert nothing.verdict == "too little data"


def test_one_item_or_one_cluster_tells_nothing() -> None:
    found = difference(measured(np.ones(1)), measured(np.zeros(1)))
    assert found.p == 1 and (found.low, found.high) == (-1, 1) and found.verdict == "too little data"
    clusters = np.zeros(50, np.int64)
    assert difference(measured(np.ones(50), clusters=clusters), measured(np.zeros(50), clusters=clusters)).p == 1


def test_runs_of_a_recipe_vary_as_well() -> None:
    """Runs whose values scatter more than items do: the recipes are not told apart, single runs would be."""
    random = np.random.default_rng(0)

    def runs(shifts: list[float]) -> list[Measurement]:
        return [measured(np.linspace(-1, 1, 400) + shift + random.normal(0, 0.05, 400)) for shift in shifts]

    noisy = runs([0.0, 0.5, -0.4]), runs([0.3, -0.3, 0.1])
    assert difference(noisy[0][1], noisy[1][1]).p < 0.01
    found = difference(*noisy)
    assert found.runs == (3, 3) and found.p > 0.5 and found.low < -0.5 and found.high > 0.5
    assert found.verdict == "too little data" and "more runs" in found.words
    steady = difference(runs([0.2, 0.21, 0.19]), runs([0.0, 0.01, -0.01]))
    assert steady.verdict == "better" and steady.low > 0.15


def test_runs_that_are_equal_are_called_different_as_often_as_one_says() -> None:
    random = np.random.default_rng(5)

    def recipe() -> list[Measurement]:
        return [measured(items + random.normal(0, 0.2) + random.normal(0, 0.5, 60)) for _ in range(3)]

    told = held = 0
    for _ in range(200):
        items = random.normal(0, 1, 60)
        found = difference(recipe(), recipe())
        told += found.p < 0.05
        held += found.low <= 0 <= found.high
    assert told / 200 <= 0.05 + 3 * 0.0154 and held / 200 >= 0.95 - 3 * 0.0154


P = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(P)
def test_benjamini_hochberg_is_scipys(p: list[float]) -> None:
    assert corrected(p, "benjamini-hochberg") == pytest.approx(scipy.stats.false_discovery_control(p), abs=1e-12)


@given(P)
def test_holm_rejects_what_its_steps_do(p: list[float]) -> None:
    """As Holm wrote it: the smallest against a/m, the next against a/(m - 1), until one fails."""
    found = corrected(p, "holm")
    for alpha in (0.01, 0.05, 0.3):
        order = np.argsort(p, kind="stable")
        steps = [p[place] <= alpha / (len(p) - step) for step, place in enumerate(order)]
        rejected = {int(place) for place, _ in zip(order, itertools.takewhile(bool, steps), strict=False)}
        near = np.abs(found - alpha) < 1e-9
        assert {n for n in range(len(p)) if found[n] <= alpha and not near[n]} == {n for n in rejected if not near[n]}


def test_comparisons_without_a_p_value_do_not_count() -> None:
    assert corrected([0.02, np.nan, 0.04]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)
    assert corrected([0.02, 0.04], "none") == pytest.approx([0.02, 0.04])
    assert len(corrected([])) == 0


def test_a_report_is_corrected_as_a_whole() -> None:
    random = np.random.default_rng(4)
    base = [measured((random.random(300) < 0.5).astype(float), task=f"t{n}") for n in range(10)]
    better = [measured(one.rows[:, 0].copy(), task=one.task) for one in base]
    better[0].rows[np.flatnonzero(base[0].rows[:, 0] == 0)[:7], 0] = 1
    alone = difference(better[0], base[0])
    assert alone.p < 0.05 and alone.verdict == "better"
    report = differences([*better[:9], measured(np.ones(3), task="other")], base)
    assert len(report) == 9 and report[0].p == alone.p and report[0].p_corrected == pytest.approx(9 * alone.p)
    assert report[0].verdict != "better"


Floats = st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=25)


@settings(max_examples=30, deadline=None)
@given(Floats, st.randoms())
def test_swapped_models_and_other_orders_change_nothing_else(values: list[tuple[float, float]], random) -> None:
    one, two = np.round(np.array(values), 2).T
    found, back = difference(measured(one), measured(two)), difference(measured(two), measured(one))
    assert back.p == found.p and back.difference == pytest.approx(-found.difference)
    # Draws are of the same units, so the ends change places.
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), rel=1e-6, abs=1e-9)
    order = list(range(len(one)))
    random.shuffle(order)
    keys = [f"{n:06}" for n in order]
    again = difference(measured(one[order], keys=keys), measured(two[order], keys=keys))
    assert (again.p, again.low, again.high) == pytest.approx((found.p, found.low, found.high), rel=1e-6, abs=1e-9)
    single = np.arange(len(one))[::-1].copy()
    alone = difference(measured(one, clusters=single), measured(two, clusters=single))
    assert (alone.p, alone.low, alone.high) == pytest.approx((found.p, found.low, found.high), rel=1e-6, abs=1e-9)


def test_the_test_without_anything_to_swap() -> None:
    rows = of_values(np.arange(4.0))
    assert randomisation_test(rows, rows, lambda a, b: a[..., 0] - b[..., 0]) == 1.0


def test_non_inferiority_looks_at_the_intervals_end() -> None:
    random = np.random.default_rng(0)
    base = (random.random(1000) < 0.6).astype(float)
    other = base.copy()
    other[:10] = 1 - other[:10]
    found = difference(measured(other), measured(base))
    assert found.not_worse_by(0.03) and not found.not_worse_by(-found.low - 1e-9)
    few = difference(measured(other[:50]), measured(base[:50]))
    assert not few.not_worse_by(0.03)
