"""What supervisors ask: whether the server lives, whether it is ready, and what it counts."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from ..errors import JSON
from ..metrics import CONTENT_TYPE
from ..schemas.others import Health
from ..serving import serving_of
from .described import Responses

router = APIRouter(tags=["operations"])

_NOT: Responses = {503: {"model": Health, "description": "It is not"}}


# Balancers ask with HEAD.
@router.head("/health", include_in_schema=False)
@router.get("/health", response_model=Health, responses=_NOT)
async def health(request: Request) -> Response:
    """Whether the process is well; one that is not should be started anew."""
    serving = serving_of(request)
    if serving.served.worker.broken is not None:
        return JSON({"status": "failed"}, 503)
    return JSON({"status": "draining" if serving.traffic.draining else "ok"})


@router.head("/ready", include_in_schema=False)
@router.get("/ready", response_model=Health, responses=_NOT)
async def ready(request: Request) -> Response:
    """Whether new work is taken."""
    serving = serving_of(request)
    if serving.served.worker.broken is not None:
        return JSON({"status": "failed"}, 503)
    if serving.traffic.draining:
        return JSON({"status": "draining"}, 503)
    return JSON({"status": "ok"})


@router.get(
    "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
)
async def metrics(request: Request) -> Response:
    """Counters and times, as Prometheus reads them."""
    return Response(serving_of(request).metrics.text(), headers={"Content-Type": CONTENT_TYPE})
