"""One thread that owns an engine, and the asyncio side of it: requests go in, their events come out as they happen.

The thread takes what was asked between two steps, so an abort takes hold at once: no later than the step that is being
computed. With nothing to do it sleeps. Whatever fails in a step fails the requests that the step was for; the thread
goes on, and only an engine that cannot even be emptied is given up (``broken``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from ..errors import OwnlmError
from .engine import Engine
from .requests import Event, SamplingOptions

T = TypeVar("T")

# The longest that anyone is told to wait before trying again, in seconds.
LONGEST_WAIT = 60
# How much of a new measurement enters the time that an answer takes: about the last ten count.
_WEIGHT = 0.1

log = logging.getLogger(__name__)


class Busy(OwnlmError):
    """As many answers as may wait are waiting; ``retry_after`` seconds later there may be room."""

    type = "busy"

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many requests are waiting", hint=f"try again in {retry_after} s")
        self.retry_after = retry_after


class Draining(OwnlmError):
    """No new work is taken: what was accepted is being finished."""

    type = "draining"

    def __init__(self) -> None:
        super().__init__("the server is stopping, and takes no new work", hint="try again shortly")


class DeadlineExceeded(OwnlmError):
    """A request took longer than it may."""

    type = "deadline"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the request took longer than {seconds:g} s", hint="ask for fewer tokens")


class EngineFailed(OwnlmError):
    """The engine failed at work: at this request's, or for good."""

    type = "engine"


