"""``/v1/load_lora_adapter``, ``/v1/unload_lora_adapter`` and ``/v1/lora_adapters``, for the role ``admin``."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from ..errors import JSON, ApiError
from ..lora import AdapterFolder
from ..reading import StrictRoute
from ..schemas.others import AdapterUnloaded, LoadAdapter, LoraAdapters, Model, UnloadAdapter, examples
from ..security import needs
from ..serving import notes_of, serving_of
from .described import ERRORS
from .models import card_of

router = APIRouter(route_class=StrictRoute, tags=["adapters"], dependencies=[Depends(needs("admin"))])


def _folder(request: Request) -> AdapterFolder:
    """The folder that adapters are loaded from.

    Raises:
        ApiError: 404; there is none.
    """
    folder = serving_of(request).adapter_folder
    if folder is None:
        raise ApiError(404, "this server loads no adapters; see ownlm serve --lora-folder", code="adapters_off")
    return folder


Folder = Annotated[AdapterFolder, Depends(_folder)]


@router.post(
    "/v1/load_lora_adapter",
    response_model=Model,
    responses=ERRORS,
    openapi_extra=examples(lora_name="support", lora_path="support/adapter"),
)
async def load_adapter(request: Request, body: LoadAdapter, folder: Folder) -> Response:
    """Load an adapter from the server's folder of them; clients then choose it as a model of its name."""
    served = await folder.load(body.lora_name, body.lora_path, replace=bool(body.load_inplace))
    notes_of(request).fields |= {"model": served.name, "release": served.release}
    return JSON(card_of(served))


@router.post(
    "/v1/unload_lora_adapter",
    response_model=AdapterUnloaded,
    responses=ERRORS,
    openapi_extra=examples(lora_name="support"),
)
async def unload_adapter(request: Request, body: UnloadAdapter, folder: Folder) -> Response:
    """Take an adapter away; answers under way go on with it."""
    await folder.unload(body.lora_name)
    notes_of(request).fields |= {"model": body.lora_name}
    return JSON({"id": body.lora_name, "object": "model", "deleted": True})


@router.get("/v1/lora_adapters", response_model=LoraAdapters, responses=ERRORS)
async def list_adapters(request: Request, folder: Folder) -> Response:
    """The adapters that are loaded, and the paths of those that could be."""
    loaded: list[dict[str, Any]] = [
        {"lora_name": one.name, "lora_path": one.path, "release": one.release}
        for one in serving_of(request).served.adapted.values()
    ]
    return JSON({"object": "list", "data": loaded, "available": await asyncio.to_thread(folder.available)})
