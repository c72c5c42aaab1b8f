"""A model that is served: what it is called, what it can, its prompts and its vectors."""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from ..engine.constraints import Constraint
from ..engine.engine import Engine
from ..engine.grammars import SECONDS
from ..engine.worker import Busy, EngineWorker
from ..errors import UserError
from ..model.transformer import Transformer
from ..tokens.frame import frame_of
from ..tokens.tokenizer import Tokenizer
from .release import release_of, release_with
from .schemas.chat import AssistantMessage, Message, SystemMessage, Tool, ToolMessage, UserMessage
from .token_texts import TokenTexts
from .tools import described, knows_tools

T = TypeVar("T")
Capability = Literal["chat", "completions", "embeddings"]

# What is rendered and tokenized in the event loop; anything longer goes to a thread, so that nobody waits for it.
SHORT_CHARACTERS = 10_000
SHORT_MESSAGES = 20
# Threads in which long texts are tokenized, and constraints compiled; requests that may wait for it. Known ones take no time, and of the
# others one at a time is compiled.
COMPILERS = 4
READERS = 2
MOST_COMPILING = 64
# Tokens that are embedded in one go, between two of the engine's steps; fewer while somebody waits for these.
EMBEDDED_AT_ONCE = 2048
EMBEDDED_BETWEEN = 256


@dataclass(frozen=True)
class Prompt:
    """What the model reads."""

    ids: list[int]
    messages: list[dict[str, Any]]


