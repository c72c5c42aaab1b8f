"""How the answers of a chat are put together from the engine's events, in pieces or as a whole."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from ...engine.requests import Event, TokenLogprob
from ..token_texts import TokenTexts
from ..tools import Call, CallReader


@dataclass(frozen=True)
class Delta:
    """What an answer grows by: ``content`` or ``tool_calls``, and the log-probabilities that came with it."""

    change: dict[str, Any]
    logprobs: list[dict[str, Any]] | None = None


class ChatAnswer:
    """One answer in the making.

    Args:
        texts: of the vocabulary.
        reader: finds calls in the text; None where there are no tools.
        logprobs: whether tokens come with their log-probabilities.

    Attributes:
        finish_reason: once it has ended.
    """

    def __init__(self, texts: TokenTexts, reader: CallReader | None, logprobs: bool) -> None:
        self.finish_reason: str | None = None
        self._texts, self._reader, self._wants_logprobs = texts, reader, logprobs
        self._content: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []
        self._unsent = 0

    def take(self, event: Event) -> list[Delta]:
        """Goes on with an event; returns what can be shown of it now."""
        if event.logprob is not None:
            self._logprobs.append(logprob_of(event.logprob, self._texts))
        ends = event.finish_reason is not None
        parts: list[str | Call] = [event.text] if event.text else []
        if self._reader is not None:
            parts = [*self._reader.push(event.text), *(self._reader.finish() if ends else [])]
        deltas = [self._add(part) for part in parts]
        if ends:
            self.finish_reason = event.finish_reason
            if self._calls and event.finish_reason == "stop":
                self.finish_reason = "tool_calls"
            if self._unsent < len(self._logprobs):
                # The last tokens may have no text that is shown, as those of a stop text.
                deltas.append(Delta({"content": ""}, self._new_logprobs()))
        return deltas

    @property
    def message(self) -> dict[str, Any]:
        """All of it, as a message."""
        content = "".join(self._content)
        calls = {"tool_calls": self._calls} if self._calls else {}
        return {"role": "assistant", "content": content if content or not calls else None, "refusal": None, **calls}

    @property
    def logprobs(self) -> dict[str, Any] | None:
        """Of all its tokens, where asked for."""
        return {"content": self._logprobs, "refusal": None} if self._wants_logprobs else None

    def _add(self, part: str | Call) -> Delta:
        if isinstance(part, str):
            self._content.append(part)
            return Delta({"content": part}, self._new_logprobs())
        function = {"name": part.name, "arguments": part.arguments}
        call = {"id": "call_" + secrets.token_hex(12), "type": "function", "function": function}
        self._calls.append(call)
        return Delta({"tool_calls": [{"index": len(self._calls) - 1, **call}]}, self._new_logprobs())

    def _new_logprobs(self) -> list[dict[str, Any]] | None:
        if not self._wants_logprobs:
            return None
        new, self._unsent = self._logprobs[self._unsent :], len(self._logprobs)
        return new


def logprob_of(logprob: TokenLogprob, texts: TokenTexts) -> dict[str, Any]:
    """A token's log-probability as chats have it."""

    def entry(token: int, value: float) -> dict[str, Any]:
        return {"token": texts.text_of(token), "logprob": finite(value), "bytes": list(texts.bytes_of(token))}

    top = [entry(token, value) for token, value in logprob.top]
    return {**entry(logprob.token, logprob.logprob), "top_logprobs": top}


def finite(logprob: float) -> float:
    """JSON has no minus infinity; OpenAI writes -9999 for what cannot be."""
    return max(logprob, -9999.0)
