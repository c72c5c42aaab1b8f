"""Worker processes: results, errors, documents that hang or crash, and a parent that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from ownlm.data.workers import Beat, Task, WorkerFailed, run_tasks
from ownlm.errors import ConfigError, DataError


def visit(payload: dict[str, Any], lost: dict[int, str], beat: Beat) -> dict[str, Any]:
    """Goes through documents: some hang, some crash, some raise."""
    seen = []
    for number, what in enumerate(payload["documents"]):
        beat(number)
        if number in lost:
            continue
        if what == "hang":
            time.sleep(600)
        if what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "wrong":
            raise DataError("this is wrong", where="file:3", hint="mend it")
        if what == "bug":
            raise KeyError("nothing of that name")
        seen.append(number)
    beat(-1)
    if payload.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"seen": seen, "lost": lost, "process": os.getpid()}


def run(payloads: list[dict[str, Any]], workers: int = 2, seconds: float = 30) -> dict[int, Any]:
    return dict(run_tasks(visit, [Task(n, payload) for n, payload in enumerate(payloads)], workers, seconds))


def test_every_task_gives_its_result_whatever_the_number_of_workers() -> None:
    payloads = [{"documents": ["fine"] * n} for n in range(5)]
    for workers in (1, 2):
        results = run(payloads, workers)
        assert [results[n]["seen"] for n in range(5)] == [list(range(n)) for n in range(5)]
        assert os.getpid() not in {result["process"] for result in results.values()}
    assert run([]) == {}


def test_a_document_that_hangs_is_left_out_and_named() -> None:
    results = run([{"documents": ["fine", "hang", "fine"]}, {"documents": ["fine"]}], seconds=1)
    assert results[0]["seen"] == [0, 2]
    assert results[0]["lost"] == {1: "time-limit"}
    assert results[1]["seen"] == [0]


def test_documents_that_crash_their_process_are_left_out_one_by_one() -> None:
    results = run([{"documents": ["crash", "fine", "crash"]}])
    assert results[0]["seen"] == [1]
    assert results[0]["lost"] == {0: "crashed", 2: "crashed"}


def test_an_error_of_the_users_comes_back_as_it_was_raised() -> None:
    with pytest.raises(DataError, match="this is wrong") as raised:
        run([{"documents": ["wrong"]}])
    assert (raised.value.where, raised.value.hint, raised.value.exit_code) == ("file:3", "mend it", 2)
    assert not isinstance(raised.value, ConfigError)


def test_an_error_of_ours_comes_back_with_its_traceback() -> None:
    with pytest.raises(WorkerFailed, match=r"^something unexpected .*KeyError: .nothing of that name.") as raised:
        run([{"documents": ["bug"]}])
    assert "\n" not in raised.value.message and "Traceback" in str(raised.value.__cause__)


def test_a_process_that_dies_between_documents_is_an_error_and_not_tried_for_ever() -> None:
    with pytest.raises(WorkerFailed, match="ended from outside"):
        run([{"documents": ["fine"], "die": True}])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys, time
            from pathlib import Path
            from ownlm.data.workers import Task, run_tasks

            def wait(payload, lost, beat):
                Path(payload).write_text(str(os.getpid()))
                time.sleep(600)

            if __name__ == "__main__":
                list(run_tasks(wait, [Task(n, f"{sys.argv[1]}/{n}") for n in range(2)], 2, 600))
            """
        )
    )
    parent = subprocess.Popen([sys.executable, str(script), str(tmp_path)])
    files = [tmp_path / "0", tmp_path / "1"]
    while not all(file.exists() and file.read_text() for file in files):
        assert parent.poll() is None
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    children = [Path("/proc") / file.read_text() for file in files]
    deadline = time.monotonic() + 30
    while any(child.exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(child.exists() for child in children)


def killed_once(payload: str, lost: dict[int, str], beat: Beat) -> dict[int, str]:
    """Is killed from outside at the second document, or between documents, the first time."""
    marker, place = Path(payload), int(Path(payload).name)
    beat(place)
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    beat(-1)
    return lost


def test_a_worker_that_something_else_kills_costs_no_document(tmp_path: Path) -> None:
    tasks = [Task(n, str(tmp_path / str(place))) for n, place in enumerate((2, -1))]
    assert dict(run_tasks(killed_once, tasks, 2, 30)) == {0: {}, 1: {}}


def dies_anywhere(payload: str, lost: dict[int, str], beat: Beat) -> dict[int, str]:
    """Dies at another place each time."""
    tries = Path(payload)
    with tries.open("a") as file:
        file.write("x")
    beat(tries.stat().st_size)
    if len(lost) < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return lost


def test_a_worker_that_always_dies_elsewhere_is_not_tried_for_ever(tmp_path: Path) -> None:
    ((_, lost),) = run_tasks(dies_anywhere, [Task(0, str(tmp_path / "tries"))], 1, 30)
    assert lost == {4: "crashed", 5: "crashed"}


def out_of_memory(payload: None, lost: dict[int, str], beat: Beat) -> None:
    raise MemoryError


def test_too_little_memory_is_said_in_a_sentence() -> None:
    with pytest.raises(WorkerFailed, match="not enough memory") as raised:
        list(run_tasks(out_of_memory, [Task(0, None)], 1, 30))
    assert "--workers 1" in str(raised.value.hint)
