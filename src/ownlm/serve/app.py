"""The application: the routes, and the layers around them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from .. import __version__
from ..errors import OwnlmError
from . import login, pages
from .bounds import Bounds
from .edge import Edge
from .errors import ApiError, answer_error, validation_error
from .leaving import ClientLeft
from .routes import adapters, chat, completions, embeddings, feedback, models, operations
from .security import Security
from .serving import Serving

ABOUT = (
    "The API that clients of OpenAI's speak, for a model of your own. Every error is `{error: {message, type, param, "
    "code}}`. What OpenAI documents and means nothing here, such as `user` or `service_tier`, is taken and ignored; an "
    "unknown name is refused."
)


def make_app(serving: Serving) -> ASGIApp:
    """The application of a server, with everything around it."""
    app = FastAPI(title="ownlm", version=__version__, description=ABOUT, docs_url=None, redoc_url=None)
    app.state.serving = serving
    for route in (chat, completions, embeddings, models, adapters, feedback, operations):
        app.include_router(route.router)
    if serving.keys is not None:
        app.include_router(login.router)
        _describe_keys(app)
    app.include_router(pages.router)
    for kind in (ApiError, HTTPException, OwnlmError, ClientLeft, Exception):
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    config = serving.config
    inner = Bounds(app, max_body=config.max_body, read_timeout=config.read_timeout)
    guarded = Security(inner, keys=serving.keys, hosts=config.hosts, refusal=login.refusal)
    return Edge(guarded, metrics=serving.metrics, traffic=serving.traffic)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return validation_error(error.errors(), error.body).response()


def _describe_keys(app: FastAPI) -> None:
    """Says in the description of the API that a key is needed, and for what not."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        described = make()
        described.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
        for path in ("/health", "/ready"):
            described["paths"][path]["get"]["security"] = []
        return described

    app.openapi = openapi  # type: ignore[method-assign]
