"""How much a request may be: its headers, and its body while it is being read."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ApiError

MOST_HEADERS = 100
LONGEST_HEADER = 16 * 1024
LONGEST_PATH = 2048


class Bounds:
    """Refuses what is too large, whatever it says of its own size, and what comes too slowly.

    Args:
        app: what is behind it.
        max_body: bytes.
        read_timeout: seconds for the whole body.
    """

    def __init__(self, app: ASGIApp, *, max_body: int, read_timeout: float) -> None:
        self._app, self._max_body, self._read_timeout = app, max_body, read_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._check_headers(scope)
        body = _Body(receive, self._max_body, self._read_timeout)
        await self._app(scope, body.receive, send)

    def _check_headers(self, scope: Scope) -> None:
        headers = scope["headers"]
        if len(headers) > MOST_HEADERS or any(len(value) > LONGEST_HEADER for _, value in headers):
            raise ApiError(431, "the request has too many headers, or one that is too long", code="headers_too_large")
        if len(scope["raw_path"]) + len(scope["query_string"]) > LONGEST_PATH:
            raise ApiError(414, "the request's address is too long", code="uri_too_long")
        names = {name for name, _ in headers}
        if b"content-length" in names and b"transfer-encoding" in names:
            # Whoever stands before this server may have believed the other one (RFC 9112, 6.3).
            message = "the request says its length in two ways"
            raise ApiError(400, message, code="ambiguous_length", headers={"Connection": "close"})
        for name, value in headers:
            # Said to be too large, it need not be read to be refused; nobody is bound by what is said.
            if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > self._max_body):
                raise too_large(self._max_body)


class _Body:
    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive, self._most, self._seconds = receive, most, seconds
        self._size, self._whole = 0, False
        self._until: float | None = None

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            headers = {"Connection": "close"}
            raise ApiError(408, "the request's body did not come in time", code="timeout", headers=headers) from None
        self._size += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._size > self._most:
            raise too_large(self._most)
        return message


def too_large(most: int) -> ApiError:
    """The answer to a body beyond the limit.

    The connection stays, so that a client that is still sending comes to read it (protocol.py bounds for how long).
    """
    return ApiError(413, f"the request's body is larger than {most:,} bytes", code="request_too_large")
