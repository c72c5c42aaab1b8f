"""Looks at a model one after another. What is due is computed from the store, so a restart neither skips nor doubles one."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from ..errors import OwnlmError
from ..train.signals import leaving_at_once
from ..units import format_seconds
from .look import Look, Say, Watched, last_made, look, tasks_ready

# A machine that slept wakes up to look at the clock at least so often, in seconds.
LONGEST_SLEEP = 30.0
ENDED = ("stopped; every evaluation so far is in the store", "the same command goes on when the next one is due")


def seconds_left(watched: Watched) -> float:
    """How long until the next look: what is left of ``every`` since the store's last evaluation; 0 where there is none."""
    last = last_made(watched)
    if last is None:
        return 0.0
    return max(0.0, (last + timedelta(seconds=watched.every) - datetime.now(UTC)).total_seconds())


def watch(watched: Watched, say: Say, seen: Callable[[Look], None]) -> None:
    """Looks whenever that is due, until a signal.

    What is wrong at the first look is an error; later the model may be missing for a while, as when it is being replaced, or the
    store away: that is said, and the next look comes in its time.

    Args:
        watched: what is watched.
        say: tells the user something.
        seen: is handed what each look found.

    Raises:
        Terminated: SIGTERM.
        KeyboardInterrupt: Ctrl-C.
        UserError: of the first look.
    """
    with leaving_at_once(*ENDED):
        tasks_ready(watched.asked)
        left, first = seconds_left(watched), True
        while True:
            if left:
                say(f"{watched.asked.model}: the next look is in {format_seconds(left)}")
                _sleep(left)
            try:
                found = look(watched, say)
                seen(found)
                left = seconds_left(watched) if found.evaluated else watched.every
            except OwnlmError as error:
                if first:
                    raise
                say(f"this look failed: {error}")
                left = watched.every
            first = False


def _sleep(seconds: float) -> None:
    """By the clock on the wall, which goes on while a machine sleeps."""
    end = time.time() + seconds
    while (left := end - time.time()) > 0:
        time.sleep(min(left, LONGEST_SLEEP))
