"""Learning rates against the public schedules, hand-worked values, and what holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup, get_wsd_schedule

from ownlm.train.config import ScheduleConfig
from ownlm.train.schedule import rate, warmup_steps


def rates(schedule: ScheduleConfig, steps: int) -> list[float]:
    return [rate(schedule, step, steps) for step in range(steps)]


def reference(make: Callable[..., torch.optim.lr_scheduler.LambdaLR], **arguments: float) -> Callable[[int], float]:
    """A public schedule as a function of its step; its step 0 has the rate 0, where ours already moves."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    function: Callable[[int], float] = make(optimizer, **arguments).lr_lambdas[0]
    return function


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (100, 0), (57, 20), (12, 3)])
def test_cosine_is_the_public_one_down_to_zero(steps: int, warmup: int) -> None:
    theirs = reference(get_cosine_schedule_with_warmup, num_warmup_steps=warmup, num_training_steps=steps - 1)
    ours = rates(ScheduleConfig(kind="cosine", warmup=warmup, floor=0), steps)
    assert ours[:warmup] == pytest.approx([theirs(step + 1) for step in range(warmup)])
    assert ours[warmup:] == pytest.approx([theirs(step) for step in range(warmup, steps)], abs=1e-12)


@pytest.mark.parametrize(
    ("steps", "warmup", "decay", "floor"), [(100, 10, 0.2, 0.0), (100, 0, 0.5, 0.1), (40, 8, 0.8, 0.3)]
)
def test_wsd_is_the_public_one(steps: int, warmup: int, decay: float, floor: float) -> None:
    decay_steps = round(decay * steps)
    theirs = reference(
        get_wsd_schedule,
        num_warmup_steps=warmup,
        num_decay_steps=decay_steps,
        num_stable_steps=steps - warmup - decay_steps,
        warmup_type="linear",
        decay_type="linear",
        min_lr_ratio=floor,
    )
    ours = rates(ScheduleConfig(kind="wsd", warmup=warmup, decay=decay, floor=floor), steps)
    # Theirs counts from 1 and warms up from the floor where there is one; from then on every step agrees.
    if not floor:
        assert ours[:warmup] == pytest.approx([theirs(step + 1) for step in range(warmup)])
    assert ours[warmup:] == pytest.approx([theirs(step + 1) for step in range(warmup, steps)])


def test_values_worked_by_hand() -> None:
    cosine = ScheduleConfig(kind="cosine", warmup=2, floor=0.2)
    # Half a wave over the four steps' three gaps: cos 0, 60, 120, 180 degrees are 1, 1/2, -1/2, -1.
    assert rates(cosine, 6) == pytest.approx([0.5, 1.0, 1.0, 0.8, 0.4, 0.2])
    wsd = ScheduleConfig(kind="wsd", warmup=0.2, decay=0.4, floor=0.0)
    assert rates(wsd, 10) == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])
    constant = ScheduleConfig(kind="constant", warmup=4)
    assert rates(constant, 6) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rates(ScheduleConfig(warmup=0), 1) == [1.0]


def test_a_warmup_below_one_is_a_share_and_else_a_number_of_steps() -> None:
    assert warmup_steps(ScheduleConfig(warmup=0.03), 1000) == 30
    assert warmup_steps(ScheduleConfig(warmup=0.03), 10) == 0
    assert warmup_steps(ScheduleConfig(warmup=1), 1000) == 1
    assert warmup_steps(ScheduleConfig(warmup=250), 1000) == 250


schedules = st.builds(
    ScheduleConfig,
    kind=st.sampled_from(["cosine", "wsd", "constant"]),
    warmup=st.one_of(st.floats(0, 0.999), st.integers(1, 60).map(float)),
    decay=st.floats(0, 1),
    floor=st.floats(0, 1),
)


@settings(deadline=None)
@given(schedules, st.integers(1, 200))
def test_it_rises_once_never_above_one_and_then_falls(schedule: ScheduleConfig, steps: int) -> None:
    values, warmup = rates(schedule, steps), min(warmup_steps(schedule, steps), steps)
    assert all(0 <= value <= 1 for value in values)
    assert all(a < b for a, b in pairwise(values[:warmup])), "the warm-up rises"
    after = values[warmup:]
    assert all(a >= b - 1e-12 for a, b in pairwise(after)), "nothing rises after the warm-up"
    assert all(value >= schedule.floor - 1e-12 for value in after), "no rate falls below the floor"


@settings(deadline=None)
@given(schedules, st.integers(2, 200))
def test_a_decay_ends_at_the_floor(schedule: ScheduleConfig, steps: int) -> None:
    room = steps - warmup_steps(schedule, steps)
    last = rate(schedule, steps - 1, steps)
    if schedule.kind == "constant" or (schedule.kind == "wsd" and not schedule.decay):
        assert room <= 0 or last == 1
    elif room >= 2:
        assert last == pytest.approx(schedule.floor)


@settings(deadline=None)
@given(schedules, st.integers(2, 200))
def test_it_has_no_jump(schedule: ScheduleConfig, steps: int) -> None:
    """No two neighbours differ by more than the steepest of the curves does in one step."""
    warmup = warmup_steps(schedule, steps)
    room = max(1, steps - warmup)
    steepest = {
        "constant": 0.0,
        "cosine": math.pi / 2 / max(1, room - 1),
        "wsd": 1 / min(room, max(1, round(schedule.decay * steps))),
    }[schedule.kind]
    values = rates(schedule, steps)
    for before, after in pairwise(values):
        assert abs(after - before) <= max(steepest, 1 / max(1, warmup)) + 1e-9


def test_a_longer_run_keeps_the_steps_of_a_stable_phase() -> None:
    """What makes wsd worth its name: until the decay begins, a run's rates do not depend on how long it will be."""
    schedule = ScheduleConfig(kind="wsd", warmup=10, decay=0.2)
    assert rates(schedule, 100)[:80] == rates(schedule, 1000)[:80]
