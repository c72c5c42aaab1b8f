"""Which tokens the next step computes, and whose turn it is: plain bookkeeping, with no tensors in it.

Requests wait in one queue, first come, first served. An answer is admitted when there is a place for it and the cache
has room for all it can become, so nothing that runs is ever thrown out again. Each step gives every running answer its
next token and reads a bounded number of prompt tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from .requests import Answer, State


@dataclass(frozen=True)
class Chunk:
    """A part of one prompt to be read: ``prompt[start:end]``.

    Its ends depend on the prompt alone, never on what else is running, so neither does what is computed from it.
    """

    answer: Answer
    start: int
    end: int

    @property
    def is_last(self) -> bool:
        """Whether the answer's first token follows."""
        return self.end == len(self.answer.prompt)


@dataclass(frozen=True)
class Plan:
    """One step: a token for each of ``decode``, and the prompt parts ``prefill``."""

    decode: tuple[Answer, ...]
    prefill: tuple[Chunk, ...]

    def __bool__(self) -> bool:
        return bool(self.decode or self.prefill)


class Scheduler:
    """Admits answers and plans steps.

    Args:
        max_sequences: how many answers run at once.
        cache_tokens: the cache's budget.
        prefill_tokens: the most prompt tokens read in one step, and in one piece.
        room_for: how much of the budget a sequence of so many tokens takes; the cache rounds up.
    """

    def __init__(
        self, *, max_sequences: int, cache_tokens: int, prefill_tokens: int, room_for: Callable[[int], int] = int
    ) -> None:
        self.max_sequences = max_sequences
        self.cache_tokens = cache_tokens
        self.prefill_tokens = prefill_tokens
        self._room_for = room_for
        self.waiting: deque[Answer] = deque()
        self.running: list[Answer] = []

    @property
    def reserved_tokens(self) -> int:
        """How much of the cache's budget the running answers may come to use."""
        return sum(self._room_for(answer.most_cached) for answer in self.running)

    def add(self, answer: Answer) -> None:
        """Puts a queued answer at the queue's end; it must fit an empty cache."""
        assert answer.state is State.QUEUED
        assert self._room_for(answer.most_cached) <= self.cache_tokens
        self.waiting.append(answer)

    def remove(self, answer: Answer) -> None:
        """Forgets an answer that has ended."""
        assert answer.ended
        if answer in self.running:
            self.running.remove(answer)
        elif answer in self.waiting:
            self.waiting.remove(answer)

    def plan(self) -> Plan:
        """Admits whom there is room for; returns what the next step computes, which is empty only when idle."""
        self._admit()
        decode = tuple(answer for answer in self.running if answer.state is State.DECODE)
        return Plan(decode, self._chunks())

    def _admit(self) -> None:
        free = self.cache_tokens - self.reserved_tokens
        while self.waiting and len(self.running) < self.max_sequences:
            room = self._room_for(self.waiting[0].most_cached)
            if room > free:
                # Those behind it wait too: a large request must not starve.
                return
            free -= room
            answer = self.waiting.popleft()
            answer.move(State.PREFILL)
            self.running.append(answer)

    def _chunks(self) -> tuple[Chunk, ...]:
        chunks = []
        left = self.prefill_tokens
        for answer in self.running:
            if answer.state is not State.PREFILL:
                continue
            end = min(answer.prefilled + self.prefill_tokens, len(answer.prompt))
            left -= end - answer.prefilled
            if left < 0:
                break
            chunks.append(Chunk(answer, answer.prefilled, end))
        return tuple(chunks)
