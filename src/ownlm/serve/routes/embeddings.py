"""``/v1/embeddings``."""

from __future__ import annotations

import asyncio
import base64
import math
import struct
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from pydantic_core import to_json
from starlette.responses import Response

from ...engine.worker import Busy, Draining, EngineFailed
from ..errors import ApiError
from ..leaving import unless_left
from ..reading import StrictRoute
from ..schemas.others import EmbeddingRequest, Embeddings, examples
from ..serving import notes_of, serving_of
from .described import ERRORS

router = APIRouter(route_class=StrictRoute, tags=["embeddings"])

# Tokens of all texts of one request, as OpenAI has it.
MOST_TOKENS = 300_000


@router.post(
    "/v1/embeddings",
    response_model=Embeddings,
    responses=ERRORS,
    openapi_extra=examples(model="MODEL", input=["A text", "Another"]),
)
async def embed(request: Request, body: EmbeddingRequest) -> Response:
    """Turn texts into vectors of length 1, whose products tell how near the texts are."""
    made = await unless_left(request.receive, _embed(request, body))
    # Numbers by the million: the standard library would keep everybody waiting for a second.
    return Response(to_json(made), media_type="application/json")


async def _embed(request: Request, body: EmbeddingRequest) -> dict[str, Any]:
    serving = serving_of(request)
    served, quota = serving.find(body.model, "embeddings"), serving.quota(request)
    width = served.model.config.width
    if body.dimensions not in (None, width):
        message = f"this model's vectors have {width} dimensions, and no others can be had"
        raise ApiError(400, message, param="dimensions", code="invalid_value")
    documents = [await served.frame(one) if isinstance(one, str) else one for one in _inputs(body)]
    tokens = sum(map(len, documents))
    if tokens > MOST_TOKENS:
        message = f"the texts have {tokens:,} tokens, and a request may have {MOST_TOKENS:,}"
        raise ApiError(400, message, param="input", code="invalid_value")
    served.check_documents(documents)
    await quota.begin(tokens)
    notes_of(request).fields |= {"model": served.name, "prompt_tokens": tokens}
    try:
        async with asyncio.timeout(serving.config.timeout):
            vectors = await served.embed(documents)
    except (Busy, Draining, EngineFailed):
        await asyncio.to_thread(quota.cancel)
        raise
    except TimeoutError:
        headers = {"x-should-retry": "false"}
        raise ApiError(504, "the texts took too long", code="deadline_exceeded", headers=headers) from None
    serving.metrics.prompt_tokens.inc(tokens)
    shape = _base64 if body.encoding_format == "base64" else list
    if not all(math.isfinite(vector[0]) for vector in vectors):
        raise ApiError(500, "the model gave no finite vector", code="engine_error")
    data = [{"object": "embedding", "index": i, "embedding": shape(vector)} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": served.name, "usage": usage}


def _inputs(body: EmbeddingRequest) -> list[str | list[int]]:
    given = body.input
    if isinstance(given, str):
        return [given]
    if isinstance(given[0], int):
        return [[token for token in given if isinstance(token, int)]]
    return [one for one in given if not isinstance(one, int)]


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