class Served:
    """A model with all that requests need of it.

    Args:
        name: what clients call it.
        model: the network.
        tokenizer: its own.
        worker: whose engine writes with it; without an engine it only makes vectors.
        merged: the folder of an adapter that was merged into it.

    Attributes:
        release: the hash of everything that shapes its answers, once it is known.
        parent: the name of the model that an adapter adds to; None for the model itself.
        adapter: what the engine calls the adapter that answers; None for the model itself.
        path: where it was loaded from while the server ran, as the client named it.
        adapted: the model with each adapter, by name.
    """

    def __init__(
        self, name: str, model: Transformer, tokenizer: Tokenizer, worker: EngineWorker, merged: Path | None = None
    ) -> None:
        self._merged = merged
        self.name, self.model, self.tokenizer, self.worker = name, model, tokenizer, worker
        self.created = int(time.time())
        self.release: str | None = None
        self.parent: str | None = None
        self.adapter: str | None = None
        self.path: str | None = None
        self.texts = TokenTexts(tokenizer)
        # Apart from the other threads, which must not wait behind a constraint that takes long.
        self._compilers, self._compiling = ThreadPoolExecutor(COMPILERS, "ownlm-compiler"), [0]
        self._readers = ThreadPoolExecutor(READERS, "ownlm-reader")
        self._frame = None if model.config.causal else frame_of(tokenizer, pair=False, causal=False)
        self.adapted = {name: self._with(name, name) for name in worker.engine.adapters} if worker.engine else {}

    async def find_release(self) -> None:
        """Reads the model's files, in a thread, to know its release."""
        if self.model.source is not None:
            kept = self.engine.weights if self.engine else str(self.model.compute_dtype)
            found = asyncio.to_thread(release_of, Path(self.model.source), self.tokenizer, self._merged, kept)
            self.release = await found
            for served in self.adapted.values():
                assert self.engine is not None
                assert served.adapter is not None
                served.release = release_with(self.release, self.engine.adapters[served.adapter])

    @property
    def engine(self) -> Engine | None:
        """What writes; None for a model that only makes vectors."""
        return self.worker.engine

    @property
    def context(self) -> int:
        """The most tokens of a prompt and its answer, or of a text to embed."""
        return self.engine.context if self.engine else self.model.config.max_positions

    @property
    def capabilities(self) -> list[Capability]:
        """What it can do."""
        if self.adapter is not None:
            return ["chat", "completions"]
        return ["chat", "completions", "embeddings"] if self.engine else ["embeddings"]

    @functools.cached_property
    def knows_tools(self) -> bool:
        """Whether its chat template writes tools itself."""
        return knows_tools(self.tokenizer.template_source())

    async def render(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), add_generation_prompt: bool = True
    ) -> Prompt:
        """A conversation's ids, exactly as in training.

        Raises:
            UserError: the chat template refuses the conversation.
        """
        given = [as_template(message) for message in messages]
        offered = [tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in tools]
        written = given if self.knows_tools else described(given, offered)

        def render() -> list[int]:
            return self.tokenizer.render(written, add_generation_prompt, offered or None)

        short = len(given) <= SHORT_MESSAGES and sum(len(one["content"]) for one in written) <= SHORT_CHARACTERS
        return Prompt(await self._here_or_there(render, short), given)

    async def compile(self, constraint: Constraint) -> None:
        """Has a constraint compiled in a thread, so that the engine finds it done.

        Raises:
            UserError: it cannot be.
            MissingExtra: the library for it is not installed.
            Busy: too many wait for theirs.
        """
        assert self.engine is not None
        if self._compiling[0] >= MOST_COMPILING:
            raise Busy(int(SECONDS))
        self._compiling[0] += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._compilers, self.engine.grammars.compiled, constraint)
        finally:
            self._compiling[0] -= 1

    def close(self) -> None:
        """Ends the threads and processes that work for it."""
        self.worker.close()
        for threads in (self._compilers, self._readers):
            threads.shutdown(wait=False, cancel_futures=True)
        if self.engine is not None:
            self.engine.grammars.close()

    async def encode(self, text: str) -> list[int]:
        """A text prompt's ids, with the token that begins a document where the model expects it."""
        assert self.engine is not None
        encode = self.engine.encode
        return await self._here_or_there(lambda: encode(text), len(text) <= SHORT_CHARACTERS)

    async def frame(self, text: str) -> list[int]:
        """The ids of a text that is to become a vector."""
        if self._frame is None and self.engine is not None:
            return await self.encode(text)
        inner = await self._here_or_there(lambda: self.tokenizer.encode(text), len(text) <= SHORT_CHARACTERS)
        return inner if self._frame is None else [*self._frame.before, *inner, *self._frame.after]

    def check_documents(self, documents: Sequence[Sequence[int]]) -> None:
        """Checks that the model can read each of these.

        Raises:
            UserError: one is empty or does not fit, or an id is no token.
        """
        most, vocab = self.model.config.max_positions, self.tokenizer.vocab_size
        for number, document in enumerate(documents):
            where = f"input.{number}"
            if not document:
                raise UserError("a text to embed has no tokens", where=where)
            if len(document) > most:
                message = f"a text has {len(document):,} tokens, and the model reads {most:,}"
                raise UserError(message, where=where, hint="shorten it")
            if wrong := [i for i in document if not 0 <= i < vocab]:
                raise UserError(f"{wrong[0]} is not a token: the vocabulary has {vocab:,}", where=where)

    async def embed(self, documents: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector of length 1 for each document: the mean over its tokens of the last hidden state.

        Raises:
            Busy, Draining, EngineFailed: as the worker.
        """
        vectors: list[list[float]] = []
        while len(vectors) < len(documents):
            most = EMBEDDED_BETWEEN if self.engine is not None and self.worker.writing else EMBEDDED_AT_ONCE
            batch = _batch(documents, len(vectors), most)
            vectors += await self.worker.call(functools.partial(self._embed, batch))
        return vectors

    async def adapt(self, name: str, unique: str, folder: Path, path: str) -> Served:
        """Lets the adapter of a folder answer to a name, in place of another that may have it.

        Args:
            name: what clients call it.
            unique: what the engine calls it.
            folder: where it is.
            path: what clients call that place.

        Raises:
            ModelError: it is for another model, or cannot run beside others.
            Busy, Draining, EngineFailed: as the worker.
        """
        assert self.engine is not None
        engine = self.engine
        adapter = await asyncio.to_thread(engine.read_adapter, folder)
        await self.worker.call(lambda: engine.load_adapter(unique, adapter))
        before, served = self.adapted.get(name), self._with(name, unique)
        served.path, served.created = path, int(time.time())
        if self.release is not None:
            served.release = release_with(self.release, engine.adapters[unique])
        self.adapted[name] = served
        if before is not None:
            await self._forget(before)
        return served

    async def unadapt(self, name: str) -> None:
        """Lets an adapter answer no more."""
        await self._forget(self.adapted.pop(name))

    async def _forget(self, served: Served) -> None:
        engine, adapter = self.engine, served.adapter
        assert engine is not None and adapter is not None
        # Whoever was let in before it went has been heard of by the engine before this is.
        await self.worker.call(lambda: engine.unload_adapter(adapter))

    def _with(self, name: str, adapter: str) -> Served:
        """The same model with an adapter: it shares threads, limits and engine with this one."""
        served = copy.copy(self)
        served.name, served.adapter = name, adapter
        served.parent, served.adapted = self.name, {}
        return served

    async def _here_or_there(self, function: Callable[[], T], here: bool) -> T:
        return function() if here else await asyncio.get_running_loop().run_in_executor(self._readers, function)

    def _embed(self, documents: Sequence[Sequence[int]]) -> list[list[float]]:
        import torch

        means = torch.stack([state.float().mean(0) for state in self.model.hidden_states(documents)])
        return torch.nn.functional.normalize(means, dim=-1).tolist()


def as_template(message: Message) -> dict[str, Any]:
    """A message as chat templates read it: a role, a text, and a call's arguments as an object."""
    role = "system" if isinstance(message, SystemMessage) else message.role
    result: dict[str, Any] = {"role": role, "content": _text(message)}
    if isinstance(message, ToolMessage):
        result["tool_call_id"] = message.tool_call_id
    elif message.name is not None:
        result["name"] = message.name
    if isinstance(message, AssistantMessage) and message.tool_calls:
        result["tool_calls"] = [
            {"type": "function", "id": call.id, "function": _called(call.function.name, call.function.arguments)}
            for call in message.tool_calls
        ]
    return result


def _text(message: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> str:
    content = message.content
    if content is None:
        return (message.refusal if isinstance(message, AssistantMessage) else None) or ""
    if isinstance(content, str):
        return content
    return "".join(part.text if part.type == "text" else part.refusal for part in content)


def _called(name: str, arguments: str) -> Mapping[str, Any]:
    try:
        return {"name": name, "arguments": json.loads(arguments)}
    except (ValueError, RecursionError):
        return {"name": name, "arguments": arguments}


def _batch(documents: Sequence[Sequence[int]], start: int, most: int) -> Sequence[Sequence[int]]:
    """The documents from ``start`` on that have so many tokens together, at least one."""
    size, end = len(documents[start]), start + 1
    while end < len(documents) and size + len(documents[end]) <= most:
        size, end = size + len(documents[end]), end + 1
    return documents[start:end]
