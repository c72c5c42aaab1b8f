"""What every request has in common: strict types, known names, bounds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

# Bounds that keep one request from being many; what a model can read is bounded by its context anyway.
MOST_ANSWERS = 128
MOST_STOPS = 16
LONGEST_STOP = 1000
MOST_BIASES = 1024
LONGEST_NAME = 256
# What 64 bits hold.
INT64 = 2**63

ShortText = Annotated[str, Field(max_length=LONGEST_NAME)]
Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]


class Strict(BaseModel):
    """A part of a request: no coercion, no unknown names.

    Lists have ``fail_fast``: the first wrong element is told. A million errors would take a gigabyte.
    """

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True, protected_namespaces=())


class Ignored(Strict):
    """What clients of OpenAI's send and has no meaning here; taken, so that they need not be changed."""

    user: str | None = Field(None, max_length=LONGEST_NAME)
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: ShortText | None = None
    safety_identifier: ShortText | None = None
    prompt_cache_key: ShortText | None = None
    prompt_cache_retention: ShortText | None = None


class StreamOptions(Strict):
    """How an answer is streamed."""

    include_usage: bool | None = None
    """Whether a last chunk says how many tokens were read and written."""
    include_obfuscation: bool | None = None
    """Taken and ignored."""


class Sampling(Ignored):
    """How answers are drawn. What is left out, or null, is as OpenAI documents it."""

    model: Annotated[str, Field(max_length=1024)]
    """A name from /v1/models."""
    max_tokens: int | None = Field(None, ge=1, lt=INT64)
    """The most tokens an answer has; one that reaches the end of the context ends there."""
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    """0 always takes the likeliest token; higher is more varied. 1 if left out."""
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    """Only the likeliest tokens that add up to this probability are drawn from."""
    n: int | None = Field(None, ge=1, le=MOST_ANSWERS)
    """Answers to each prompt."""
    stop: Stop | Annotated[list[Stop], Field(max_length=MOST_STOPS, fail_fast=True)] | None = None
    """Texts that end an answer."""
    seed: int | None = Field(None, ge=-INT64, lt=INT64)
    """Makes drawn answers repeatable."""
    presence_penalty: float | None = Field(None, ge=-2, le=2, allow_inf_nan=False)
    """Taken off the logit of every token that the answer already has."""
    frequency_penalty: float | None = Field(None, ge=-2, le=2, allow_inf_nan=False)
    """Taken off the logit of a token for each time that the answer already has it."""
    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern="^[0-9]{1,10}$")], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=MOST_BIASES),
        ]
        | None
    ) = None
    """Added to the logits of tokens, named by their ids."""
    stream: bool | None = None
    """Whether the answer comes in pieces, as server-sent events."""
    stream_options: StreamOptions | None = None
    top_k: int | None = Field(None, ge=0, lt=INT64)
    """Only so many of the likeliest tokens are drawn from; 0 is no limit. Not of OpenAI's."""
    min_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    """Only tokens at least this fraction as likely as the likeliest. Not of OpenAI's."""
    repetition_penalty: float | None = Field(None, ge=0.01, le=10, allow_inf_nan=False)
    """Above 1 makes tokens of the prompt and the answer less likely. Not of OpenAI's."""
    min_tokens: int | None = Field(None, ge=0, lt=INT64)
    """Nothing ends an answer before it has so many tokens, but max_tokens and a format. Not of OpenAI's."""
    stop_token_ids: (
        Annotated[list[Annotated[int, Field(ge=0, lt=INT64)]], Field(max_length=MOST_STOPS, fail_fast=True)] | None
    ) = None
    """Further tokens that end an answer. Not of OpenAI's."""
    ignore_eos: bool | None = None
    """Whether to go on past the tokens that end an answer. Not of OpenAI's."""


class PromptTokensDetails(BaseModel):
    """Of a prompt's tokens."""

    cached_tokens: int
    """How many were found in the cache, and not read again."""


class Usage(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ErrorDetails(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """How every error is told."""

    error: ErrorDetails
