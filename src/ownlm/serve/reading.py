"""A request's body as JSON, read strictly: what would be read differently by others, or break what follows, is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from .errors import ApiError

# Names in all objects of a body. Each unknown one makes an error of its own, of which only the first is told.
MOST_NAMES = 50_000
# Only bodies with one of these are looked through value by value: an escaped NUL, or a number that may be infinite.
_SUSPECT = re.compile(rb"\\u0000|\d[eE]\+?\d{3}|\d{300}")


class StrictRoute(APIRoute):
    """A route whose JSON is read by ``read_json``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return handle


class _StrictRequest(Request):
    async def json(self) -> Any:
        return read_json(await self.body())


def read_json(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ApiError: 400; it is not UTF-8 or not JSON, nests deeper than 200, has NaN or Infinity or a number beyond a
            double's range, half of a surrogate pair, or a NUL character, or more than 50,000 names.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
    if _SUSPECT.search(body):
        _check(value)
    # Colons may stand in texts as well, but there are no fewer than names.
    if body.count(b":") > MOST_NAMES and _names(value) > MOST_NAMES:
        raise ApiError(400, f"the body has more than {MOST_NAMES:,} names", code="invalid_value")
    return value


def _names(value: Any) -> int:
    """How many names all objects within a value have."""
    if isinstance(value, dict):
        return len(value) + sum(map(_names, value.values()))
    return sum(map(_names, value)) if isinstance(value, list) else 0


def _check(value: Any) -> None:
    """Its depth is bounded by the reader's."""
    if isinstance(value, str) and "\0" in value:
        raise ApiError(400, "a text holds a NUL character", code="invalid_json")
    if isinstance(value, float) and not math.isfinite(value):
        raise ApiError(400, "a number is too large", code="invalid_json")
    if isinstance(value, dict):
        for key, inner in value.items():
            _check(key)
            _check(inner)
    elif isinstance(value, list):
        for inner in value:
            _check(inner)
