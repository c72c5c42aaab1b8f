"""Learning-rate schedules: pure functions of the step, and what going on after their end means.

A run that is asked for more steps (or fewer) than it was planned with goes on like this:

| kind | the steps that do not depend on how many there will be | going on after them |
|---|---|---|
| constant, inverse_sqrt | all | nothing changes |
| wsd | warm-up and stable part | from a checkpoint made before the decay began, as if planned so from the start; without one, rewarm |
| cosine, linear | warm-up | rewarm |

To rewarm is to go in a straight line from the rate that the run stood at to what the new plan says, and to follow the
new plan from there on (Ibrahim et al. 2024): the rate never jumps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from .config import ScheduleConfig


@dataclass(frozen=True)
class Plan:
    """What decides the rates of a run besides its schedule; it is saved with the run.

    Attributes:
        steps: updates in the whole run.
        warmup: steps of linear rise, as they were when the run began: more steps do not warm it up again.
        begin: the first step of a rewarm; 0 where there was none.
        left_at: the rate before that step, as a share of the highest.
        rewarm: the steps that the rewarm takes.
    """

    steps: int
    warmup: int
    begin: int = 0
    left_at: float = 0.0
    rewarm: int = 0


def first_plan(schedule: ScheduleConfig, steps: int) -> Plan:
    """The plan of a run that begins."""
    return Plan(steps, warmup_steps(schedule, steps))


def warmup_steps(schedule: ScheduleConfig, steps: int) -> int:
    """The steps of linear rise."""
    return _steps(schedule.warmup, steps)


def rate(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """The learning rate of ``step`` (from 0) in a run of ``steps``, as a share of the highest.

    The first step already moves: warm-up gives 1/w, 2/w, ..., 1 over w steps. The last step of a decay ends at
    ``floor`` exactly.
    """
    return planned_rate(schedule, first_plan(schedule, steps), step)


def planned_rate(schedule: ScheduleConfig, plan: Plan, step: int) -> float:
    """The learning rate of ``step`` (from 0) under a plan, as a share of the highest; of steps from ``begin`` on."""
    done = step - plan.begin + 1
    if done >= plan.rewarm:
        return _rate(schedule, plan, step)
    goal = _rate(schedule, plan, plan.begin + plan.rewarm - 1)
    return plan.left_at + (goal - plan.left_at) * done / plan.rewarm


def stable_until(schedule: ScheduleConfig, plan: Plan) -> int:
    """How many of a plan's first steps do not depend on the number of steps: after them its decay begins."""
    if schedule.kind in ("constant", "inverse_sqrt"):
        return plan.steps
    # The step after the warm-up is at the top whatever the decay.
    stable = _decay_begin(schedule, plan) if schedule.kind == "wsd" else plan.warmup + 1
    if plan.begin + plan.rewarm > stable:
        # The rewarm leads into the decay, so its slope depends on it.
        stable = min(stable, plan.begin)
    return min(stable, plan.steps)


def continues_from(schedule: ScheduleConfig, plan: Plan, steps: int) -> int:
    """The last step that ``plan`` agrees on with the same plan for ``steps``: how many of their first rates are equal.

    A checkpoint made after at most so many steps is a checkpoint of both.
    """
    if steps == plan.steps:
        return steps
    return min(stable_until(schedule, plan), stable_until(schedule, replace(plan, steps=steps)))


def continued(schedule: ScheduleConfig, plan: Plan, made: int, steps: int) -> Plan:
    """The plan of a run that has made ``made`` steps under ``plan`` and goes on to ``steps`` in all.

    Where both agree until here, nothing is rewarmed.
    """
    if steps == plan.steps:
        return plan
    if made == 0:
        return first_plan(schedule, steps)
    if made <= continues_from(schedule, plan, steps):
        return replace(plan, steps=steps)
    rewarm = min(max(1, _steps(schedule.rewarm, steps - made)), max(0, steps - made))
    return Plan(steps, plan.warmup, made, planned_rate(schedule, plan, made - 1), rewarm)


def _rate(schedule: ScheduleConfig, plan: Plan, step: int) -> float:
    """The rate by the schedule alone."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "inverse_sqrt":
        return max(schedule.floor, math.sqrt(max(1, plan.warmup) / (step + 1)))
    if schedule.kind == "wsd":
        begin = _decay_begin(schedule, plan)
        if step < begin:
            return 1.0
        shape, progress = schedule.shape, (step - begin + 1) / max(1, plan.steps - begin)
    else:
        shape, progress = schedule.kind, (step - plan.warmup) / max(1, plan.steps - 1 - plan.warmup)
    return schedule.floor + (1 - schedule.floor) * _fall(shape, min(progress, 1.0))


def _fall(shape: str, progress: float) -> float:
    """From 1 to 0 as ``progress`` goes from 0 to 1."""
    if shape == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1 - (math.sqrt(progress) if shape == "sqrt" else progress)


def _decay_begin(schedule: ScheduleConfig, plan: Plan) -> int:
    """The first step of the decay of wsd."""
    decay = max(1, round(schedule.decay * plan.steps)) if schedule.decay else 0
    # A decay that would begin inside the warm-up waits for its end, so that the rate never jumps.
    return max(plan.steps - decay, plan.warmup)


def _steps(value: float, of: int) -> int:
    """A number of steps, or, below 1, a share of ``of``."""
    return round(value * of) if value < 1 else round(value)
