"""Every refusal in the one shape that OpenAI's clients read: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import http
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import HTTPException
from starlette.exceptions import HTTPException as AnyHTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..engine.worker import Busy, DeadlineExceeded, Draining, EngineFailed
from ..errors import OwnlmError, StorageError, UserError
from .leaving import CLIENT_LEFT, ClientLeft

# What OpenAI calls each kind of refusal.
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# How long a client is asked to wait for another server to take the place of one that stops, in seconds.
RESTART = 5

log = logging.getLogger(__name__)


class ApiError(HTTPException):
    """A request that is refused, or that failed.

    Args:
        status: of HTTP.
        message: one sentence.
        param: the field it is about.
        code: a word that programs look at.
        retry_after: seconds after which it may be tried again.
        headers: further ones.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        more = {"Retry-After": str(retry_after)} if retry_after is not None else {}
        super().__init__(status, message, {**(headers or {}), **more})
        self.message, self.param, self.code = message, param, code

    def body(self) -> dict[str, Any]:
        """The error as an object."""
        kind = _TYPES.get(self.status_code, "invalid_request_error" if self.status_code < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """The error as an answer."""
        return JSON(self.body(), self.status_code, self.headers)


class JSON(Response):
    """An answer in JSON, in UTF-8; text that is none (half of a surrogate pair) is escaped."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(to_json(content), status_code, headers)


def to_json(content: Any) -> bytes:
    """Compact JSON in UTF-8."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def as_api_error(error: Exception) -> ApiError:
    """Whatever went wrong, as what the client is told; of our own mistakes it learns nothing."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, Busy):
        return ApiError(429, str(error), code="queue_full", retry_after=error.retry_after)
    if isinstance(error, Draining):
        return draining()
    if isinstance(error, DeadlineExceeded):
        # A client that tried again at once would only take as long once more.
        return ApiError(504, str(error), code="deadline_exceeded", headers={"x-should-retry": "false"})
    if isinstance(error, EngineFailed):
        return ApiError(503, str(error), code="engine_failed", retry_after=RESTART)
    if isinstance(error, StorageError):
        # Which disk or database that is, is the operator's to know.
        return ApiError(503, "the server's store does not answer", code="store_failed", retry_after=RESTART)
    if isinstance(error, UserError):
        return ApiError(400, _sentence(error), param=error.where)
    if isinstance(error, AnyHTTPException):
        return _http_error(error)
    return ApiError(500, "the server failed at this request", code="internal_error")


def draining() -> ApiError:
    """The answer to new work while the server stops."""
    headers = {"Connection": "close"}
    message = "the server is stopping, and takes no new work"
    return ApiError(503, message, code="draining", retry_after=RESTART, headers=headers)


def validation_error(errors: Sequence[Mapping[str, Any]], body: Any) -> ApiError:
    """What pydantic found wrong with a request, as one sentence about one field; values are not repeated in it.

    Args:
        errors: as pydantic has them.
        body: the request's.
    """
    # Of the kinds that may stand somewhere, the one that came furthest says most.
    first = max(errors, key=lambda error: (error["loc"][:2] == errors[0]["loc"][:2], len(error["loc"])))
    param = _param(first["loc"], body, missing=first["type"] == "missing")
    kind = str(first["type"])
    if kind == "extra_forbidden":
        return ApiError(400, f"unknown field '{param}'", param=param, code="unknown_field")
    if kind == "missing" and param:
        return ApiError(400, f"'{param}' is missing", param=param, code="missing_field")
    if not param and kind in ("missing", "model_attributes_type", "model_type", "dict_type"):
        message = "the body must be an object of JSON, sent with Content-Type: application/json"
        return ApiError(400, message, code="invalid_value")
    message = str(first["msg"]).removeprefix("Value error, ")
    if kind == "none_required":
        message = "this is not supported here, and may only be null"
    return ApiError(400, f"'{param}': {message}" if param else message, param=param, code="invalid_value")


def _param(place: Sequence[Any], body: Any, missing: bool) -> str | None:
    """Where an error is, as the client wrote it: pydantic also names which of several kinds it tried."""
    named: list[str] = []
    value = body
    steps = place[1:] if place[:1] == ("body",) else place
    for number, part in enumerate(steps):
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and part in range(len(value))):
            value = value[part]
        elif place[:1] == ("body",) and not (missing and number == len(steps) - 1):
            continue
        named.append(str(part))
    return ".".join(named) or None


def _http_error(error: AnyHTTPException) -> ApiError:
    status = error.status_code
    if status == 404:
        return ApiError(404, "there is nothing at this address", code="unknown_url", headers=error.headers)
    if status == 405:
        return ApiError(405, "this address does not take that method", code="method_not_allowed", headers=error.headers)
    message = str(error.detail or http.HTTPStatus(status).phrase)
    return ApiError(status, message, headers=error.headers)


def _sentence(error: OwnlmError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


async def answer_error(request: Request, error: Exception) -> Response:
    """The handler of errors that are raised in routes."""
    if isinstance(error, ClientLeft):
        return Response(status_code=CLIENT_LEFT)
    if isinstance(error, StorageError):
        log.error("the store failed", exc_info=error)
    return as_api_error(error).response()
