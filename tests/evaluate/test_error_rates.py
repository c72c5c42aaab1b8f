"""How often two equal models are called different, and how often intervals of differences hold the true one.

The table of docs/statistics.md is what ``pytest -m slow tests/evaluate/test_error_rates.py -s`` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from ownlm.evaluate.differences import correct, difference
from ownlm.evaluate.measurement import Measurement, Metric, exponent_of_mean, mean, of_values
from ownlm.evaluate.tables import macro_f1, of_confusions

Random = np.random.Generator
Rows = NDArray[np.float64]
Drawn = tuple[Rows, Rows, NDArray[np.int64] | None]


@dataclass(frozen=True)
class Pair:
    """Two models on the same items.

    Attributes:
        metric: what is measured.
        truth: their difference over all items there are.
        draw: some items: the rows of both, and clusters.
        least: the coverage below which the interval would be called wrong.
    """

    metric: Metric
    truth: float
    draw: Callable[[Random, int], Drawn]
    least: float = 0.92


def accuracies(easy: float, first: float, second: float) -> Pair:
    """Items that both get right or wrong alike, and others where each is right by its own chance."""

    def draw(random: Random, n: int) -> Drawn:
        alike, kind = random.random(n) < easy, random.random(n) < 0.7
        rows = [of_values(np.where(alike, kind, random.random(n) < share)) for share in (first, second)]
        return rows[0], rows[1], None

    return Pair(mean("accuracy"), (1 - easy) * (first - second), draw)


def clustered_accuracies(each: int = 5) -> Pair:
    """Equal models whose difference is that of whole passages: each is better at half of them."""

    def draw(random: Random, n: int) -> Drawn:
        clusters = np.repeat(np.arange(n // each), each)
        shift = np.repeat(random.choice([-0.3, 0.3], n // each), each)
        rows = [of_values(random.random(n) < 0.5 + sign * shift) for sign in (1, -1)]
        return rows[0], rows[1], clusters

    # Twenty items are but four passages, and of four all go the same way now and then.
    return Pair(mean("accuracy"), 0.0, draw, least=0.89)


def perplexities(second: float = 1.0) -> Pair:
    """Log-normal losses that are much alike."""

    def losses(random: Random, n: int) -> tuple[Rows, Rows, Rows]:
        words, loss = np.ceil(random.lognormal(5, 0.8, n)), random.lognormal(1, 0.4, n)
        first, other = (loss * random.lognormal(0, 0.1, n) * scale * words for scale in (1.0, second))
        return first, other, words

    def draw(random: Random, n: int) -> Drawn:
        first, other, words = losses(random, n)
        return np.stack((first, words), -1), np.stack((other, words), -1), None

    first, other, words = losses(np.random.default_rng(5), 3_000_000)
    truth = 0.0 if second == 1 else float(np.exp(first.sum() / words.sum()) - np.exp(other.sum() / words.sum()))
    return Pair(exponent_of_mean("word_perplexity"), truth, draw)


def tables() -> Pair:
    """Two classifiers of three classes with the same confusions."""
    table = np.array([[0.40, 0.08, 0.02], [0.10, 0.20, 0.05], [0.03, 0.02, 0.10]])

    def draw(random: Random, n: int) -> Drawn:
        right = random.choice(3, n, p=table.sum(1))
        chances = (table / table.sum(1, keepdims=True)).cumsum(1)[right]
        alike = random.random(n) < 0.5
        same = random.random(n)
        chosen = [(np.where(alike, same, random.random(n))[:, None] > chances).sum(1) for _ in range(2)]
        rows = [of_confusions(right, np.minimum(one, 2), 3) for one in chosen]
        return rows[0], rows[1], None

    return Pair(macro_f1(3), 0.0, draw)


PAIRS: dict[str, Pair] = {
    "accuracy, equal, differ on 25%": accuracies(0.5, 0.5, 0.5),
    "accuracy, equal, differ on 2%": accuracies(0.96, 0.5, 0.5),
    "accuracy, 0.10 apart": accuracies(0.5, 0.7, 0.5),
    "accuracy, equal, in clusters of 5": clustered_accuracies(),
    "perplexity of texts, equal": perplexities(),
    "perplexity of texts, 10% more loss": perplexities(1.1),
    "macro F1, equal": tables(),
}


def both(pair: Pair, random: Random, n: int) -> tuple[Measurement, Measurement]:
    first, second, clusters = pair.draw(random, n)
    keys = [f"{place:06}" for place in range(len(first))]
    return (
        Measurement("t", pair.metric, first, keys, clusters, model="one"),
        Measurement("t", pair.metric, second, keys, clusters, model="other"),
    )


def rates(pair: Pair, n: int, trials: int, seed: int = 0) -> tuple[float, float]:
    """How often the interval holds the true difference, and how often p is below 0.05."""
    random = np.random.default_rng((seed, n))
    held = told = 0
    for trial in range(trials):
        found = difference(*both(pair, random, n), seed=trial)
        held += found.low <= pair.truth <= found.high
        told += found.p < 0.05
    return held / trials, told / trials


@pytest.mark.slow
def test_rates_of_all_pairs() -> None:
    wrong = []
    for name, pair in PAIRS.items():
        cells = []
        for n in (20, 50, 200, 1000):
            trials = 500 if n < 1000 else 200
            held, told = rates(pair, n, trials)
            cells.append(f"{held:.3f}, {told:.3f}")
            own = 3 * np.sqrt(0.05 * 0.95 / trials)
            if held < pair.least - own or (pair.truth == 0 and told > 0.05 + own):
                wrong.append((name, n, held, told))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    assert not wrong


@pytest.mark.parametrize("name", PAIRS)
def test_rates_are_what_they_say(name: str) -> None:
    """With few trials: what is wrong by more than chance can make it."""
    pair, trials = PAIRS[name], 150
    held, told = rates(pair, 40, trials, seed=1)
    own = 3 * np.sqrt(0.05 * 0.95 / trials)
    assert held >= pair.least - own
    assert pair.truth != 0 or told <= 0.05 + own


def test_of_twenty_equal_tasks_hardly_a_report_has_a_wrong_verdict() -> None:
    """Uncorrected, two reports of three would have one."""
    random, pair = np.random.default_rng(0), PAIRS["accuracy, equal, differ on 25%"]
    reports, wrong, uncorrected = 10, 0, 0
    for _ in range(reports):
        drawn = [both(pair, random, 200) for _ in range(20)]
        found = [difference(*one) for one in drawn]
        uncorrected += any(one.p < 0.05 for one in found)
        wrong += any(one.verdict in ("better", "worse") for one in correct(found))
    assert wrong <= 2 and uncorrected >= 4
