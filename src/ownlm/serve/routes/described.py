"""What the description of the API says of every route."""

from __future__ import annotations

from typing import Any

from ..schemas.common import ErrorBody

_WORDS = {
    400: "A wrong value",
    401: "No key, or a wrong one",
    403: "The key's role does not suffice, or the host is unknown",
    404: "An unknown model or address",
    408: "The request came too slowly",
    413: "The body is too large",
    414: "The address is too long",
    429: "Too many requests, too much waiting, or a quota that is used up",
    431: "Too many or too long headers",
    500: "The server failed",
    503: "The server is stopping",
    504: "The request took too long",
}
Responses = dict[int | str, dict[str, Any]]
ERRORS: Responses = {status: {"model": ErrorBody, "description": words} for status, words in _WORDS.items()}


def streamed(what: str) -> Responses:
    """The answer of a route that may stream."""
    # No type: tools disagree whether it would be that of the whole text or of one event.
    schema = {"schema": {"description": f"Server-sent events: {what}, then [DONE]"}}
    return {200: {"description": "The answers", "content": {"text/event-stream": schema}}}
