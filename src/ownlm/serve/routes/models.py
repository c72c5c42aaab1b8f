"""``/v1/models``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..errors import JSON
from ..reading import StrictRoute
from ..schemas.others import Model, Models
from ..served import Served
from ..serving import serving_of
from .described import ERRORS

router = APIRouter(route_class=StrictRoute, tags=["models"])


@router.get("/v1/models", response_model=Models, responses=ERRORS)
async def list_models(request: Request) -> Response:
    """The model that is served, and the same with each of its adapters."""
    served = serving_of(request).served
    return JSON({"object": "list", "data": [card_of(one) for one in (served, *served.adapted.values())]})


@router.get("/v1/models/{model:path}", response_model=Model, responses=ERRORS)
async def show_model(request: Request, model: str) -> Response:
    """One model; its name may have slashes in it."""
    return JSON(card_of(serving_of(request).find(model)))


def card_of(served: Served) -> dict[str, Any]:
    """What is told of a model."""
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "ownlm",
        "parent": served.parent,
        "context": served.context,
        "release": served.release,
        "capabilities": served.capabilities,
    }
