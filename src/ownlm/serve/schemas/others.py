"""``/v1/completions``, ``/v1/embeddings``, ``/v1/models``, ``/v1/feedback``, ``/v1/chat/render``, adapters, and the rest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from .chat import Messages, Tool
from .common import INT64, LONGEST_NAME, Sampling, ShortText, Strict, Usage

MOST_PROMPTS = 128
MOST_INPUTS = 2048

Token = Annotated[int, Field(ge=0, lt=INT64)]


class CompletionRequest(Sampling):
    """Texts that are to be continued."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True)]
        | Annotated[list[Token], Field(min_length=1, fail_fast=True)]
        | Annotated[
            list[Annotated[list[Token], Field(min_length=1, fail_fast=True)]],
            Field(min_length=1, max_length=MOST_PROMPTS, fail_fast=True),
        ]
        | None
    ) = None
    """A text, several, or token ids. Left out, a document is begun."""
    logprobs: int | None = Field(None, ge=0, le=20)
    """How many of the likeliest tokens come with each."""
    echo: bool | None = None
    """Whether the prompt stands before each answer."""
    best_of: int | None = Field(None, ge=1, le=128)
    """Only the value of n, or 1: no answers are made and left away."""
    suffix: None = None

    @model_validator(mode="after")
    def _fits_together(self) -> CompletionRequest:
        if self.best_of not in (None, self.n or 1):
            raise ValueError("best_of must be n: no answers are made and left away")
        if self.echo and self.logprobs is not None:
            raise ValueError("echo and logprobs do not go together here: the prompt's tokens have no log-probabilities")
        return self


class CompletionLogprobs(BaseModel):
    """How likely each token was, in columns."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """One answer."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: CompletionLogprobs | None


class Completion(BaseModel):
    """The continuations of texts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    system_fingerprint: str | None


class EmbeddingRequest(Strict):
    """Texts that are to become vectors."""

    model: Annotated[str, Field(max_length=1024)]
    """A name from /v1/models."""
    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[
            list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=MOST_INPUTS, fail_fast=True)
        ]
        | Annotated[list[Token], Field(min_length=1, fail_fast=True)]
        | Annotated[
            list[Annotated[list[Token], Field(min_length=1, fail_fast=True)]],
            Field(min_length=1, max_length=MOST_INPUTS, fail_fast=True),
        ]
    )
    """A text, several, or token ids."""
    encoding_format: Literal["float", "base64"] | None = None
    """Numbers, or the bytes of little-endian float32."""
    dimensions: int | None = Field(None, ge=1, lt=INT64)
    """Only the model's own width: it has no other."""
    user: str | None = Field(None, max_length=LONGEST_NAME)


class Embedding(BaseModel):
    """One text's vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class EmbeddingUsage(BaseModel):
    """Tokens read."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(BaseModel):
    """The vectors of texts, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class Model(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    parent: str | None
    """The model that an adapter adds to; none for the model itself."""
    context: int
    """The most tokens of a prompt and its answer."""
    release: str | None
    """The hash of everything that shapes its answers."""
    capabilities: list[Literal["chat", "completions", "embeddings"]]


class Models(BaseModel):
    """Every model that is served."""

    object: Literal["list"]
    data: list[Model]


AdapterName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


class LoadAdapter(Strict):
    """An adapter that is to be loaded, as vLLM has it."""

    lora_name: AdapterName
    """What clients are to call it."""
    lora_path: Annotated[str, Field(min_length=1, max_length=1024)]
    """Where it is in the server's folder of adapters."""
    load_inplace: bool | None = None
    """Whether it takes the place of another of this name."""


class UnloadAdapter(Strict):
    """An adapter that is to go."""

    lora_name: AdapterName
    lora_int_id: int | None = None
    """Taken and ignored."""


class AdapterUnloaded(BaseModel):
    """An adapter that has gone."""

    id: str
    object: Literal["model"]
    deleted: bool


class LoraAdapter(BaseModel):
    """An adapter that is loaded."""

    lora_name: str
    lora_path: str | None
    """Where it is in the folder; none for one that the server was started with."""
    release: str | None


class LoraAdapters(BaseModel):
    """The adapters that are loaded, and the paths of those that could be."""

    object: Literal["list"]
    data: list[LoraAdapter]
    available: list[str]


class FeedbackRequest(Strict):
    """What somebody thinks of an answer."""

    id: ShortText
    """The id that the answer came with."""
    rating: Literal["up", "down"]
    index: int = Field(0, ge=0, le=128)
    """Which of the request's answers."""
    reason: str = Field("", max_length=10_000)
    """Why, in words."""
    correction: str = Field("", max_length=100_000)
    """What the answer should have been."""


class FeedbackAnswer(BaseModel):
    """What was kept; personal data may be masked in it."""

    id: str
    index: int
    rating: Literal["up", "down"]
    reason: str
    correction: str
    created: int


class RenderRequest(Strict):
    """A conversation whose prompt is to be seen."""

    model: Annotated[str, Field(max_length=1024)]
    messages: Messages
    tools: Annotated[list[Tool], Field(max_length=128, fail_fast=True)] | None = None
    add_generation_prompt: bool = True
    """Whether it ends with the words that ask for an answer."""


class Rendered(BaseModel):
    """Exactly what the model reads."""

    text: str
    ids: list[int]
    tokens: list[str]
    """Each id's own text."""


class Health(BaseModel):
    """Whether the server lives, or is ready for work."""

    status: Literal["ok", "draining", "failed"]


class OpenAPIDocument(BaseModel):
    """Anything."""

    model_config = {"extra": "allow"}


def examples(**values: Any) -> dict[str, Any]:
    """An example of a request's body for the description of the API."""
    return {"requestBody": {"content": {"application/json": {"example": values}}}}
