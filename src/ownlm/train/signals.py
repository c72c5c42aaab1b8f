"""Ctrl-C and SIGTERM: while training, finish the step, save, leave; before and after it, leave at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

from ..errors import Terminated
from ..progress import say


@contextlib.contextmanager
def leaving_at_once(
    message: str = "stopped; all that is trained is saved", hint: str = "the same command goes on"
) -> Iterator[None]:
    """Inside the block SIGTERM comes out as an error, as Ctrl-C does by itself, so that nothing is left half written.

    Args:
        message: what the error says.
        hint: what to do then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ended = Terminated(message, hint=hint)
    asked = []

    def leave(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        raise ended

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except Exception:
        if asked:
            # Compiled code that it came out in may have made another error of it.
            raise ended from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class Signals:
    """Inside the block, the first SIGINT or SIGTERM is only noted; a second Ctrl-C interrupts at once.

    Args:
        quiet: says nothing of it, as where several processes get the same signal and one of them speaks.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.received: str | None = None
        self._quiet = quiet
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        # Only the main thread may handle signals; in another, whoever started it decides.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        if self._quiet:
            return
        say("finishing the step and saving (Ctrl-C again to leave at once)")