class EngineWorker:
    """Runs an engine in a thread of its own; its methods belong to asyncio code, of any number of event loops.

    Args:
        engine: from now on only this thread touches it; without one there are only calls.
        max_pending: how many answers may be accepted and unfinished. A request for several is taken whole when it fits,
            or when nothing else is there.
    """

    def __init__(self, engine: Engine | None, *, max_pending: int = 256) -> None:
        self.engine, self.max_pending = engine, max_pending
        self._changed = threading.Condition()
        self._commands: deque[Callable[[], None]] = deque()
        self._calls: deque[Callable[[Exception | None], None]] = deque()
        self._streams: dict[int, Stream] = {}
        self._pending = 0
        self._draining = self._closing = False
        self._broken: Exception | None = None
        self._seconds_each, self._last_end = 0.0, time.monotonic()
        self._thread = threading.Thread(target=self._run, name="ownlm-engine", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Answers that were accepted and have not ended."""
        return self._pending

    @property
    def running(self) -> int:
        """Answers that are being worked on."""
        return self.engine.running if self.engine else 0

    @property
    def waiting(self) -> int:
        """Answers that wait for a place."""
        return max(0, self._pending - self.running)

    @property
    def writing(self) -> bool:
        """Whether any answer has not ended."""
        return bool(self._streams)

    @property
    def draining(self) -> bool:
        """Whether new work is refused."""
        return self._draining

    @property
    def broken(self) -> Exception | None:
        """Why the engine was given up, if it was."""
        return self._broken

    async def submit(
        self,
        prompts: Sequence[Sequence[int]],
        options: SamplingOptions,
        *,
        timeout: float | None = None,
        adapter: str | None = None,
    ) -> Stream:
        """Accepts a request of one or several prompts, and returns its events as they come.

        Args:
            prompts: ids of each.
            options: for all of them.
            timeout: seconds that the whole of it may take, waiting included; it then ends with DeadlineExceeded.
            adapter: the name of the one that answers; None is the model alone.

        Raises:
            UserError: a prompt is empty, does not fit, or holds ids that are no tokens; nothing is accepted then.
            Busy: too much is waiting.
            Draining: the worker is closed, or will be.
            EngineFailed: the engine was given up.
        """
        self._reserve(len(prompts) * options.n)
        stream = Stream(self, prompts, options, timeout, adapter)
        try:
            if not self._command(stream._begin):
                self._release(len(prompts) * options.n)
                raise Draining
            await stream._begun
        except BaseException:
            # Whoever waited has gone, or a prompt is wrong: an abort comes after the submission it undoes.
            stream.close()
            raise
        return stream

    async def call(self, function: Callable[[], T]) -> T:
        """Runs a function on the engine's thread, between two steps; at most one between any two, so keep it short.

        Raises:
            Busy, Draining, EngineFailed: as ``submit``; and whatever the function raises.
        """
        self._reserve(1)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run(refused: Exception | None) -> None:
            try:
                if future.cancelled():
                    return
                if refused is not None:
                    raise refused
                result = function()
            except Exception as error:
                _tell(loop, _fail, future, error)
            else:
                _tell(loop, _settle, future, result)
            finally:
                self._release(1)

        with self._changed:
            if self._closing:
                self._pending -= 1
                raise Draining
            self._calls.append(run)
            self._changed.notify()
        return await future

    def drain(self) -> None:
        """Refuses new work from now on; what was accepted goes on to its end."""
        self._draining = True

    def close(self) -> None:
        """Aborts everything and ends the thread; waits for the step that is being computed."""
        self._draining = True
        with self._changed:
            self._closing = True
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _reserve(self, answers: int) -> None:
        with self._changed:
            if self._broken is not None:
                raise EngineFailed("the engine has failed and was given up", hint="restart the server")
            if self._draining:
                raise Draining
            if self._pending and self._pending + answers > self.max_pending:
                raise Busy(self._retry_after())
            self._pending += answers

    def _release(self, answers: int) -> None:
        with self._changed:
            self._pending -= answers

    def _retry_after(self) -> int:
        """About when the next answer will have ended, in seconds."""
        return min(LONGEST_WAIT, max(1, math.ceil(self._seconds_each)))

    def _command(self, command: Callable[[], None]) -> bool:
        """Lets the thread do something; says whether it will, which it does unless it is ending."""
        with self._changed:
            if not self._closing:
                self._commands.append(command)
                self._changed.notify()
            return not self._closing

    # What follows runs on the engine's thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._commands or self._calls or self._closing or self._has_work()):
                    self._changed.wait()
                commands, closing = list(self._commands), self._closing
                self._commands.clear()
                calls = [
                    self._calls.popleft() for _ in range(len(self._calls) if closing else min(1, len(self._calls)))
                ]
            for command in commands:
                try:
                    command()
                except Exception:
                    log.exception("a command to the engine failed")
            for call in calls:
                call(Draining() if closing else None)
            if closing:
                self._hand_out(self._give_up(Draining()))
                return
            if self._has_work():
                self._hand_out(self._step())

    def _has_work(self) -> bool:
        return self._broken is None and self._holds_some()

    def _holds_some(self) -> bool:
        return self.engine is not None and bool(self.engine.running or self.engine.waiting)

    def _step(self) -> list[Event]:
        assert self.engine is not None
        try:
            return self.engine.step()
        except Exception as error:
            log.exception("a step of the engine failed")
            return self._give_up(error)

    def _give_up(self, error: Exception) -> list[Event]:
        """Fails everything that is being answered; an engine that keeps some of it is broken."""
        events = []
        for request, stream in list(self._streams.items()):
            self._abort(request)
            events += [Event(request, i, finish_reason="error", error=error) for i in stream._unended(request)]
        if self._holds_some():
            log.error("the engine cannot be emptied, and is given up")
            self._broken = error
        return events

    def _abort(self, request: int) -> None:
        assert self.engine is not None
        with contextlib.suppress(Exception):
            self.engine.abort(request)

    def _hand_out(self, events: Sequence[Event]) -> None:
        """Takes events to the streams they belong to, one call for each event loop."""
        shares: dict[asyncio.AbstractEventLoop, list[tuple[Stream, Event]]] = {}
        for event in events:
            stream = self._streams.get(event.request)
            if stream is None:
                continue
            shares.setdefault(stream._loop, []).append((stream, event))
            if event.finish_reason is not None:
                self._ended(stream, event)
        for loop, share in shares.items():
            _tell(loop, _put_all, share)

    def _ended(self, stream: Stream, event: Event) -> None:
        self._release(1)
        now = time.monotonic()
        self._seconds_each += _WEIGHT * (min(now - self._last_end, LONGEST_WAIT) - self._seconds_each)
        self._last_end = now
        stream._open[event.request].discard(event.index)
        if not stream._open[event.request]:
            del self._streams[event.request]


class Stream:
    """The events of one request; ``async for`` gives them, and leaving early is said with ``close``.

    Attributes:
        prompt_tokens: how many tokens each prompt has.
    """

    def __init__(
        self,
        worker: EngineWorker,
        prompts: Sequence[Sequence[int]],
        options: SamplingOptions,
        timeout: float | None,
        adapter: str | None,
    ) -> None:
        self.prompt_tokens = [len(prompt) for prompt in prompts]
        self._worker, self._prompts, self._options, self._adapter = worker, prompts, options, adapter
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[None] = self._loop.create_future()
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        self._left = len(prompts) * options.n
        self._closed = False
        # On the engine's thread: which answers of which request have not ended, and where its prompt stands.
        self._open: dict[int, set[int]] = {}
        self._places: dict[int, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            self._timer = self._loop.call_later(timeout, self._expire, timeout)

    def choice(self, event: Event) -> int:
        """Which of all the request's answers an event is of: those to the first prompt come first."""
        return self._places[event.request] * self._options.n + event.index

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._closed or not self._left:
            raise StopAsyncIteration
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        if event.finish_reason is not None:
            self._left -= 1
            if not self._left:
                self.close()
        return event

    def close(self) -> None:
        """Nobody wants more of it: what has not ended is aborted. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._left:
            self._worker._command(self._abort)

    def unread_tokens(self) -> int:
        """How many tokens have come that nobody took; they are gone then."""
        count = 0
        while not self._events.empty():
            event = self._events.get_nowait()
            count += not isinstance(event, Exception) and event.token is not None
        return count

    def _expire(self, seconds: float) -> None:
        if not self._closed:
            self._worker._command(self._abort)
            self._events.put_nowait(DeadlineExceeded(seconds))

    # What follows runs on the engine's thread.

    def _begin(self) -> None:
        worker = self._worker
        assert worker.engine is not None, "there is an engine to submit to"
        try:
            for place, prompt in enumerate(self._prompts):
                request = worker.engine.submit(prompt, self._options, self._adapter)
                self._places[request] = place
                self._open[request] = set(range(self._options.n))
                worker._streams[request] = self
        except Exception as error:
            self._abort()
            worker._release((len(self._prompts) - len(self._open)) * self._options.n)
            _tell(self._loop, _fail, self._begun, error)
        else:
            _tell(self._loop, _settle, self._begun, None)

    def _unended(self, request: int) -> list[int]:
        return sorted(self._open[request])

    def _abort(self) -> None:
        for request, indexes in self._open.items():
            if self._worker._streams.pop(request, None) is not None:
                self._worker._abort(request)
                self._worker._release(len(indexes))


def _tell(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
    """Calls a function in an event loop, unless that has ended meanwhile."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _put_all(share: Sequence[tuple[Stream, Event]]) -> None:
    for stream, event in share:
        stream._events.put_nowait(event)
