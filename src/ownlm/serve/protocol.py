"""HTTP/1.1 on the wire: bounds on connections, on headers and on how long they take, and refusals in JSON."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import ApiError

# Bytes of a request's line and headers.
MOST_HEADER_BYTES = 32 * 1024
# Seconds for which a client that was refused may go on sending what is thrown away.
_FAREWELL = 2


class Protocol(H11Protocol):
    """uvicorn's protocol, for a stricter world; ``bounded`` makes the class for one server's settings."""

    max_connections = 2048
    read_timeout = 30.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._reading: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(ApiError(503, "too many connections are open", code="too_many_connections", retry_after=1))
            return
        self._reading = self.loop.call_later(self.read_timeout, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
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
                self._reading = self.loop.call_later(_FAREWELL, self.transport.close)
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
