"""A learning rate from a short trial (Smith 2015): raise it step by step, and see where the loss falls fastest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..errors import OwnlmError

# The trial ends where the smoothed loss is this many times its lowest: what comes after tells nothing.
BLOWN_UP = 4.0


@dataclass(frozen=True)
class RateTrial:
    """What a trial saw.

    Attributes:
        rates: every learning rate tried, rising.
        losses: the loss that its step began from.
        smoothed: the losses averaged over their neighbours on both sides, so that nothing is moved.
        blew_up: the rate at which the loss left every bound, or None where the trial ended first.
        steepest: the rate at which the smoothed loss fell fastest.
        suggested: the rate to train with.
        why: what the suggestion rests on, one sentence.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    blew_up: float | None
    steepest: float
    suggested: float
    why: str


def find_rate(step: Callable[[float], float], low: float = 1e-7, high: float = 1.0, steps: int = 100) -> RateTrial:
    """Tries the rates from ``low`` to ``high``, evenly on a logarithmic scale, and suggests one.

    The suggestion is the rate where the smoothed loss falls fastest, but at most a tenth of the rate at which it blows
    up: a whole run needs room that one step does not.

    Args:
        step: makes one update at a learning rate and returns the loss it began from; what it changes is thrown away.
        low: the first rate.
        high: the last rate.
        steps: updates to make.

    Raises:
        OwnlmError: the loss is no number from the start, or never falls.
    """
    if not 0 < low < high or steps < 10:
        raise ValueError("low must be above 0 and below high, and steps at least 10")
    rates, losses, blew_up = _tried(step, low, high, steps)
    smoothed = _smoothed(losses, max(1, steps // 20))
    # Beyond its lowest point the loss has been up, and falling back from there says nothing.
    lowest = smoothed.index(min(smoothed))
    slopes = [after - before for before, after in pairwise(smoothed[: lowest + 1])]
    where = f"learning rates from {low:g} to {high:g}"
    if not slopes or min(slopes) >= 0:
        raise OwnlmError("the loss never fell, so no learning rate can be told", where=where, hint="widen the range")
    # Steps are even on the logarithmic scale, so the greatest fall is the steepest one.
    steepest = rates[slopes.index(min(slopes))]
    if blew_up is not None and blew_up / 10 < steepest:
        return RateTrial(
            rates,
            losses,
            smoothed,
            blew_up,
            steepest,
            blew_up / 10,
            f"a tenth of {blew_up:.2g}, where the loss blew up",
        )
    return RateTrial(rates, losses, smoothed, blew_up, steepest, steepest, "the loss falls fastest there")


def _tried(
    step: Callable[[float], float], low: float, high: float, steps: int
) -> tuple[list[float], list[float], float | None]:
    """(rates, losses, the rate at which it blew up): up to there."""
    rates: list[float] = []
    losses: list[float] = []
    average, lowest = 0.0, math.inf
    for number, lr in enumerate(_rates(low, high, steps), 1):
        loss = step(lr)
        if not math.isfinite(loss):
            if number == 1:
                raise OwnlmError("the loss of the first step is not a finite number", hint="the weights may be damaged")
            return rates, losses, rates[-1]
        rates.append(lr)
        losses.append(loss)
        # A running average tells when to stop, freed of its start as Adam's is (Kingma and Ba 2015).
        average = 0.8 * average + 0.2 * loss
        unbiased = average / (1 - 0.8**number)
        lowest = min(lowest, unbiased)
        if unbiased > BLOWN_UP * lowest:
            return rates, losses, lr
    return rates, losses, None


def _rates(low: float, high: float, steps: int) -> Iterator[float]:
    for number in range(steps):
        yield low * (high / low) ** (number / (steps - 1))


def _smoothed(losses: list[float], reach: int) -> list[float]:
    """The mean over ``reach`` neighbours on each side, fewer on both where one side ends."""
    means = []
    for place in range(len(losses)):
        near = min(reach, place, len(losses) - 1 - place)
        window = losses[place - near : place + near + 1]
        means.append(sum(window) / len(window))
    return means
