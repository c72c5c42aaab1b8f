"""Learning rates against the public schedules, hand-worked values, and what holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    get_cosine_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup,
    get_wsd_schedule,
)

from ownlm.config import validate
from ownlm.errors import ConfigError
from ownlm.train.config import ScheduleConfig
from ownlm.train.schedule import (
    Plan,
    continued,
    continues_from,
    first_plan,
    planned_rate,
    rate,
    stable_until,
    warmup_steps,
)


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


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (100, 0), (57, 20), (12, 3)])
def test_linear_is_the_public_one_down_to_zero(steps: int, warmup: int) -> None:
    theirs = reference(get_linear_schedule_with_warmup, num_warmup_steps=warmup, num_training_steps=steps - 1)
    ours = rates(ScheduleConfig(kind="linear", warmup=warmup, floor=0), steps)
    assert ours[:warmup] == pytest.approx([theirs(step + 1) for step in range(warmup)])
    assert ours[warmup:] == pytest.approx([theirs(step) for step in range(warmup, steps)], abs=1e-12)


@pytest.mark.parametrize(("steps", "warmup"), [(100, 10), (300, 1), (57, 20)])
def test_inverse_square_root_is_the_public_one(steps: int, warmup: int) -> None:
    theirs = reference(get_inverse_sqrt_schedule, num_warmup_steps=warmup, timescale=warmup)
    ours = rates(ScheduleConfig(kind="inverse_sqrt", warmup=warmup, floor=0), steps)
    assert ours == pytest.approx([theirs(step + 1) for step in range(steps)])


def test_inverse_square_root_is_the_papers() -> None:
    """Vaswani et al. 2017, equation 3, over its own peak: 4,000 steps of warm-up, counted from 1."""
    ours = rates(ScheduleConfig(kind="inverse_sqrt", warmup=4000, floor=0), 20_000)
    paper = [min((step + 1) ** -0.5, (step + 1) * 4000**-1.5) * 4000**0.5 for step in range(20_000)]
    assert ours == pytest.approx(paper)
    assert rate(ScheduleConfig(kind="inverse_sqrt", warmup=4, floor=0.5), 1000, 2000) == 0.5


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
@pytest.mark.parametrize(
    ("steps", "warmup", "decay", "floor"), [(100, 10, 0.2, 0.0), (100, 0, 0.5, 0.1), (40, 8, 0.8, 0.3)]
)
def test_wsd_is_the_public_one(steps: int, warmup: int, decay: float, floor: float, shape: str) -> None:
    decay_steps = round(decay * steps)
    theirs = reference(
        get_wsd_schedule,
        num_warmup_steps=warmup,
        num_decay_steps=decay_steps,
        num_stable_steps=steps - warmup - decay_steps,
        warmup_type="linear",
        decay_type="1-sqrt" if shape == "sqrt" else shape,
        min_lr_ratio=floor,
    )
    ours = rates(ScheduleConfig(kind="wsd", warmup=warmup, decay=decay, shape=shape, floor=floor), steps)
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


warmups = st.one_of(st.floats(0, 0.999), st.integers(1, 60).map(float))
common = {"warmup": warmups, "decay": st.floats(0, 1), "floor": st.floats(0, 1), "rewarm": warmups}
schedules = st.one_of(
    st.builds(ScheduleConfig, kind=st.sampled_from(["cosine", "linear", "inverse_sqrt", "constant"]), **common),
    st.builds(ScheduleConfig, kind=st.just("wsd"), shape=st.sampled_from(["linear", "cosine", "sqrt"]), **common),
)


def steepest(schedule: ScheduleConfig, plan: Plan) -> float:
    """The most that the rate can change in one step, by the formulas of the curves."""
    room = max(1, plan.steps - plan.warmup)
    fall = min(room, max(1, round(schedule.decay * plan.steps)))
    of_shape = {"linear": 1 / fall, "cosine": math.pi / 2 / fall, "sqrt": 1 / math.sqrt(fall)}
    of_kind = {
        "constant": 0.0,
        "cosine": math.pi / 2 / max(1, room - 1),
        "linear": 1 / max(1, room - 1),
        # The root falls fastest just after the warm-up.
        "inverse_sqrt": 1 - math.sqrt(max(1, plan.warmup) / (max(1, plan.warmup) + 1)),
        "wsd": of_shape[schedule.shape],
    }
    return max(of_kind[schedule.kind], 1 / max(1, plan.warmup), 1 / plan.rewarm if plan.rewarm else 0)


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
    if schedule.kind == "inverse_sqrt":
        assert last >= schedule.floor or room <= 0
    elif schedule.kind == "constant" or (schedule.kind == "wsd" and not schedule.decay):
        assert room <= 0 or last == 1
    elif room >= 2:
        assert last == schedule.floor


@settings(deadline=None)
@given(schedules, st.integers(2, 200))
def test_it_has_no_jump(schedule: ScheduleConfig, steps: int) -> None:
    """No two neighbours differ by more than the steepest of the curves does in one step."""
    most = steepest(schedule, first_plan(schedule, steps))
    for before, after in pairwise(rates(schedule, steps)):
        assert abs(after - before) <= most + 1e-9


@settings(deadline=None)
@given(schedules, st.integers(1, 200))
def test_what_is_stable_stays_at_the_top(schedule: ScheduleConfig, steps: int) -> None:
    plan = first_plan(schedule, steps)
    stable = stable_until(schedule, plan)
    if schedule.kind == "wsd":
        assert set(rates(schedule, steps)[plan.warmup : stable]) <= {1.0}
        # A floor so near to 1 that a step's fall is less than the last bit of 1 leaves it at 1.
        falls = schedule.floor < 1 - 1e-12
        assert stable == steps or stable == plan.warmup or rate(schedule, stable, steps) < 1 or not falls


def test_a_longer_run_keeps_the_steps_of_a_stable_phase() -> None:
    """What makes wsd worth its name: until the decay begins, a run's rates do not depend on how long it will be."""
    schedule = ScheduleConfig(kind="wsd", warmup=10, decay=0.2)
    assert rates(schedule, 100)[:80] == rates(schedule, 1000)[:80]


