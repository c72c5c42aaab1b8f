"""What the starter of several workers says of how they ended."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ownlm.errors import LostWorker, UserError
from ownlm.train.launch import _wait, run_workers


def process(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


KILLED = "import os; os.kill(os.getpid(), {})"


def test_fewer_than_one_worker_is_refused() -> None:
    with pytest.raises(UserError, match="at least one worker"):
        run_workers(0, [])


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_first_worker_that_a_signal_ended_is_named(number: signal.Signals) -> None:
    with pytest.raises(LostWorker, match=f"ended by {number.name}") as caught:
        _wait([process(KILLED.format(int(number))), process("")], [])
    assert ("out of memory" in str(caught.value.hint)) == (number == signal.SIGKILL)


def test_of_another_worker_the_reason_is_said_beside_what_the_first_says(capfd: pytest.CaptureFixture[str]) -> None:
    assert _wait([process("raise SystemExit(1)"), process(KILLED.format(9))], []) == 1
    assert "a worker was ended by SIGKILL" in capfd.readouterr().err


def test_a_signal_that_was_asked_for_is_no_loss() -> None:
    assert _wait([process(KILLED.format(15)), process(KILLED.format(15))], [15]) == 128 + 15
    assert _wait([process("raise SystemExit(130)"), process(KILLED.format(2))], [2]) == 130


def test_codes_are_those_of_the_workers() -> None:
    assert _wait([process(""), process("")], []) == 0
    assert _wait([process("raise SystemExit(2)"), process("raise SystemExit(2)")], []) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_workers_end_with_a_starter_that_was_killed() -> None:
    code = (
        "import subprocess, sys, time\n"
        "from ownlm.train.launch import _ending_with_this\n"
        "waits = 'import time; print(1, flush=True); time.sleep(600)'\n"
        "subprocess.Popen([sys.executable, '-c', waits], start_new_session=True, preexec_fn=_ending_with_this())\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None and starter.stdout.readline() == b"1\n"
        starter.kill()
        # Its end of the pipe closes with the worker, and not before.
        assert starter.communicate(timeout=60)[0] == b""
