"""Checkpoints written in the background: the run goes on while the disk takes them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundWriter:
    """Runs one write at a time; what goes wrong comes out of the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def submit(self, write: Callable[[], None]) -> None:
        """Begins a write, after the one before it.

        Raises:
            StorageError: the one before it failed.
        """
        self.wait()
        self._writing = self._pool.submit(write)

    def wait(self) -> None:
        """Until nothing is being written.

        Raises:
            StorageError: it failed.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Lets the last write end; its failure was, or will be, another error's."""
        self._pool.shutdown(wait=True)
