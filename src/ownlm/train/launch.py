"""Several workers on this machine, each a process of its own, as ``torchrun --standalone`` would start them.

One's error is the command's error, word for word and with its exit code; the others are ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from types import FrameType

from ..errors import UserError

# How long workers may take to end by themselves once one of them has failed.
GRACE_SECONDS = 5.0


def run_workers(count: int, arguments: Sequence[str]) -> int:
    """Runs ``python -m ownlm ARGUMENTS`` in ``count`` processes; the exit code is that of the first to fail, or 0.

    Raises:
        UserError: fewer than one worker.
    """
    if count < 1:
        raise UserError(f"at least one worker is needed (got {count})", where="--workers")
    environment = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    command = [sys.executable, "-m", "ownlm", *arguments]
    workers = []
    for rank in range(count):
        own = {**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        # A group of its own: Ctrl-C then reaches the workers once, from here, and not from the terminal as well.
        workers.append(subprocess.Popen(command, env=own, start_new_session=True))
    with _forwarding(workers):
        return _wait(workers)


def _wait(workers: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of all, once they have ended or one has failed and the others had their time."""
    while any(worker.poll() is None for worker in workers) and not any(worker.poll() for worker in workers):
        time.sleep(0.05)
    end = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(max(0.0, end - time.monotonic()))
        if worker.poll() is None:
            worker.kill()
            worker.wait()
    # A user's error is the same on every worker; one that was killed for it says less.
    codes = [worker.returncode for worker in workers if worker.returncode]
    said = next((code for code in codes if code > 0), None)
    return said if said is not None else 128 - codes[0] if codes else 0


@contextlib.contextmanager
def _forwarding(workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Ctrl-C and SIGTERM go to the workers, who save and leave."""

    def forward(number: int, frame: FrameType | None) -> None:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]
