"""The outermost layer: every request gets an id, a line in the log and a count, and every failure the one shape."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import as_api_error, draining
from .metrics import Metrics

# What is answered to the end: by these a supervisor sees how the stopping goes.
WHILE_DRAINING = ("/health", "/ready", "/metrics")

log = logging.getLogger(__name__)


@dataclass
class Traffic:
    """The requests that are being answered, and whether more are taken."""

    in_flight: int = 0
    draining: bool = False


@dataclass
class Notes:
    """What the routes add to a request's line in the log, in ``scope["state"]["notes"]``."""

    id: str
    began: float = field(default_factory=time.monotonic)
    fields: dict[str, Any] = field(default_factory=dict)


class Edge:
    """See the module.

    Args:
        app: everything behind it.
        metrics: where requests are counted.
        traffic: where those under way are.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, traffic: Traffic) -> None:
        self._app, self._metrics, self._traffic = app, metrics, traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        notes = Notes("req_" + secrets.token_hex(12))
        scope.setdefault("state", {})["notes"] = notes
        sent = _Sent(send, notes.id, self._traffic)
        self._traffic.in_flight += 1
        try:
            await self._answer(scope, receive, sent)
        finally:
            self._traffic.in_flight -= 1
            self._note(scope, notes, sent.status)

    async def _answer(self, scope: Scope, receive: Receive, sent: _Sent) -> None:
        if self._traffic.draining and scope["path"] not in WHILE_DRAINING:
            await draining().response()(scope, receive, sent.send)
            return
        try:
            await self._app(scope, receive, sent.send)
        except Exception as error:
            answer = as_api_error(error)
            if answer.status_code == 500 or answer.code == "store_failed":
                log.exception("a request failed")
            if sent.complete:
                return
            if sent.status:
                # It is too late to say so; the connection is cut, and so the client knows that something is missing.
                raise
            await answer.response()(scope, receive, sent.send)

    def _note(self, scope: Scope, notes: Notes, status: int) -> None:
        seconds = time.monotonic() - notes.began
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, _known(scope["method"]), str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        key = scope["state"].get("key")
        fields = {"id": notes.id, "method": scope["method"], "path": scope["path"], "status": status}
        fields |= {"seconds": round(seconds, 4), "key": key.id if key else None, **notes.fields}
        log.info("request", extra={"fields": fields})


class _Sent:
    """Passes an answer on, and remembers its status."""

    def __init__(self, send: Send, request_id: str, traffic: Traffic) -> None:
        self.status, self.complete = 0, False
        self._send, self._id, self._traffic = send, request_id, traffic

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-request-id", self._id.encode())]
            if not any(name == b"x-content-type-options" for name, _ in headers):
                headers.append((b"x-content-type-options", b"nosniff"))
            if self._traffic.draining and (b"connection", b"close") not in headers:
                # Whoever comes back should come to another server.
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)
        self.complete = message["type"] == "http.response.body" and not message.get("more_body", False)


def _known(method: str) -> str:
    """Methods that nobody has heard of must not become labels without end."""
    return method if method in ("GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"
