"""``/v1/chat/completions`` and ``/v1/chat/render``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ...store.records import Answer
from ..errors import JSON, as_api_error
from ..generation import DONE, Generation, event_of
from ..leaving import in_time, unless_left
from ..reading import StrictRoute
from ..schemas.chat import ChatCompletion, ChatRequest
from ..schemas.others import Rendered, RenderRequest, examples
from ..served import Served
from ..serving import serving_of
from ..shaping import constraint_of, offered_tools, sampling_options
from ..tools import CallReader
from .answers import ChatAnswer, Delta
from .described import ERRORS, streamed

router = APIRouter(route_class=StrictRoute, tags=["chat"])

HELLO = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16, "temperature": 0}


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses={**ERRORS, **streamed("chunks of the answer, if `stream` is true")},
    openapi_extra=examples(model="MODEL", **HELLO),
)
async def complete_chat(request: Request, body: ChatRequest) -> Response:
    """Continue a conversation."""
    served = serving_of(request).find(body.model, "chat")
    # To render, tokenize and compile what was sent, and to wait for that, is a part of the request's time.
    starting = in_time(_Chat.start(request, served, body), serving_of(request).config.timeout)
    chat = await unless_left(request.receive, starting)
    if body.stream:
        return chat.generation.streamed(chat.chunks())
    try:
        return JSON(await unless_left(request.receive, chat.whole()))
    finally:
        chat.generation.close()


class _Chat:
    """A chat's answers, in the making."""

    def __init__(self, body: ChatRequest, messages: Sequence[dict[str, Any]], generation: Generation) -> None:
        self.body, self.generation, self._messages = body, generation, messages
        tools, count = offered_tools(body), generation.options.n
        names, first = [tool.function.name for tool in tools], body.parallel_tool_calls is False
        self._answers = [
            ChatAnswer(
                generation.served.texts, CallReader(names, only_first=first) if names else None, bool(body.logprobs)
            )
            for _ in range(count)
        ]

    @classmethod
    async def start(cls, request: Request, served: Served, body: ChatRequest) -> _Chat:
        constraint, asked = await constraint_of(served, body), body.max_completion_tokens or body.max_tokens
        options = sampling_options(
            body,
            max_tokens=asked or served.context,
            logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            constraint=constraint,
        )
        prompt = await served.render(body.messages, offered_tools(body))
        generation = await Generation.start(
            request, served, [prompt.ids], options, "chatcmpl-", open_ended=asked is None
        )
        return cls(body, prompt.messages, generation)

    async def whole(self) -> dict[str, Any]:
        """The answers at once."""
        async for choice, event in self.generation.events():
            self._answers[choice].take(event)
        await self._keep()
        choices = [
            {
                "index": index,
                "message": answer.message,
                "finish_reason": answer.finish_reason,
                "logprobs": answer.logprobs,
            }
            for index, answer in enumerate(self._answers)
        ]
        return {**self.generation.envelope("chat.completion"), "choices": choices, "usage": self.generation.usage()}

    async def chunks(self) -> AsyncIterator[bytes]:
        """The answers as they come: a role, text and calls, an end; then the usage where it is wanted."""
        options = self.body.stream_options
        wants_usage = bool(options and options.include_usage)
        head = self.generation.envelope("chat.completion.chunk")

        def chunk(index: int, delta: Delta, finish_reason: str | None = None) -> bytes:
            logprobs = None if delta.logprobs is None else {"content": delta.logprobs, "refusal": None}
            choice = {"index": index, "delta": delta.change, "logprobs": logprobs, "finish_reason": finish_reason}
            return event_of({**head, "choices": [choice], **({"usage": None} if wants_usage else {})})

        try:
            for index in range(len(self._answers)):
                yield chunk(index, Delta({"role": "assistant", "content": "", "refusal": None}))
            async for index, event in self.generation.events():
                answer = self._answers[index]
                for delta in answer.take(event):
                    yield chunk(index, delta)
                if answer.finish_reason is not None:
                    if self.generation.done:
                        # What is told to be finished is kept.
                        await self._keep()
                    yield chunk(index, Delta({}), answer.finish_reason)
            if wants_usage:
                yield event_of({**head, "choices": [], "usage": self.generation.usage()})
            yield DONE
        except Exception as error:
            yield event_of(as_api_error(error).body())
        finally:
            self.generation.close()

    async def _keep(self) -> None:
        answers = [Answer(answer.message, answer.finish_reason) for answer in self._answers]
        options = self.body.model_dump(exclude_none=True, exclude={"messages", "model", "stream", "stream_options"})
        await self.generation.keep(self._messages, answers, options)


@router.post(
    "/v1/chat/render",
    response_model=Rendered,
    responses=ERRORS,
    openapi_extra=examples(model="MODEL", messages=HELLO["messages"]),
)
async def render_chat(request: Request, body: RenderRequest) -> Response:
    """The exact prompt that the model reads for a conversation."""
    served = serving_of(request).find(body.model, "chat")
    prompt = await served.render(body.messages, body.tools or (), body.add_generation_prompt)
    text = served.tokenizer.decode(prompt.ids, skip_special=False)
    return JSON({"text": text, "ids": prompt.ids, "tokens": [served.texts.text_of(i) for i in prompt.ids]})
