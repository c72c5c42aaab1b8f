"""Several workers on this machine, each a process of its own, as ``torchrun --standalone`` would start them.

One's error is the command's error, word for word and with its exit code; the others are ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from ..errors import LostWorker, UserError
from ..progress import say

# Of linux/prctl.h.
PR_SET_PDEATHSIG = 1

# How long workers may take to end by themselves once one of them has failed.
GRACE_SECONDS = 5.0


def run_workers(count: int, arguments: Sequence[str]) -> int:
    """Runs ``python -m ownlm ARGUMENTS`` in ``count`` processes; the exit code is that of the first to fail, or 0.

    Raises:
        UserError: fewer than one worker.
        LostWorker: one was ended by a signal.
    """
    if count < 1:
        raise UserError(f"at least one worker is needed (got {count})", where="--workers")
    environment = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    command = [sys.executable, "-m", "ownlm", *arguments]
    workers: list[subprocess.Popen[bytes]] = []
    with _forwarding(workers) as asked:
        for rank in range(count):
            own = {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # A group of its own: Ctrl-C then reaches the workers once, from here, and not from the terminal as well.
            process = subprocess.Popen(command, env=own, start_new_session=True, preexec_fn=_ending_with_this())
            workers.append(process)
        if asked:
            # It came before all of them were there.
            for worker in workers:
                worker.send_signal(asked[0])
        return _wait(workers, asked)


def _ending_with_this() -> Callable[[], object] | None:
    """What a new process does before all else to get SIGTERM when this one ends, however it ends, even by SIGKILL."""
    if sys.platform != "linux":
        return None
    # Loaded here: after a fork as little as possible is to happen.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(workers: Sequence[subprocess.Popen[bytes]], asked: Sequence[int]) -> int:
    """The exit code of all, once they have ended or one has failed and the others had their time.

    Raises:
        LostWorker: a signal that was not ``asked`` for ended one, and the first, who speaks for all, cannot say so.
    """
    while any(worker.poll() is None for worker in workers) and not any(worker.poll() for worker in workers):
        time.sleep(0.05)
    end, ended = time.monotonic() + GRACE_SECONDS, set()
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, end - time.monotonic()))
        if worker.poll() is None:
            ended.add(worker.pid)
            worker.kill()
            worker.wait()
    # A user's error is the same on every worker; one that was killed for it says less.
    codes = [worker.returncode for worker in workers if worker.returncode]
    said = next((code for code in codes if code > 0), None)
    own = [-worker.returncode for worker in workers if worker.returncode < 0 and worker.pid not in ended]
    if lost := next((number for number in own if number not in asked), None):
        problem = _lost(lost)
        if workers[0].returncode < 0:
            raise problem
        # The first has said that another was lost, and not why.
        say(f"{problem.message} ({problem.hint})")
        return said or 1
    return said if said is not None else 128 - codes[0] if codes else 0


def _lost(number: int) -> LostWorker:
    """A worker that a signal ended, as an error."""
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    # What the system ends for want of memory, it ends by this one.
    memory = "the machine may be out of memory: use fewer workers or a smaller micro_batch_tokens; "
    hint = (memory if name == "SIGKILL" else "") + "the same command goes on from the last checkpoint"
    return LostWorker(f"a worker was ended by {name}", where="--workers", hint=hint)


@contextlib.contextmanager
def _forwarding(workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM go to the workers, who save and leave; gives the signals that came."""
    asked: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]
