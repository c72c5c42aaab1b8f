"""``/v1/completions``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...engine.requests import Event
from ...store.records import Answer
from ..errors import JSON, ApiError, as_api_error
from ..generation import DONE, Generation, event_of
from ..leaving import in_time, unless_left
from ..reading import StrictRoute
from ..schemas.others import MOST_PROMPTS, Completion, CompletionRequest, examples
from ..served import Served
from ..serving import serving_of
from ..shaping import sampling_options
from ..token_texts import TokenTexts
from .answers import finite
from .described import ERRORS, streamed

router = APIRouter(route_class=StrictRoute, tags=["completions"])

# What OpenAI documents for a request that does not say.
DEFAULT_TOKENS = 16


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses={**ERRORS, **streamed("chunks of the answer, if `stream` is true")},
    openapi_extra=examples(model="MODEL", prompt="Once upon a time", max_tokens=16, temperature=0),
)
async def complete(request: Request, body: CompletionRequest) -> Response:
    """Continue texts."""
    served = serving_of(request).find(body.model, "completions")
    # To render, tokenize and compile what was sent, and to wait for that, is a part of the request's time.
    starting = in_time(_Completion.start(request, served, body), serving_of(request).config.timeout)
    completion = await unless_left(request.receive, starting)
    if body.stream:
        return completion.generation.streamed(completion.chunks())
    try:
        return JSON(await unless_left(request.receive, completion.whole()))
    finally:
        completion.generation.close()


class _Answer:
    """One continuation in the making, with its log-probabilities in columns."""

    def __init__(self, texts: TokenTexts, echo: str, tops: int | None) -> None:
        self.text = echo
        self.finish_reason: str | None = None
        self._texts, self._tops = texts, tops
        self._offset = len(echo)
        self._columns = _no_columns(tops)

    def take(self, event: Event) -> str:
        """Goes on with an event; returns the new text."""
        self.text += event.text
        if event.finish_reason is not None:
            self.finish_reason = event.finish_reason
        if event.logprob is not None and self._tops is not None:
            token, columns = self._texts.text_of(event.logprob.token), self._columns
            columns["tokens"].append(token)
            columns["token_logprobs"].append(finite(event.logprob.logprob))
            columns["text_offset"].append(self._offset)
            if self._tops:
                columns["top_logprobs"].append(
                    {self._texts.text_of(other): finite(value) for other, value in event.logprob.top}
                )
            self._offset += len(token)
        return event.text

    def new_columns(self) -> dict[str, Any] | None:
        """The log-probabilities since this was last asked."""
        if self._tops is None:
            return None
        columns, self._columns = self._columns, _no_columns(self._tops)
        return columns


def _no_columns(tops: int | None) -> dict[str, Any]:
    return {"tokens": [], "token_logprobs": [], "top_logprobs": [] if tops else None, "text_offset": []}


class _Completion:
    """The continuations of a request's prompts, in the making."""

    def __init__(self, body: CompletionRequest, prompts: Sequence[str], generation: Generation) -> None:
        self.body, self.generation, self._prompts = body, generation, prompts
        texts, count = generation.served.texts, generation.options.n
        self._answers = [
            _Answer(texts, prompt if body.echo else "", body.logprobs) for prompt in prompts for _ in range(count)
        ]

    @classmethod
    async def start(cls, request: Request, served: Served, body: CompletionRequest) -> _Completion:
        options = sampling_options(body, max_tokens=body.max_tokens or DEFAULT_TOKENS, logprobs=body.logprobs)
        prompts = _prompts(body)
        if len(prompts) * options.n > MOST_PROMPTS:
            message = (
                f"a request may ask for {MOST_PROMPTS} answers, and {len(prompts)} prompts with n {options.n} are more"
            )
            raise ApiError(400, message, param="n", code="invalid_value")
        ids = [await served.encode(prompt) if isinstance(prompt, str) else prompt for prompt in prompts]
        generation = await Generation.start(request, served, ids, options, "cmpl-")
        decode = served.tokenizer.decode
        texts = [prompt if isinstance(prompt, str) else decode(prompt, skip_special=False) for prompt in prompts]
        return cls(body, texts, generation)

    async def whole(self) -> dict[str, Any]:
        """The answers at once."""
        async for choice, event in self.generation.events():
            self._answers[choice].take(event)
        await self._keep()
        choices = [
            {
                "index": index,
                "text": answer.text,
                "finish_reason": answer.finish_reason,
                "logprobs": answer.new_columns(),
            }
            for index, answer in enumerate(self._answers)
        ]
        return {**self.generation.envelope("text_completion"), "choices": choices, "usage": self.generation.usage()}

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answers as they come: text, an end; then the usage where it is wanted."""
        options = self.body.stream_options
        wants_usage = bool(options and options.include_usage)
        head = self.generation.envelope("text_completion")

        def chunk(index: int, text: str, logprobs: Any = None, finish_reason: str | None = None) -> bytes:
            choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
            return event_of({**head, "choices": [choice], **({"usage": None} if wants_usage else {})})

        try:
            for index, answer in enumerate(self._answers):
                if answer.text:
                    yield chunk(index, answer.text)
            async for index, event in self.generation.events():
                answer = self._answers[index]
                text = answer.take(event)
                if text or (event.finish_reason is not None and event.logprob is not None):
                    yield chunk(index, text, answer.new_columns())
                if event.finish_reason is not None:
                    if self.generation.done:
                        # What is told to be finished is kept.
                        await self._keep()
                    yield chunk(index, "", None, event.finish_reason)
            if wants_usage:
                yield event_of({**head, "choices": [], "usage": self.generation.usage()})
            yield DONE
        except Exception as error:
            yield event_of(as_api_error(error).body())
        finally:
            self.generation.close()

    async def _keep(self) -> None:
        if len(self._prompts) > 1:
            # A conversation has one beginning; many texts at once are no conversation.
            return
        answers = [Answer({"role": "text", "content": answer.text}, answer.finish_reason) for answer in self._answers]
        options = self.body.model_dump(exclude_none=True, exclude={"prompt", "model", "stream", "stream_options"})
        await self.generation.keep([{"role": "text", "content": self._prompts[0]}], answers, options)


def _prompts(body: CompletionRequest) -> list[str | list[int]]:
    prompt = body.prompt
    if prompt is None:
        return [""]
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    return [one for one in prompt if not isinstance(one, int)]
