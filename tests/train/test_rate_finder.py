"""The learning-rate trial on losses whose best rate is known by calculus, and on a real model."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ownlm.errors import OwnlmError
from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.train.config import OptimizerConfig
from ownlm.train.optimizer import make_optimizer, set_rate
from ownlm.train.rate_finder import BLOWN_UP, find_rate


class Quadratic:
    """Gradient descent on the sum of curvature * x**2 / 2: it diverges above 2 / the largest curvature."""

    def __init__(self, curvatures: list[float]) -> None:
        self.curvatures, self.x = curvatures, [1.0] * len(curvatures)

    def step(self, lr: float) -> float:
        loss = sum(c * x * x / 2 for c, x in zip(self.curvatures, self.x, strict=True))
        self.x = [x - lr * c * x for c, x in zip(self.curvatures, self.x, strict=True)]
        return loss


@pytest.mark.parametrize("largest", [1.0, 100.0])
def test_it_suggests_what_gradient_descent_can_bear(largest: float) -> None:
    trial = find_rate(Quadratic([largest, largest / 30, largest / 1000]).step, 1e-6 / largest, 100 / largest, 200)
    bound = 2 / largest
    # What had fallen to nothing needs a few steps to grow back.
    assert trial.blew_up is not None and bound < trial.blew_up < 10 * bound
    assert bound / 1000 < trial.suggested < bound / 2
    assert len(trial.rates) == len(trial.losses) == len(trial.smoothed) < 200


def test_rates_are_even_on_a_logarithmic_scale() -> None:
    losses = iter(5 - n / 20 for n in range(21))
    trial = find_rate(lambda lr: next(losses), 1e-5, 1e-1, 21)
    assert trial.rates[0] == pytest.approx(1e-5) and trial.rates[-1] == pytest.approx(1e-1)
    assert [b / a for a, b in pairwise(trial.rates)] == pytest.approx([10 ** (4 / 20)] * 20)
    assert trial.blew_up is None


@pytest.mark.parametrize("place", [-4.5, -3.0, -2.2])
def test_the_steepest_place_is_found_where_it_is(place: float) -> None:
    """A loss that falls along a logistic curve falls fastest in its middle; noise is smoothed without moving it."""
    noise = torch.randn(200, generator=torch.Generator().manual_seed(0)).mul(0.01).tolist()
    numbers = iter(noise)
    trial = find_rate(lambda lr: 4 - 2 / (1 + math.exp(-3 * (math.log10(lr) - place))) + next(numbers), 1e-6, 1e-1, 200)
    assert abs(math.log10(trial.steepest) - place) < 0.3
    assert trial.suggested == trial.steepest and trial.why == "the loss falls fastest there"


def test_it_stays_a_tenth_below_where_the_loss_blows_up() -> None:
    """Falls fastest at 1e-2, and blows up at 3e-2."""
    trial = find_rate(lambda lr: 4 - 2 / (1 + (1e-2 / lr) ** 2) if lr < 3e-2 else 1e6, 1e-6, 1.0, 121)
    assert trial.blew_up == pytest.approx(3e-2, rel=0.15)
    assert trial.suggested == trial.blew_up / 10 < trial.steepest
    assert trial.why.startswith("a tenth of 0.03")


def test_a_loss_that_is_no_number_ends_the_trial() -> None:
    trial = find_rate(lambda lr: 4 - lr * 1e3 if lr < 1e-3 else math.nan, 1e-6, 1.0, 61)
    assert trial.blew_up == trial.rates[-1] < 1e-3
    assert all(math.isfinite(loss) for loss in trial.losses)


@given(st.lists(st.floats(0.1, 10), min_size=10, max_size=60))
def test_smoothing_is_the_mean_of_the_neighbours(losses: list[float]) -> None:
    numbers = iter(losses)
    try:
        trial = find_rate(lambda lr: next(numbers), 1e-4, 1.0, len(losses))
    except OwnlmError:
        return
    reach = max(1, len(losses) // 20)
    for place, value in enumerate(trial.smoothed):
        near = min(reach, place, len(trial.losses) - 1 - place)
        window = trial.losses[place - near : place + near + 1]
        assert value == pytest.approx(sum(window) / (2 * near + 1))
    assert trial.rates[0] / 10 <= trial.suggested <= trial.rates[-1]


def test_a_blow_up_is_a_loss_far_above_the_lowest() -> None:
    steps = []

    def step(lr: float) -> float:
        steps.append(lr)
        return 1.0 if len(steps) < 30 else 1.0 + len(steps) * BLOWN_UP

    with pytest.raises(OwnlmError, match="the loss never fell"):
        find_rate(step, 1e-6, 1.0, 100)
    assert 30 <= len(steps) < 35


def test_nothing_can_be_told_of_a_loss_that_is_no_number_at_once_or_never_falls() -> None:
    with pytest.raises(OwnlmError, match="the loss of the first step is not a finite number"):
        find_rate(lambda lr: math.inf)
    with pytest.raises(OwnlmError, match="the loss never fell"):
        find_rate(lambda lr: 1.0)
    with pytest.raises(ValueError):
        find_rate(lambda lr: 1.0, 1e-2, 1e-3)


def test_a_real_model_learns_at_the_suggested_rate() -> None:
    shape = {"family": "llama", "layers": 1, "width": 32, "heads": 2, "vocab_size": 64, "max_positions": 32}
    tokens = torch.randint(0, 8, (256,), generator=torch.Generator().manual_seed(0)).cumsum(0) % 64
    positions, starts = torch.arange(32).repeat(8), list(range(0, 257, 32))

    def stepper() -> Callable[[float], float]:
        model = random_model(config_from_user(shape), 0)
        optimizer = make_optimizer(model, OptimizerConfig())

        def step(lr: float) -> float:
            loss, _ = model.loss(tokens, positions, starts, tokens.roll(-1), torch.full((256,), 1 / 256))
            loss.backward()
            set_rate(optimizer, lr)
            optimizer.step()
            optimizer.zero_grad()
            return loss.item()

        return step

    trial = find_rate(stepper(), 1e-6, 10.0, 80)
    assert 1e-4 < trial.suggested < 1e-1
    step = stepper()
    losses = [step(trial.suggested) for _ in range(40)]
    assert losses[-1] < losses[0] - 1