@settings(deadline=None)
@given(schedules, st.integers(1, 120), st.integers(1, 120))
def test_two_plans_agree_until_where_they_are_said_to(schedule: ScheduleConfig, before: int, now: int) -> None:
    plan = first_plan(schedule, before)
    longer = replace(plan, steps=now)
    agreed = continues_from(schedule, plan, now)
    assert 0 <= agreed <= min(before, now)
    for step in range(agreed):
        assert planned_rate(schedule, plan, step) == planned_rate(schedule, longer, step)
    if schedule.kind in ("constant", "inverse_sqrt"):
        assert agreed == min(before, now)


def path(schedule: ScheduleConfig, visits: list[tuple[int, int]]) -> tuple[list[float], list[Plan]]:
    """The rates of a run that is asked for ``steps`` when it has made ``made``, again and again: [(made, steps)]."""
    plan = first_plan(schedule, visits[0][1])
    values: list[float] = []
    plans = []
    for number, (made, steps) in enumerate(visits):
        plan = continued(schedule, plan, made, steps)
        plans.append(plan)
        end = visits[number + 1][0] if number + 1 < len(visits) else steps
        values.extend(planned_rate(schedule, plan, step) for step in range(made, end))
    return values, plans


@st.composite
def visits(draw: st.DrawFn) -> list[tuple[int, int]]:
    made, result = 0, []
    for _ in range(draw(st.integers(1, 4))):
        steps = made + draw(st.integers(1, 80))
        result.append((made, steps))
        made = draw(st.integers(made, steps))
    return result


