"""Bands: what is outside, how often what is like the rest falls outside, and how often what is not does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from ownlm.config import validate
from ownlm.errors import ConfigError
from ownlm.evaluate.bands import Band, BandsConfig, error_by_interval, given_band, learned_band, read_bands
from ownlm.evaluate.differences import difference
from ownlm.evaluate.influence import MOST_UNITS, error_of, influences, paired_error
from ownlm.evaluate.measurement import Measurement, exponent_of_mean, mean, of_values
from ownlm.evaluate.sample import sample_of
from ownlm.evaluate.tables import macro_f1, of_confusions


def measured(values: Any, metric: Any = None, clusters: Any = None, order: Any = None) -> Measurement:
    keys = np.array([f"{i:05}" for i in range(len(values))])
    rows = values if np.ndim(values) == 2 else of_values(values)
    order = np.arange(len(values)) if order is None else order
    kept = None if clusters is None else np.asarray(clusters)[order]
    return Measurement("t", metric or mean("accuracy"), rows[order], list(keys[order]), kept)


def test_influences_give_the_error_of_a_value_and_of_a_difference() -> None:
    draw = np.random.default_rng(1)
    right, other = draw.random(400) < 0.7, draw.random(400) < 0.6
    assert error_of(influences(measured(right))) == pytest.approx(np.std(right, ddof=1) / 20)  # type: ignore[arg-type]
    clusters = np.repeat(np.arange(80), 5)
    for metric, one, two in (
        (mean("accuracy"), of_values(right), of_values(other)),
        (
            exponent_of_mean("perplexity"),
            *(np.stack((draw.gamma(3, 1, 400), draw.integers(3, 9, 400)), -1) for _ in "ab"),
        ),
        (macro_f1(2), *(of_confusions(draw.integers(0, 2, 400), right.astype(int), 2) for right in (right, other))),
    ):
        a, b = measured(one, metric, clusters), measured(two, metric, clusters)
        first, second = influences(a), influences(b)
        assert first is not None and second is not None and len(first) == 80
        assert error_of(first) == pytest.approx(math.sqrt(sample_of(a).variance), rel=0.05)
        told = difference(a, b)
        assert paired_error(first, [second]) == pytest.approx((told.high - told.low) / 2 / 1.99, rel=0.15)
        # Whatever order the items come in.
        shuffled = influences(measured(one, metric, clusters, draw.permutation(400)))
        np.testing.assert_allclose(shuffled, first, atol=1e-12)


def test_what_is_too_much_or_too_little_is_not_kept() -> None:
    assert influences(measured([1.0])) is None and influences(measured(np.zeros(MOST_UNITS + 1))) is None
    assert influences(measured([1.0, math.inf])) is None


def test_a_learned_band_is_the_prediction_interval() -> None:
    values = [0.61, 0.64, 0.60, 0.63, 0.62, 0.66]
    low, high = scipy.stats.t.interval(0.99, 5, np.mean(values), np.std(values, ddof=1) * math.sqrt(7 / 6))
    band = learned_band(values, 0.0, 0.01)
    assert (band.low, band.high, band.versions) == (pytest.approx(low), pytest.approx(high), 6)
    assert (
        band.side(high + 1e-9, 0, 1) == "above" and band.side(low - 1e-9, 0, 1) == "below" and not band.side(0.62, 0, 1)
    )
    # Where they happen to agree, what the items leave open stands in; and where that is unknown, nothing is outside.
    band = learned_band([0.5] * 5, 0.02, 0.01)
    assert (band.low, band.high) == (
        pytest.approx(0.5 - 2.5758 * 0.02, abs=1e-5),
        pytest.approx(0.5 + 0.05152, abs=1e-5),
    )
    assert learned_band([0.5] * 5, math.nan, 0.01).side(99.0, 98, 100) is None
    assert error_by_interval(0.5 - 1.959964 * 0.1, 0.5 + 1.959964 * 0.1) == pytest.approx(0.1)


def test_a_given_band_is_left_by_the_whole_interval_or_by_the_value() -> None:
    config = validate(BandsConfig, {"bands": [{"task": "t", "metric": "m", "low": 0.5, "high": 0.6}]})
    band = given_band(config.bands[0])
    assert band.side(0.45, 0.40, 0.52) is None and band.side(0.45, 0.40, 0.49) == "below"
    assert band.side(0.65, 0.61, 0.70) == "above" and not band.learned
    by_value = Band(0.5, math.inf)
    assert by_value.side(0.45, 0.40, 0.52) == "below" and by_value.side(math.nan, math.nan, math.nan) is None
    assert config.given("t", "m", 0) is config.bands[0] and config.given("t", "m", 1) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bands: [{task: t, metric: m}]", "a band needs low, high, or both"),
        ("bands: [{task: t, metric: m, low: 2, high: 1}]", "low must be below high"),
        ("bands: [{task: t, metric: m, low: 1}, {task: t, metric: m, high: 2}]", "two are for the same"),
        ("bands: [{task: t, metrc: m, low: 1}]", "metric"),
        ("history: 2", "history"),
        ("history: 40", "window must be at least history"),
        ("since: soon", "since"),
    ],
)
def test_a_wrong_file_of_bands_is_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bands.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_bands(tmp_path / "bands.yaml")
    assert said in str(error.value)


def alarms(versions: int, items: int, spread: float, moved: float, rate: float, runs: int, seed: int = 0) -> float:
    """How often a further version alarms.

    Items are right with chances of their own; versions differ by ``spread`` in the logit of all, and in which items they get right;
    the new one is ``moved`` logits off.
    """
    draw = np.random.default_rng(seed)
    out = 0
    for _ in range(runs):
        logits = draw.normal(0.8, 1.5, items) + np.append(draw.normal(0, spread, versions), 0)[:, None]
        logits[-1] += draw.normal(0, spread) + moved
        right = (draw.random((versions + 1, items)) < 1 / (1 + np.exp(-logits))).astype(float)
        kept = [influences(measured(one)) for one in right]
        error = math.nan if any(one is None for one in kept) else paired_error(kept[-1], kept[:-1])  # type: ignore[arg-type]
        values = right.mean(1)
        out += learned_band(values[:-1].tolist(), error, rate).side(values[-1], 0, 1) is not None
    return out / runs


@pytest.mark.parametrize("versions", [5, 20])
@pytest.mark.parametrize(("items", "spread"), [(30, 0.0), (200, 0.0), (200, 0.3)])
def test_what_is_like_the_rest_alarms_no_more_often_than_said(versions: int, items: int, spread: float) -> None:
    """Alarms at 5% stay below 5% with three standard errors of these 300 draws; by measurement alone and with versions that differ."""
    assert alarms(versions, items, spread, 0.0, 0.05, 300) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_what_is_not_alarms() -> None:
    assert alarms(10, 500, 0.05, -1.5, 0.01, 60) > 0.95


def test_versions_that_hardly_differ_alarm_for_no_single_item() -> None:
    """Five versions that are right on the same items, and one that misses one or two of them."""
    right = np.ones(100)
    right[:20] = 0
    for missed, outside in ((1, False), (3, False), (12, True)):
        new = right.copy()
        new[-missed:] = 0
        kept = [influences(measured(one)) for one in (new, *[right] * 5)]
        error = paired_error(kept[0], kept[1:])  # type: ignore[arg-type]
        band = learned_band([0.8] * 5, error, 0.01)
        assert (band.side(new.mean(), 0, 1) is not None) == outside
