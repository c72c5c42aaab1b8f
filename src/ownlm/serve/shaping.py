"""A request's fields as the engine's options."""

from __future__ import annotations

from typing import Any

from ..engine.constraints import Choice, Constraint, Grammar, JsonObject, JsonSchema, Regex
from ..engine.requests import SamplingOptions
from ..errors import ConfigError, UserError
from .errors import ApiError
from .schemas.chat import (
    ChatRequest,
    ChoiceFormat,
    GrammarFormat,
    JSONObjectFormat,
    JSONSchemaFormat,
    RegexFormat,
    ResponseFormat,
    Tool,
)
from .schemas.common import Sampling
from .served import Served
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
    "min_tokens",
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
        values["logit_bias"] = tuple((int(token), bias) for token, bias in request.logit_bias.items())
    if request.stop_token_ids:
        values["stop_token_ids"] = tuple(request.stop_token_ids)
    try:
        return SamplingOptions(max_tokens=max_tokens, logprobs=logprobs, **values, **more)
    except ConfigError as error:
        raise ApiError(400, error.message, param=error.where, code="invalid_value") from None


def offered_tools(request: ChatRequest) -> list[Tool]:
    """The tools that the model may call."""
    chosen = request.chosen_tools
    return [tool for tool in request.tools or () if chosen is None or tool.function.name in chosen]


async def constraint_of(served: Served, request: ChatRequest) -> Constraint | None:
    """What a chat's answer must be, compiled: a call where one is required, or what the response format says.

    Raises:
        ApiError: 400; it cannot be compiled, or nothing fits it.
        Busy: too many wait for theirs to be compiled.
    """
    field = "tools" if request.must_call else "response_format"
    try:
        constraint = _call(request) if request.must_call else _format(request.response_format)
        if constraint is not None:
            await served.compile(constraint)
    except UserError as error:
        text = f"{error.message} ({error.hint})" if error.hint else error.message
        raise ApiError(400, text, param=field, code="invalid_constraint") from None
    return constraint


def _call(request: ChatRequest) -> Constraint:
    return JsonSchema(call_schema([tool.model_dump(exclude_none=True) for tool in offered_tools(request)]))


def _format(wanted: ResponseFormat | None) -> Constraint | None:
    if isinstance(wanted, JSONObjectFormat):
        return JsonObject()
    if isinstance(wanted, JSONSchemaFormat):
        return JsonSchema(wanted.json_schema.schema_ or {})
    if isinstance(wanted, RegexFormat):
        return Regex(wanted.pattern)
    if isinstance(wanted, ChoiceFormat):
        return Choice(wanted.choices)
    return Grammar(wanted.grammar) if isinstance(wanted, GrammarFormat) else None
