"""HTTP/1.1 on the wire: bounds on connections, on headers, on how long they and their answers take, and refusals in JSON."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import ApiError

# Bytes of a request's line and headers.
MOST_HEADER_BYTES = 32 * 1024
# A body in so many pieces of less than this on average, in bytes, is no honest one: reading a piece costs the server 0.1 ms.
MOST_PIECES = 4096
SMALLEST_PIECES = 64
# Bytes a second that a client must read of an answer that it keeps waiting in memory.
SLOWEST = 1024
# Connections beyond the limit that are told so; more are cut off.
MOST_REFUSED = 64
# Seconds for which a client that was refused may go on sending what is thrown away.
_FAREWELL = 2


class _Connection(h11.Connection):
    """Refuses bodies in crumbs, each of which costs more than a request."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pieces = self._bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > MOST_PIECES and self._bytes < self._pieces * SMALLEST_PIECES:
                raise h11.RemoteProtocolError("the body comes in too small pieces")
        return event


class Protocol(H11Protocol):
    """uvicorn's protocol, for a stricter world; ``bounded`` makes the class for one server's settings."""

    max_connections = 2048
    read_timeout = 30.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = _Connection(h11.SERVER, MOST_HEADER_BYTES)
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections + MOST_REFUSED:
            # Each that is told why holds a file for a while.
            self._refused = True
            transport.abort()
            return
        if len(self.connections) > self.max_connections:
            self._refuse(ApiError(503, "too many connections are open", code="too_many_connections", retry_after=1))
            return
        self._reading = self.loop.call_later(self.read_timeout, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        super().data_received(data)
        if self._refused or self.transport.is_closing():
            return
        # The body of a request that was refused early is read to its end and thrown away, so that the client comes to
        # read why; otherwise the body's time is the application's to watch.
        unread = self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY
        if self.conn.their_state is not h11.IDLE and not unread:
            self._stop_waiting()
        elif self._reading is None:
            self._reading = self.loop.call_later(self.read_timeout, self._too_slow)

    def pause_writing(self) -> None:
        """More waits to be read than is held back for anyone; whoever does not read it is cut off."""
        super().pause_writing()
        self._watch(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has read most of it."""
        self._stop_watching()
        super().resume_writing()

    def on_response_complete(self) -> None:
        """The answer is written; a connection that is to be closed now may take no longer than any other."""
        super().on_response_complete()
        self._watch_closing()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing came after an answer: closed, once the client has read it."""
        super().timeout_keep_alive_handler()
        self._watch_closing()

    def _watch_closing(self) -> None:
        if self.transport.is_closing() and self._writing is None and self.transport.get_write_buffer_size():
            self._watch(self.transport.get_write_buffer_size())

    def _watch(self, left: int) -> None:
        """Looks again after a while whether what waits to be read, so many bytes, has become less."""
        self._stop_watching()
        self._writing = self.loop.call_later(self.read_timeout, self._check_reader, left)

    def _check_reader(self, before: int) -> None:
        self._writing = None
        left = self.transport.get_write_buffer_size()
        if left and left > before - SLOWEST * self.read_timeout:
            self.transport.abort()
        elif left:
            self._watch(left)

    def _stop_watching(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    def _should_upgrade(self) -> bool:
        # Whoever asks for another protocol is answered in this one, without a line in the log each time.
        return False

    def send_400_response(self, msg: str) -> None:
        """Whatever is not HTTP; also a line or headers beyond ``MOST_HEADER_BYTES``."""
        self._refuse(
            ApiError(400, f"this is not valid HTTP, or its headers take more than {MOST_HEADER_BYTES:,} bytes")
        )

    def _refuse(self, error: ApiError) -> None:
        response = error.response()
        headers = [*response.raw_headers, (b"connection", b"close")]
        self._refused = True
        self._stop_waiting()
        # An answer may be under way already; the connection is closed then.
        with contextlib.suppress(h11.LocalProtocolError):
            start = h11.Response(status_code=error.status_code, headers=headers, reason=b"")
            for event in (start, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            if self.transport.can_write_eof():
                # Closed with data unread, the connection would be reset, and the client never read why.
                self.transport.write_eof()
                # Not closed but cut off: one that reads nothing would stay for ever.
                self._reading = self.loop.call_later(_FAREWELL, self.transport.abort)
                return
        self.transport.close()

    def _stop_waiting(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(ApiError(408, "the request's headers did not come in time", code="timeout"))


def bounded(max_connections: int, read_timeout: float) -> type[Protocol]:
    """The protocol with a server's own limits."""
    return type("BoundedProtocol", (Protocol,), {"max_connections": max_connections, "read_timeout": read_timeout})
