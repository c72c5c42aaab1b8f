"""A request's fields as the engine's options."""

from __future__ import annotations

from typing import Any

from ..engine.requests import SamplingOptions
from ..errors import ConfigError
from .errors import ApiError
from .schemas.chat import ChatRequest, JSONObjectFormat, JSONSchemaFormat, NamedTool, Tool
from .schemas.common import Sampling
from .tools import call_schema

# Fields whose name and meaning are the engine's too.
_SAME = (
    "temperature",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "n",
    "ignore_eos",
    "presence_penalty",
    "frequency_penalty",
)


def sampling_options(request: Sampling, *, max_tokens: int, logprobs: int | None, **more: Any) -> SamplingOptions:
    """The options of a request; what it leaves out is as OpenAI documents it.

    Args:
        request: what came.
        max_tokens: the most that an answer has.
        logprobs: see SamplingOptions.
        more: further options.

    Raises:
        ApiError: 400; a value the engine refuses.
    """
    values: dict[str, Any] = {name: value for name in _SAME if (value := getattr(request, name)) is not None}
    if isinstance(values.get("stop"), list):
        values["stop"] = tuple(values["stop"])
    if request.top_p == 0:
        # No fewer than one token: the likeliest.
        values["top_k"] = 1
    elif request.top_p is not None:
        values["top_p"] = request.top_p
    if request.logit_bias:
        values["logit_bias"] = {int(token): bias for token, bias in request.logit_bias.items()}
    try:
        return SamplingOptions(max_tokens=max_tokens, logprobs=logprobs, **values, **more)
    except ConfigError as error:
        raise ApiError(400, error.message, param=error.where, code="invalid_value") from None


def offered_tools(request: ChatRequest) -> list[Tool]:
    """The tools that the model may call."""
    tools = [] if request.tool_choice == "none" else request.tools or []
    if isinstance(request.tool_choice, NamedTool):
        named = request.tool_choice.function.name
        return [tool for tool in tools if tool.function.name == named]
    return tools


def constraint_options(request: ChatRequest) -> dict[str, Any]:
    """The option that holds a chat's answer to what the request wants: a call, or JSON; none where it is free."""
    if request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool):
        schema = call_schema([tool.model_dump() for tool in offered_tools(request)])
        return {"constraint": _schema(schema)}
    if isinstance(request.response_format, JSONObjectFormat):
        return {"constraint": _schema({"type": "object"})}
    if isinstance(request.response_format, JSONSchemaFormat):
        return {"constraint": _schema(request.response_format.json_schema.schema_ or {})}
    return {}


def _schema(schema: dict[str, Any]) -> Any:
    raise ApiError(400, "constrained answers are not available", param="response_format")
