"""Progress: a bar for a person, sparse lines for a log, and nothing on stdout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ownlm.progress import REDRAW_SECONDS, Progress, say

TASK = """
import time
from ownlm.progress import Progress, say
with Progress("Training", total=40, unit="steps") as progress:
    for step in range(40):
        progress.update(step + 1, note=f"loss {3 - step / 40:.3f}")
        time.sleep(0.02)
        if step == 20:
            say("step 20 saved")
print("the answer")
"""


def run_on_terminal(tmp_path: Path) -> tuple[str, str]:
    """Runs the task with stderr on a terminal of its own and stdout in a file; returns both."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    ours, theirs = pty.openpty()
    with (tmp_path / "stdout").open("w") as stdout:
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
        child = subprocess.Popen([sys.executable, "-c", TASK], stdout=stdout, stderr=theirs, env=environment)
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
        assert child.wait() == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()), (tmp_path / "stdout").read_text()


def test_a_terminal_gets_a_bar_with_rate_and_time_left(tmp_path: Path):
    shown, stdout = run_on_terminal(tmp_path)
    assert stdout == "the answer\n"
    assert re.search(r"Training .*\d+/40 [\d.]+ steps/s [\d.]+ s left loss \d\.\d+", shown)
    assert re.search(r"40/40 [\d.]+ steps/s +loss 2\.025", shown)
    assert "step 20 saved\r\n" in shown


def test_a_log_gets_nothing_from_a_short_task(capfd: pytest.CaptureFixture[str]):
    with Progress("Reading", total=1000, unit="files") as progress:
        for _ in range(1000):
            progress.advance()
    assert progress.done == 1000
    assert capfd.readouterr() == ("", "")


def test_a_log_gets_a_line_now_and_then(capfd: pytest.CaptureFixture[str]):
    with Progress("Reading", total=4, unit="files", every=0.0) as progress:
        progress.update(2, note="a.txt")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert re.fullmatch(r"Reading 2/4 files · [\d.,]+ files/s · [\d.]+ s left · a.txt\n", shown.err)


def test_lines_can_be_left_out(capfd: pytest.CaptureFixture[str]):
    with Progress("Reading", total=4, every=None) as progress:
        progress.update(4)
    assert capfd.readouterr() == ("", "")


def test_what_was_done_before_does_not_count_in_the_rate():
    progress = Progress("Training", total=100, unit="steps", start=90)
    progress._began = time.monotonic() - 10
    progress.done = 95
    assert progress.line().startswith("Training 95/100 steps · 0.500 steps/s · 10 s left")


def test_updates_between_two_redraws_draw_nothing(capfd: pytest.CaptureFixture[str]):
    with Progress("Reading", every=REDRAW_SECONDS * 1000) as progress:
        for number in range(100):
            progress.update(number)
    assert capfd.readouterr().err == ""


def test_messages_go_to_stderr(capfd: pytest.CaptureFixture[str]):
    say("hello")
    assert capfd.readouterr() == ("", "hello\n")
