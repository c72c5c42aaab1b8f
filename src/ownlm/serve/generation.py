"""One request at the engine: it is counted, timed, stored, and ended when nobody wants it any more."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from fastapi import Request

from ..engine.requests import Event, SamplingOptions
from ..engine.worker import Stream
from ..errors import ModelError, OwnlmError, UserError
from ..store.records import Answer, Conversation
from .errors import ApiError, to_json
from .leaving import EventStream
from .quota import Quota
from .served import Served
from .serving import Serving, key_of, notes_of, serving_of

# Log-probabilities that one request's answers may come with; each takes about 400 bytes until it is sent.
MOST_LOGPROBS = 500_000
# Seconds that a client has to read the rest of a stream, once its request's time is up.
READING = 30

log = logging.getLogger(__name__)


class Generation:
    """The answers to one request, in the making; ``start`` makes it, ``close`` ends it in any case.

    Attributes:
        id: what the client knows it by.
        created: in Unix seconds; the same in every chunk.
        served: the model.
    """

    def __init__(
        self, request: Request, served: Served, stream: Stream, options: SamplingOptions, prefix: str, quota: Quota
    ) -> None:
        self.id, self.created, self.served = prefix + secrets.token_hex(16), int(time.time()), served
        self.options = options
        self._serving: Serving = serving_of(request)
        self._quota, self._key, self._notes = quota, key_of(request), notes_of(request)
        self._stream = stream
        self._tokens = 0
        # Of each prompt, how much of it was in the cache; of its n answers, the others find what the first has read.
        self._reused: dict[int, int] = {}
        self._reasons: list[str] = []
        self._first: float | None = None
        self._last: dict[int, float] = {}
        self._closed = False

    @classmethod
    async def start(
        cls,
        request: Request,
        served: Served,
        prompts: Sequence[Sequence[int]],
        options: SamplingOptions,
        prefix: str,
        *,
        open_ended: bool = False,
    ) -> Generation:
        """Has a request accepted by the engine.

        Args:
            request: what came.
            served: the model.
            prompts: ids of each.
            options: how they are answered.
            prefix: of the answer's id.
            open_ended: whether the client left it open how long an answer may be; it then ends where its key's quota
                does. Otherwise the quota must suffice for all that was asked for.

        Raises:
            UserError: a prompt does not fit.
            Busy, Draining, EngineFailed: as the worker.
            ApiError: 429; the key's quota is used up.
        """
        _check_logprobs(served.context, [len(prompt) for prompt in prompts], options)
        config, quota = serving_of(request).config, serving_of(request).quota(request)
        options = await _set_aside(quota, served.context, [len(prompt) for prompt in prompts], options, open_ended)
        try:
            while True:
                submitted = served.worker.submit(prompts, options, timeout=config.timeout, adapter=served.adapter)
                try:
                    stream = await submitted
                    break
                except UserError as error:
                    if error.where != "adapter":
                        raise
                    # It went after the request had found it; another may have come in its place.
                    served = serving_of(request).find(served.name)
        except BaseException:
            asyncio.get_running_loop().run_in_executor(None, quota.cancel)
            raise
        generation = cls(request, served, stream, options, prefix, quota)
        generation._serving.metrics.prompt_tokens.inc(sum(stream.prompt_tokens))
        generation._notes.fields |= {"model": served.name, "prompt_tokens": sum(stream.prompt_tokens)}
        return generation

    async def events(self) -> AsyncIterator[tuple[int, Event]]:
        """Each event with the number of its answer.

        Raises:
            ApiError: generating failed, or took too long.
        """
        metrics = self._serving.metrics
        async for event in self._stream:
            if event.error is not None:
                raise _failure(event.error)
            now, choice = time.monotonic(), self._stream.choice(event)
            if self._first is None:
                self._first = now - self._notes.began
                metrics.first_token.observe(self._first)
            elif choice in self._last:
                metrics.token.observe(now - self._last[choice])
            self._last[choice] = now
            self._tokens += event.token is not None
            if event.index == 0:
                self._reused[choice] = event.reused
            if event.finish_reason is not None:
                self._reasons.append(event.finish_reason)
            yield choice, event

    @property
    def done(self) -> bool:
        """Whether every answer has ended."""
        return len(self._reasons) == len(self._stream.prompt_tokens) * self.options.n

    def usage(self) -> dict[str, Any]:
        """Tokens read and written so far, and how many of the prompts' were found in the cache."""
        read = sum(self._stream.prompt_tokens)
        counts = {"prompt_tokens": read, "completion_tokens": self._tokens, "total_tokens": read + self._tokens}
        return {**counts, "prompt_tokens_details": {"cached_tokens": self.cached_tokens}}

    @property
    def cached_tokens(self) -> int:
        """How many of the prompts' tokens were found in the cache."""
        return sum(self._reused.values())

    def envelope(self, kind: str) -> dict[str, Any]:
        """What every answer and every chunk of it has."""
        served = self.served
        head = {"id": self.id, "object": kind, "created": self.created, "model": served.name}
        return {**head, "system_fingerprint": served.release}

    async def keep(
        self, messages: Sequence[Mapping[str, Any]], answers: Sequence[Answer], options: Mapping[str, Any]
    ) -> None:
        """Writes the conversation to the store, durably, where that is wanted; and to the log, where that is."""
        if self._serving.config.log_messages:
            said = {"messages": messages, "answers": [answer.message for answer in answers]}
            log.info("conversation", extra={"fields": {"id": self.id, **said}})
        store = self._serving.store
        if store is None or not self._serving.config.keep_conversations or options.get("store") is False:
            return
        timings = {"first_token": self._first or 0.0, "total": time.monotonic() - self._notes.began}
        conversation = Conversation(
            id=self.id,
            model=self.served.name,
            release=self.served.release or "",
            messages=messages,
            answers=answers,
            options=options,
            prompt_tokens=sum(self._stream.prompt_tokens),
            completion_tokens=self._tokens,
            timings=timings,
            key_id=self._key.id if self._key else "",
        )
        try:
            await asyncio.to_thread(store.conversations.add, conversation)
        except OwnlmError as error:
            # The answer is there and paid for; that it was not kept is for the operator to know.
            self._serving.metrics.store_failures.inc()
            log.error("a conversation could not be stored", extra={"fields": {"id": self.id, "error": str(error)}})

    def streamed(self, events: AsyncIterator[bytes]) -> EventStream:
        """The answer that sends these events, which end with the generation."""
        return EventStream(events, self.close, self._serving.config.timeout + READING)

    def close(self) -> None:
        """Ends what has not ended, and counts what there was; closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._stream.close()
        # What was written for a client that read too slowly was written nevertheless.
        self._tokens += self._stream.unread_tokens()
        metrics = self._serving.metrics
        missing = len(self._stream.prompt_tokens) * self.options.n - len(self._reasons)
        reasons = [*self._reasons, *["aborted"] * missing]
        for reason in reasons:
            metrics.answers.labels(reason).inc()
        metrics.completion_tokens.inc(self._tokens)
        first = None if self._first is None else round(self._first, 4)
        self._notes.fields |= {"cached_tokens": self.cached_tokens, "completion_tokens": self._tokens}
        self._notes.fields |= {"first_token": first, "finish": reasons}
        asyncio.get_running_loop().run_in_executor(None, self._quota.end, self._tokens)


def _check_logprobs(context: int, sizes: Sequence[int], options: SamplingOptions) -> None:
    """Refuses a request whose log-probabilities alone would fill the memory.

    Raises:
        ApiError: 400.
    """
    if options.logprobs is None:
        return
    tokens = options.n * sum(min(options.max_tokens, max(0, context - size)) for size in sizes)
    if tokens * (1 + options.logprobs) > MOST_LOGPROBS:
        message = (
            f"{tokens:,} tokens with {options.logprobs} likeliest others each are more than {MOST_LOGPROBS:,} "
            "log-probabilities; ask for a smaller max_tokens, n or number of logprobs"
        )
        raise ApiError(400, message, param="logprobs", code="invalid_value")


async def _set_aside(
    quota: Quota, context: int, sizes: Sequence[int], options: SamplingOptions, open_ended: bool
) -> SamplingOptions:
    """Takes what a request may use out of its key's quota; returns the options, with shorter answers where need be."""
    if not all(0 < size < context for size in sizes):
        # The engine will say what is wrong with a prompt.
        return options
    answers = len(sizes) * options.n
    wanted = options.n * sum(min(options.max_tokens, context - size) for size in sizes)
    least = min(wanted, answers * max(1, options.min_tokens)) if open_ended else wanted
    granted = await quota.begin(sum(sizes), wanted=wanted, least=least)
    if granted >= wanted:
        return options
    return SamplingOptions(**{**dict(options), "max_tokens": granted // answers})


def event_of(data: Any) -> bytes:
    """A server-sent event with JSON in it."""
    return b"data: " + to_json(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"


def _failure(error: Exception) -> Exception:
    """Why an answer failed, as the client is told."""
    if isinstance(error, OwnlmError) and not isinstance(error, ModelError):
        # Stopped by force, or a constraint that cannot be followed any further.
        return error
    log.error("an answer failed", exc_info=error)
    return ApiError(500, "the engine failed at this request", code="engine_error")
