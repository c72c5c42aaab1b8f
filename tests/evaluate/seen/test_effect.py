"""What having seen items does to a score, against worked values, and how often chance alone is called an effect."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from ownlm.evaluate.measurement import Measurement, exponent_of_mean, mean, of_values
from ownlm.evaluate.seen.effect import correct, effect_of, effects_of
from ownlm.evaluate.statistics import interval


def measured(values: list[float], clusters: list[int] | None = None) -> Measurement:
    keys = [f"k{number}" for number in range(len(values))]
    where = None if clusters is None else np.array(clusters, np.int64)
    return Measurement("task", mean("accuracy", best=1.0), of_values(values), keys, where)


def test_values_and_their_difference() -> None:
    values = [1] * 9 + [0] + [1] * 5 + [0] * 15
    one = measured(values)
    seen = np.array([True] * 10 + [False] * 20)
    found = effect_of(one, seen)
    assert (found.all.value, found.clean.value, found.seen.value) == (14 / 30, 0.25, 0.9)
    assert (found.all.n, found.clean.n, found.seen.n) == (30, 20, 10)
    assert (found.all.low, found.all.high) == interval(one)
    assert found.difference == pytest.approx(0.65)
    # Newcombe's hybrid of two Wilson intervals (1998, method 10), by hand.
    z = 1.959963984540054
    wilson = [
        [
            (p + z * z / (2 * n) + sign * z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
            for sign in (-1, 1)
        ]
        for p, n in ((0.9, 10), (0.25, 20))
    ]
    assert found.low == pytest.approx(0.65 - np.hypot(0.9 - wilson[0][0], wilson[1][1] - 0.25))
    assert found.high == pytest.approx(0.65 + np.hypot(wilson[0][1] - 0.9, 0.25 - wilson[1][0]))
    assert found.verdict == "better" and found.p < 0.01


def test_the_p_value_is_that_of_all_ways_to_pick_items() -> None:
    values, count = [1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0], 4
    seen = np.array([number < count for number in range(len(values))])
    observed = abs(np.mean(np.array(values)[seen]) - np.mean(np.array(values)[~seen]))
    ways = [
        abs(np.mean([values[i] for i in some]) - np.mean([v for i, v in enumerate(values) if i not in some]))
        for some in combinations(range(len(values)), count)
    ]
    exact = np.mean([way >= observed - 1e-12 for way in ways])
    assert effect_of(measured(values), seen).p == pytest.approx(exact, abs=0.015)


def test_equal_items_are_called_apart_no_more_often_than_stated() -> None:
    draw = np.random.default_rng(0)
    called = 0
    for _ in range(100):
        values = (draw.random(60) < 0.7).astype(float).tolist()
        called += effect_of(measured(values), draw.random(60) < 0.3).p < 0.05
    assert called <= 11  # 5 of 100 on average; more than 11 in 0.4% of such simulations


def test_clusters_are_the_evidence() -> None:
    values = [1.0] * 20 + [0.0] * 20
    seen = np.array([True] * 20 + [False] * 20)
    two_sources = effect_of(measured(values, [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10), seen)
    assert two_sources.verdict == "too little data"
    assert effect_of(measured(values), seen).verdict == "better"


def test_nothing_left_or_one_item_is_too_little() -> None:
    everything = effect_of(measured([1.0, 0.0, 1.0]), np.array([True] * 3))
    assert everything.clean.n == 0 and np.isnan(everything.difference) and everything.verdict == "too little data"
    single = effect_of(measured([1.0] + [0.0] * 99), np.array([True] + [False] * 99))
    assert single.verdict == "too little data" and "1 of 100 items seen" in single.words


def test_a_perplexity_has_an_effect_too() -> None:
    draw = np.random.default_rng(1)
    losses = np.concatenate([draw.exponential(0.5, 40), draw.exponential(2.5, 60)])
    one = Measurement("t", exponent_of_mean("perplexity"), of_values(losses), [str(n) for n in range(100)])
    found = effect_of(one, np.arange(100) < 40)
    assert found.seen.value < found.all.value < found.clean.value and found.verdict == "better"


def test_only_measurements_of_items_that_were_looked_for() -> None:
    items, terms = measured([1.0, 0.0, 1.0, 0.0]), Measurement("t", mean("ss"), of_values([1, 0]), ["nurse", "boss"])
    found = effects_of([items, terms], {"k0"}, {"k0", "k1", "k2", "k3"})
    assert [one.metric for one in found] == ["accuracy"]
    assert effects_of([items], set(), {"k0", "k1", "k2", "k3"}) == []


def test_many_scores_are_corrected() -> None:
    values = [1.0] * 9 + [0.0] * 3 + [1.0] * 9 + [0.0] * 19
    one = effect_of(measured(values), np.arange(40) < 12)
    assert 0.01 < one.p < 0.05 and one.verdict == "better"
    many = correct([one] * 8)
    assert all(each.p == pytest.approx(8 * one.p) and each.verdict == "too little data" for each in many)
    assert correct([one])[0].verdict == "better" and correct([]) == []
