"""``/v1/feedback``."""

from __future__ import annotations

import asyncio
import functools

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...errors import UserError
from ..errors import JSON, ApiError
from ..reading import StrictRoute
from ..schemas.others import FeedbackAnswer, FeedbackRequest, examples
from ..serving import key_of, serving_of
from .described import ERRORS

router = APIRouter(route_class=StrictRoute, tags=["feedback"])


@router.post(
    "/v1/feedback",
    response_model=FeedbackAnswer,
    responses=ERRORS,
    openapi_extra=examples(id="chatcmpl-...", rating="down", reason="Too long", correction="Yes."),
)
async def give_feedback(request: Request, body: FeedbackRequest) -> Response:
    """Say what you think of an answer; said again with the same key, the last word counts."""
    store, key = serving_of(request).store, key_of(request)
    if store is None:
        message = "this server keeps no conversations; see ownlm serve --keep-conversations"
        raise ApiError(404, message, code="no_store")
    add = functools.partial(
        store.feedback.add,
        body.id,
        body.rating,
        answer=body.index,
        reason=body.reason,
        correction=body.correction,
        key_id=key.id if key else "",
    )
    try:
        kept = await asyncio.to_thread(add)
    except UserError:
        message = f"no answer {body.index} of '{body.id}' is kept here; see ownlm serve --keep-conversations"
        raise ApiError(404, message, param="id", code="unknown_answer") from None
    return JSON(
        {
            "id": kept.conversation_id,
            "index": kept.answer,
            "rating": kept.rating,
            "reason": kept.reason,
            "correction": kept.correction,
            "created": int(kept.created.timestamp()),
        }
    )
