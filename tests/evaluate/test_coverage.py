"""Whether intervals hold the true value as often as they say, in worlds whose true value is known.

The table of docs/statistics.md is what ``pytest -m slow tests/evaluate/test_coverage.py -s`` prints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from ownlm.evaluate.measurement import Measurement, Metric, exponent_of_mean, mean, of_values
from ownlm.evaluate.statistics import interval
from ownlm.evaluate.tables import macro_f1, matthews, of_confusions

Random = np.random.Generator
Rows = NDArray[np.float64]
Clusters = NDArray[np.int64] | None


@dataclass(frozen=True)
class World:
    """Where items come from.

    Attributes:
        metric: what is measured.
        truth: its value over all items there are.
        draw: some items: rows and clusters.
        sizes: numbers of items.
        least: the coverage below which the interval would be called wrong.
    """

    metric: Metric
    truth: float
    draw: Callable[[Random, int], tuple[Rows, Clusters]]
    sizes: tuple[int, ...] = (20, 50, 200, 1000)
    least: float = 0.93


def right_or_wrong(share: float) -> World:
    return World(mean("accuracy"), share, lambda random, n: (of_values(random.random(n) < share), None))


def in_clusters(share: float, correlation: float, each: int = 5) -> World:
    """Beta-binomial: items of a cluster are alike, by so much correlation."""
    a, b = (x * (1 - correlation) / correlation for x in (share, 1 - share))

    def draw(random: Random, n: int) -> tuple[Rows, Clusters]:
        shares = np.repeat(random.beta(a, b, n // each), each)
        return of_values(random.random(len(shares)) < shares), np.repeat(np.arange(n // each), each)

    return World(mean("accuracy"), share, draw)


def answer_f1() -> World:
    """Most are wholly right or wholly wrong, some in between, as answers' F1 is."""

    def draw(random: Random, n: int) -> tuple[Rows, Clusters]:
        kind = random.random(n)
        return of_values(np.where(kind < 0.6, 1.0, np.where(kind < 0.8, 0.0, random.random(n)))), None

    return World(mean("f1"), 0.7, draw)


def perplexity(spread: float) -> World:
    """Texts of very different lengths and losses: nats a word is log-normal, and longer texts are easier."""
    truth = None

    def draw(random: Random, n: int) -> tuple[Rows, Clusters]:
        words = np.ceil(random.lognormal(5, 0.8, n))
        loss = random.lognormal(1, spread, n) * (words / 150) ** -0.1
        return np.stack((loss * words, words), -1), None

    rows, _ = draw(np.random.default_rng(123), 4_000_000)
    truth = float(np.exp(rows[:, 0].sum() / rows[:, 1].sum()))
    return World(exponent_of_mean("word_perplexity"), truth, draw, least=0.9)


def last_word() -> World:
    """The losses of single words: most small, some very large (exponential)."""
    metric = exponent_of_mean("perplexity")
    return World(metric, float(np.exp(2)), lambda random, n: (of_values(random.exponential(2, n)), None), least=0.91)


def gap() -> World:
    return World(mean("gap"), 1.0, lambda random, n: (of_values(random.exponential(4, n) - 3), None), least=0.91)


TABLE = np.array([[0.40, 0.08, 0.02], [0.10, 0.20, 0.05], [0.03, 0.02, 0.10]])
GOOD = np.array([[0.48, 0.02], [0.03, 0.47]])


def classes(metric: Callable[[int], Metric], table: NDArray[np.float64]) -> World:
    size = len(table)

    def draw(random: Random, n: int) -> tuple[Rows, Clusters]:
        cells = random.choice(size * size, n, p=table.reshape(-1))
        return of_confusions(cells // size, cells % size, size), None

    return World(metric(size), float(metric(size).of(table.reshape(-1))), draw, least=0.91)


WORLDS: dict[str, World] = {
    "accuracy, 0.5": right_or_wrong(0.5),
    "accuracy, 0.8": right_or_wrong(0.8),
    "accuracy, 0.97": right_or_wrong(0.97),
    "accuracy, 0.03": right_or_wrong(0.03),
    "accuracy 0.7 in clusters of 5, correlation 0.3": in_clusters(0.7, 0.3),
    "accuracy 0.95 in clusters of 5, correlation 0.3": in_clusters(0.95, 0.3),
    "accuracy 0.5 in clusters of 5, correlation 0.9": in_clusters(0.5, 0.9),
    "F1 of answers": answer_f1(),
    "perplexity of texts, log-normal": perplexity(0.4),
    "perplexity of texts, heavier": perplexity(0.8),
    "perplexity of last words, exponential": last_word(),
    "gap, exponential": gap(),
    "macro F1, three classes": classes(macro_f1, TABLE),
    "matthews, three classes": classes(matthews, TABLE),
    "matthews, two classes, 0.9": classes(matthews, GOOD),
}


def coverage(world: World, n: int, trials: int, seed: int = 0) -> tuple[float, float]:
    """How often the interval holds the truth, and its mean width."""
    random = np.random.default_rng((seed, n))
    held, widths = 0, []
    for trial in range(trials):
        rows, clusters = world.draw(random, n)
        keys = [f"{place:06}" for place in range(len(rows))]
        low, high = interval(Measurement("t", world.metric, rows, keys, clusters), seed=trial)
        held += low <= world.truth <= high
        widths.append(high - low)
    return held / trials, float(np.mean(widths))


@pytest.mark.slow
def test_coverage_of_all_worlds() -> None:
    wrong = []
    for name, world in WORLDS.items():
        cells = []
        for n in world.sizes:
            trials = 2000 if n < 1000 else 600
            found, _ = coverage(world, n, trials)
            cells.append(f"{found:.3f}")
            # Three times the simulation's own error.
            if found < world.least - 3 * np.sqrt(0.05 * 0.95 / trials):
                wrong.append((name, n, found))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    assert not wrong


@pytest.mark.parametrize("name", WORLDS)
def test_intervals_hold_the_truth_as_often_as_they_say(name: str) -> None:
    """With few trials: what is wrong by more than chance can make it."""
    world, trials = WORLDS[name], 300
    found, _ = coverage(world, 50, trials, seed=1)
    assert found >= world.least - 3 * np.sqrt(0.05 * 0.95 / trials)


def test_clusters_are_not_taken_for_independent_items() -> None:
    """The same items without their clusters: the interval is then far too narrow, so the worlds above can tell."""
    world = WORLDS["accuracy 0.5 in clusters of 5, correlation 0.9"]
    alone = World(world.metric, world.truth, lambda random, n: (world.draw(random, n)[0], None))
    assert coverage(alone, 200, 200)[0] < 0.75
