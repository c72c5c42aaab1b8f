"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math

from .config import ScheduleConfig


def warmup_steps(schedule: ScheduleConfig, steps: int) -> int:
    """The steps of linear rise."""
    return round(schedule.warmup * steps) if schedule.warmup < 1 else round(schedule.warmup)


def rate(schedule: ScheduleConfig, step: int, steps: int) -> float:
    """The learning rate of ``step`` (from 0) in a run of ``steps``, as a share of the highest.

    The first step already moves: warm-up gives 1/w, 2/w, ..., 1 over w steps. The last step of a decay ends at
    ``floor`` exactly.
    """
    warmup = warmup_steps(schedule, steps)
    if step < warmup:
        return (step + 1) / warmup
    if schedule.kind == "constant":
        return 1.0
    if schedule.kind == "cosine":
        progress = (step - warmup) / max(1, steps - 1 - warmup)
        return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    begin = steps - max(1, round(schedule.decay * steps)) if schedule.decay else steps
    # A decay that would begin inside the warm-up waits for its end, so that the rate never jumps.
    begin = max(begin, warmup)
    if step < begin:
        return 1.0
    return 1.0 - (1 - schedule.floor) * (step - begin + 1) / (steps - begin)