@settings(deadline=None, max_examples=300)
@given(schedules.filter(lambda s: s.rewarm > 0), visits())
def test_a_run_that_goes_on_never_jumps(schedule: ScheduleConfig, visits: list[tuple[int, int]]) -> None:
    values, plans = path(schedule, visits)
    most = max(steepest(schedule, plan) for plan in plans)
    assert all(0 <= value <= 1 for value in values)
    for before, after in pairwise(values):
        assert abs(after - before) <= most + 1e-9


@settings(deadline=None)
@given(schedules, visits())
def test_going_on_with_the_same_number_of_steps_changes_nothing(
    schedule: ScheduleConfig, visits: list[tuple[int, int]]
) -> None:
    _, plans = path(schedule, visits)
    for made in range(plans[-1].begin, plans[-1].steps + 1):
        assert continued(schedule, plans[-1], made, plans[-1].steps) == plans[-1]


def test_more_steps_from_before_the_decay_are_the_longer_run() -> None:
    """wsd: a checkpoint of the stable part is a checkpoint of the longer run, whose warm-up is not made again."""
    schedule = ScheduleConfig(kind="wsd", warmup=0.1, decay=0.2, floor=0)
    plan = first_plan(schedule, 100)
    assert (stable_until(schedule, plan), continues_from(schedule, plan, 400)) == (80, 80)
    longer = continued(schedule, plan, 80, 400)
    assert longer == Plan(steps=400, warmup=10)
    values = [planned_rate(schedule, longer, step) for step in range(400)]
    assert values[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert set(values[10:320]) == {1.0} and values[320:] == pytest.approx([1 - (n + 1) / 80 for n in range(80)])


def test_more_steps_after_the_decay_rewarm() -> None:
    """Worked by hand: left at 0.1 after 100 steps, five steps of rise, then what the plan of 200 says."""
    schedule = ScheduleConfig(kind="wsd", warmup=10, decay=0.2, floor=0.1, rewarm=5)
    plan = continued(schedule, first_plan(schedule, 100), 100, 200)
    assert plan == Plan(steps=200, warmup=10, begin=100, left_at=0.1, rewarm=5)
    values = [planned_rate(schedule, plan, step) for step in range(100, 200)]
    assert values[:5] == pytest.approx([0.28, 0.46, 0.64, 0.82, 1.0])
    assert set(values[5:60]) == {1.0} and values[-1] == 0.1


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_decay_without_a_stable_part_rewarms_to_the_new_plan(kind: str) -> None:
    schedule = ScheduleConfig(kind=kind, warmup=4, floor=0.1, rewarm=0.1)
    first = first_plan(schedule, 50)
    plan = continued(schedule, first, 50, 150)
    assert (plan.begin, plan.left_at, plan.rewarm) == (50, pytest.approx(0.1), 10)
    fresh = rates(schedule, 150)
    values = [planned_rate(schedule, plan, step) for step in range(50, 150)]
    assert values[9:] == fresh[59:]
    slope = (fresh[59] - 0.1) / 10
    assert values[:10] == pytest.approx([0.1 + slope * (n + 1) for n in range(10)])
    # Asked for the first length again within the rewarm, it goes back down from where it stands.
    back = continued(schedule, plan, 53, 60)
    assert back.left_at == pytest.approx(values[2]) and back.begin == 53


@pytest.mark.parametrize("kind", ["constant", "inverse_sqrt"])
def test_a_schedule_that_knows_no_end_just_goes_on(kind: str) -> None:
    schedule = ScheduleConfig(kind=kind, warmup=7, floor=0)
    plan = continued(schedule, first_plan(schedule, 50), 50, 500)
    assert [planned_rate(schedule, plan, step) for step in range(500)] == rates(schedule, 500)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "cosine", "shape": "sqrt"}, "shape is wsd's, and cosine has its own"),
        ({"warmup": float("inf")}, "should be a finite number"),
        ({"kind": "wsd", "shape": "1-sqrt"}, "not one of the choices"),
    ],
)
def test_what_does_not_fit_is_one_sentence(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(ScheduleConfig, values)
