"""Work for a client that may leave: it ends the moment the connection does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..engine.worker import DeadlineExceeded

T = TypeVar("T")

# What others note for a client that closed the connection before its answer came; nobody reads it.
CLIENT_LEFT = 499


class ClientLeft(Exception):
    """The connection was closed by the client."""


async def unless_left(receive: Receive, work: Awaitable[T]) -> T:
    """Awaits ``work``, whose request has been read, and cancels it when the client closes the connection.

    Raises:
        ClientLeft: it did.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        # Until both have ended, so that what the work held is given back by then.
        await asyncio.gather(working, leaving, return_exceptions=True)


async def in_time(work: Awaitable[T], seconds: float) -> T:
    """Awaits ``work`` for so long and no longer.

    Raises:
        DeadlineExceeded: it takes longer.
    """
    try:
        async with asyncio.timeout(seconds) as limit:
            return await work
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded(seconds) from None


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events (WHATWG HTML, 9.2), each flushed as it comes.

    Args:
        events: what is sent, in bytes.
        close: called in any case, also when not one event was asked for.
        seconds: how long it may take; a client that does not read is cut off then.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], close: Callable[[], None], seconds: float) -> None:
        # Proxies would keep events back for a while otherwise.
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events, self._close, self._seconds = events, close, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with contextlib.suppress(ClientLeft):
                async with asyncio.timeout(self._seconds):
                    await unless_left(receive, self._send(send))
        finally:
            self._close()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for event in self._events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
