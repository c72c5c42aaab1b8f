"""Worker processes that survive a document that hangs or crashes a parser.

Parsers of HTML and PDF are C and C++ code that can loop or crash on damaged input, where no signal handler of Python
runs. So every shard is worked on in a process of its own that says which document it is at; one that stays at a
document for too long, or dies at one twice, is replaced, and its shard is done again without that document.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from ..errors import OwnlmError

# How often a worker's place is looked at, in seconds.
LOOK = 0.2
# A document that crashes its worker, or hangs, is left out; more than this in one shard, and something else is wrong.
MOST_LOST = 1000
# How often a worker may die over one task at places where it did not die again.
MOST_CHANCES = 3

Beat = Callable[[int], None]
Run = Callable[[Any, dict[int, str], Beat], Any]


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        number: tells tasks apart.
        payload: what the worker function gets.
    """

    number: int
    payload: Any


class WorkerFailed(OwnlmError):
    """A worker process has died, or met an error that is ours, whose traceback is its cause."""

    type = "worker"


class _Traceback(Exception):
    """The traceback of an error in another process, as it was printed there."""

    def __str__(self) -> str:
        return "\n" + self.args[0]


def run_tasks(function: Run, tasks: Sequence[Task], workers: int, seconds: float) -> Iterator[tuple[int, Any]]:
    """Runs ``function(payload, lost, beat)`` for every task, in worker processes, and yields results as they come.

    Args:
        function: importable by name. It calls ``beat(place)`` before each document, with a number that tells the place,
            and ``beat(-1)`` where nothing can hang; ``lost`` maps places to "time-limit" or "crashed": it must leave
            these out.
        tasks: what to do.
        workers: how many processes.
        seconds: the time one document may take.

    Yields:
        (task number, result), in the order in which they are done.

    Raises:
        OwnlmError: what a worker raised; WorkerFailed for any other exception in one.
    """
    waiting = list(reversed(tasks))
    with contextlib.ExitStack() as stack:
        crew = [_Worker(function) for _ in range(min(workers, len(tasks)))]
        for worker in crew:
            stack.callback(worker.stop)
        lost: dict[int, dict[int, str]] = {}
        died: dict[int, list[int]] = {}
        while waiting or any(worker.task for worker in crew):
            for worker in crew:
                if worker.task is None and waiting:
                    task = waiting.pop()
                    worker.give(task, lost.get(task.number, {}))
            ready = wait([worker.pipe for worker in crew if worker.task], timeout=LOOK)
            for worker in crew:
                if worker.task is None:
                    continue
                if worker.pipe in ready:
                    answer = worker.take()
                    if answer is not None:
                        yield answer
                        continue
                    reason = "crashed"
                elif worker.stalled(seconds):
                    reason = "time-limit"
                else:
                    continue
                task, place = worker.task, worker.place
                worker.replace()
                if reason == "time-limit" or not _by_chance(died.setdefault(task.number, []), place):
                    _lose(lost.setdefault(task.number, {}), place, reason)
                waiting.append(task)


def _by_chance(died: list[int], place: int) -> bool:
    """Whether a worker's death may have nothing to do with where it was, as when something else kills it: then the task
    is done again as it is. What dies twice at one place, or all too often, dies of what it reads."""
    if place in died or len(died) >= MOST_CHANCES:
        return False
    died.append(place)
    return True


def _lose(lost: dict[int, str], place: int, reason: str) -> None:
    if place < 0 or place in lost or len(lost) >= MOST_LOST:
        raise WorkerFailed(
            "a worker process was ended from outside, or has no memory left",
            hint="use fewer workers (--workers 1) or close other programs",
        )
    lost[place] = reason


class _Worker:
    """One process, the pipe to it, and where it is."""

    def __init__(self, function: Run) -> None:
        self._function = function
        self.task: Task | None = None
        self._start()

    def _start(self) -> None:
        # A fresh interpreter: a fork of a process with threads (Arrow's, BLAS's) may hang.
        context = multiprocessing.get_context("spawn")
        # The place, and when it was reached by the clock that all processes of a machine share.
        self._place: Any = context.RawArray(ctypes.c_double, 2)
        self._place[0] = -1
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(self._function, theirs, self._place), daemon=True)
        with _deaf_to_interrupts():
            self._process.start()
        theirs.close()

    @property
    def place(self) -> int:
        return int(self._place[0])

    def give(self, task: Task, lost: dict[int, str]) -> None:
        self.task = task
        self._place[0] = -1
        # A worker that died while idle is noticed when its answer is taken.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send((task.payload, lost))

    def take(self) -> tuple[int, Any] | None:
        """The answer, or None where the process has died."""
        assert self.task is not None
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            return None
        number, self.task = self.task.number, None
        if kind == "done":
            return number, value
        raise _error(kind, value)

    def stalled(self, seconds: float) -> bool:
        return self._place[0] >= 0 and time.monotonic() - self._place[1] > seconds

    def replace(self) -> None:
        self.stop()
        self.task = None
        self._start()

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process started in here never sees Ctrl-C, which goes to the whole group, not even before its first line."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It is started with the first process, and lets the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _error(kind: str, value: Any) -> Exception:
    if kind == "failed":
        last = value.strip().split("\n")[-1]
        message = f"something unexpected went wrong in a worker process: {last}"
        failed = WorkerFailed(message, hint="run the same command with --debug for details")
        failed.__cause__ = _Traceback(value)
        return failed
    error_class, message, where, hint = value
    error = error_class.__new__(error_class)
    OwnlmError.__init__(error, message, where=where, hint=hint)
    return error


def _serve(function: Run, pipe: Connection, place: Any) -> None:
    """What a worker process does: tasks, one after another, until the pipe closes."""
    # Ctrl-C goes to the whole group; the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    _single_threaded()

    def beat(number: int) -> None:
        place[1] = time.monotonic()
        place[0] = number

    while True:
        try:
            payload, lost = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer: tuple[str, Any] = ("done", function(payload, lost, beat))
        except OwnlmError as error:
            answer = ("error", (type(error), error.message, error.where, error.hint))
        except MemoryError:
            hint = "use fewer workers (--workers 1), or lower limits.max_document_bytes"
            answer = ("error", (WorkerFailed, "a worker process had not enough memory", None, hint))
        except BaseException:
            answer = ("failed", traceback.format_exc())
        beat(-1)
        try:
            pipe.send(answer)
        except (BrokenPipeError, OSError):
            return


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone, even by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _single_threaded() -> None:
    """One worker, one core: the pool is the parallelism."""
    os.environ.update(POLARS_MAX_THREADS="1", RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    with contextlib.suppress(ImportError):
        import pyarrow as pa

        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
