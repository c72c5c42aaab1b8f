"""Progress of a long task, and messages to the user: always on stderr, a bar only where a person is watching."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from .units import format_rate, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

# A bar is redrawn at most this often, so that an update in a tight loop costs one comparison.
REDRAW_SECONDS = 0.2


def say(message: str) -> None:
    """One line for the user, on stderr; above the bar where one is being drawn."""
    print(message, file=sys.stderr, flush=True)


class Progress:
    """How far a task is, with its rate and the time left.

    On a terminal this is a bar. Elsewhere, in a log or a pipe, it is one line every ``every`` seconds, so a short task
    prints nothing.

        with Progress("Training", total=500, unit="steps") as progress:
            for step in range(500):
                progress.update(step + 1, note=f"loss {loss:.3f}")

    Args:
        title: what is being done.
        total: how much there is, or None where that is not known.
        unit: what is counted, in the plural.
        every: seconds between the lines where there is no terminal; None for no lines.
        start: how much was done before, as when a run resumes; it does not count in the rate.
        hidden: shows nothing, as where several processes do the same and one of them speaks.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        *,
        unit: str = "items",
        every: float | None = 30.0,
        start: int = 0,
        hidden: bool = False,
    ) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = start
        self._start = start
        self._note = ""
        self._every = None if hidden else every
        self._hidden = hidden
        self._began = time.monotonic()
        self._next = float("inf")
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        self._began = time.monotonic()
        if sys.stderr.isatty() and not self._hidden:
            self._open_bar()
            self._next = self._began
        elif self._every is not None:
            self._next = self._began + self._every
        return self

    def update(self, done: int, note: str | None = None) -> None:
        """``done`` units are done in all; ``note`` is shown beside the bar until the next one."""
        self.done = done
        if note is not None:
            self._note = note
        if time.monotonic() >= self._next:
            self._show()

    def advance(self, amount: int = 1, note: str | None = None) -> None:
        """``amount`` more units are done."""
        self.update(self.done + amount, note)

    def line(self) -> str:
        """The state in one line: ``Training 120/500 steps · 2.4 steps/s · 2 min 38 s left · loss 3.21``."""
        seconds = time.monotonic() - self._began
        rate = (self.done - self._start) / seconds if seconds > 0 else 0.0
        of = f"/{self.total:,}" if self.total is not None else ""
        parts = [f"{self.title} {self.done:,}{of} {self.unit}", format_rate(rate, self.unit)]
        if self.total is not None and rate > 0 and self.done < self.total:
            parts.append(f"{format_seconds((self.total - self.done) / rate)} left")
        if self._note:
            parts.append(self._note)
        return " · ".join(parts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._show()
            self._bar.stop()
            self._bar = None
        self._next = float("inf")

    def _show(self) -> None:
        now = time.monotonic()
        if self._bar is None:
            say(self.line())
            # Lines keep their distance from each other however late this one came.
            self._next = now + (self._every or 0.0)
            return
        assert self._task is not None
        rate = (self.done - self._start) / max(now - self._began, 1e-9)
        left = ""
        if self.total is not None and rate > 0 and self.done < self.total:
            left = f"{format_seconds((self.total - self.done) / rate)} left"
        speed = format_rate(rate, self.unit)
        self._bar.update(self._task, completed=self.done, rate=speed, left=left, note=self._note)
        self._next = now + REDRAW_SECONDS

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as RichProgress

        counted = [BarColumn(bar_width=28), MofNCompleteColumn()] if self.total is not None else [SpinnerColumn()]
        columns = [TextColumn("{task.description}"), *counted]
        columns += [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("rate", "left", "note")]
        # Only stderr is caught, to keep messages above the bar; stdout belongs to the command's answer.
        self._bar = RichProgress(
            *columns, console=Console(stderr=True), refresh_per_second=4, redirect_stdout=False, redirect_stderr=True
        )
        self._task = self._bar.add_task(self.title, total=self.total, completed=self.done, rate="", left="", note="")
        self._bar.start()
