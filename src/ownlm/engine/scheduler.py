"""Which tokens the next step computes, and whose turn it is: plain bookkeeping, with no tensors in it.

Requests wait in one queue, first come, first served. An answer is admitted when there is a place for it and the cache
has pages for its prompt; pages for what it becomes are taken as it grows. Where none is left, who came last gives its
own up, goes back to the head of the queue and is computed again later, so the first always goes on. Each step gives
every running answer its next token and reads a bounded number of prompt tokens, fewer where somebody waits for a token.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .pages import PAGE, PagePool, digest_of, pages_for
from .requests import Answer, State

# Tokens of prompts in a step beside answers, on a CPU. There each row takes its time, some 0.6 ms with 135M parameters on
# two cores, and the weights, read once a pass, about 10 ms. So 256 rows keep the others waiting sixteen times as long as
# none, and 64 rows five times, while reading takes a fifth longer.
SHARED = 64


@dataclass(frozen=True)
class Work:
    """New tokens of one answer in a step: those from ``start`` to ``end`` of its prompt and what it has said so far.

    ``speaks``: they are its last, so that a token follows. ``draft``: tokens guessed to follow, read along with them.
    """

    answer: Answer
    start: int
    end: int
    speaks: bool = True
    draft: tuple[int, ...] = ()


class Scheduler:
    """Admits answers and plans steps.

    Args:
        pool: the cache's pages.
        max_sequences: how many answers run at once.
        prefill_tokens: the most tokens of prompts read in one step.
        shared_prefill_tokens: the most in a step in which an answer goes on; None for as many as in any.

    Attributes:
        draft_context: so many of an answer's first tokens a draft model reads as well (speculation.py), into the same
            pages of a cache of its own; 0 without one.
    """

    def __init__(
        self,
        pool: PagePool,
        *,
        max_sequences: int,
        prefill_tokens: int,
        shared_prefill_tokens: int | None = None,
        draft_context: int = 0,
    ) -> None:
        self.pool = pool
        self.draft_context = draft_context
        self.max_sequences = max_sequences
        self.prefill_tokens = prefill_tokens
        self.shared_prefill_tokens = min(shared_prefill_tokens or prefill_tokens, prefill_tokens)
        self.waiting: deque[Answer] = deque()
        # In the order of arrival.
        self.running: list[Answer] = []
        self.preemptions = 0
        self.reused_tokens = 0

    def add(self, answer: Answer) -> None:
        """Puts a queued answer at the queue's end; it must fit an empty cache."""
        assert answer.state is State.QUEUED
        assert pages_for(answer.most_cached) <= self.pool.count
        self.waiting.append(answer)

    def remove(self, answer: Answer) -> None:
        """Forgets an answer that has ended, and frees its pages."""
        assert answer.ended
        self._release(answer)
        if answer in self.running:
            self.running.remove(answer)
        elif answer in self.waiting:
            self.waiting.remove(answer)

    def plan(self) -> list[Work]:
        """Admits whom there is room for; returns what the next step computes, which is empty only when idle."""
        work = [Work(a, a.cached, a.length) for a in list(self.running) if a.state is State.DECODE and self._grows(a)]
        # Somebody later in the list may have given up its pages for somebody before.
        work = [part for part in work if part.answer.state is State.DECODE]
        left = self.shared_prefill_tokens if work else self.prefill_tokens
        for answer in self._reading():
            if answer.state is not State.PREFILL:
                continue
            end = min(answer.length, answer.cached + left)
            if end == answer.cached:
                break
            if not self._grows(answer, end):
                break
            left -= end - answer.cached
            work.append(Work(answer, answer.cached, end, end == answer.length))
        return work

    def room(self, work: Work, count: int) -> int:
        """How many tokens can be guessed to follow, at most ``count``, without taking pages from others."""
        answer = work.answer
        spare = len(answer.pages) * PAGE - work.end
        while spare < count and self.pool.available > len(self.running):
            page = self.pool.take()
            assert page is not None
            answer.pages.append(page)
            spare += PAGE
        return min(count, spare)

    def done(self, work: Work, upto: int | None = None) -> None:
        """The cache holds the work's tokens now, or all before ``upto``, where the right guesses end.

        Full pages may be found from here on, once a draft model has read them too.
        """
        answer = work.answer
        answer.cached = work.end if upto is None else upto
        if upto is not None:
            # What a draft model read of its own wrong guesses is not the answer's.
            answer.drafted = min(answer.drafted, upto)
        behind = answer.drafted < min(answer.cached, self.draft_context)
        full = (answer.drafted if behind else answer.cached) // PAGE
        self._digest(answer, full)
        for place in range(answer.kept, full):
            self.pool.keep(answer.pages[place], answer.digests[place])
        answer.kept = max(answer.kept, full)

    def _reading(self) -> Iterator[Answer]:
        """Who has something left to read: those that have begun, then whoever can be admitted."""
        yield from [answer for answer in self.running if answer.state is State.PREFILL]
        while self.waiting and len(self.running) < self.max_sequences and self._admit(self.waiting[0]):
            yield self.running[-1]

    def _admit(self, answer: Answer) -> bool:
        """Whether there is room; those behind wait too: a large request must not starve."""
        usable = (answer.length - 1) // PAGE
        self._digest(answer, usable)
        if self._is_being_read(answer, usable):
            return False
        pages: list[int] = []
        if self.pool.keeps:
            for digest in answer.digests[:usable]:
                page = self.pool.find(digest)
                if page is None:
                    break
                pages.append(page)
        # A page more for each that runs: an answer that is thrown out at once again has been read for nothing.
        if pages_for(answer.length) - len(pages) + len(self.running) > self.pool.available and self.running:
            self.pool.give_back(pages)
            return False
        self.waiting.popleft()
        answer.move(State.PREFILL)
        answer.pages, answer.kept = pages, len(pages)
        answer.cached = len(pages) * PAGE
        answer.drafted = min(answer.cached, self.draft_context)
        self.reused_tokens += answer.cached
        if answer.reused is None:
            # What it finds again after it gave its room up is its own.
            answer.reused = answer.cached
        self.running.append(answer)
        return True

    def _is_being_read(self, answer: Answer, usable: int) -> bool:
        """Whether somebody reads right now what this one could then take from him."""
        if not self.pool.keeps:
            return False
        for other in self.running:
            if other.state is State.PREFILL:
                shared = 0
                for ours, theirs in zip(answer.digests[:usable], other.digests, strict=False):
                    if ours != theirs:
                        break
                    shared += 1
                if shared > other.cached // PAGE:
                    return True
        return False

    def _grows(self, answer: Answer, length: int | None = None) -> bool:
        """Whether it has the pages for so many tokens; younger ones give theirs up for it."""
        need = pages_for(answer.length if length is None else length)
        while len(answer.pages) < need:
            page = self.pool.take()
            if page is not None:
                answer.pages.append(page)
            elif self.running[-1] is answer or answer not in self.running:
                return False
            else:
                self._preempt(self.running[-1])
        return answer in self.running

    def _preempt(self, answer: Answer) -> None:
        self._release(answer)
        self.running.remove(answer)
        answer.move(State.QUEUED)
        self.waiting.appendleft(answer)
        self.preemptions += 1

    def _release(self, answer: Answer) -> None:
        self.pool.give_back(answer.pages)
        answer.pages, answer.cached, answer.drafted, answer.kept = [], 0, 0, 0

    def _digest(self, answer: Answer, pages: int) -> None:
        """Knows the answer's first pages by their digests."""
        for place in range(len(answer.digests), pages):
            before = answer.digests[-1] if place else answer.namespace
            answer.digests.append(digest_of(before, answer.part(place * PAGE, (place + 1) * PAGE)))


def shared_tokens(asked: int | None, most: int, device: str) -> int:
    """How many tokens of prompts a step reads in which answers go on: what was asked for, or what suits the device.

    Args:
        asked: None where nothing was.
        most: that any step reads.
        device: its type, as the framework calls it.
    """
    if asked is not None:
        return asked
    return min(SHARED, most) if device == "cpu" else most


def rows_of(work: Sequence[Work]) -> tuple[list[int], list[int], list[int], list[list[int]], list[int]]:
    """What a decoder is given of it: new tokens, their places, where each answer's begin, its pages, and who speaks."""
    parts = [[*part.answer.part(part.start, part.end), *part.draft] for part in work]
    starts = list(itertools.accumulate(map(len, parts), initial=0))
    ends = zip(work, starts[1:], strict=True)
    return (
        [token for part in parts for token in part],
        [place for part in work for place in range(part.start, part.end + len(part.draft))],
        starts,
        [part.answer.pages for part in work],
        [row for part, end in ends if part.speaks for row in range(end - 1 - len(part.draft), end)],
    )


def computable(work: Sequence[Work], finite: Sequence[bool]) -> tuple[list[Work], list[int], list[Work]]:
    """Who can go on, by which rows, and who cannot; a guess is cut where it makes the model overflow.

    Args:
        work: those that speak.
        finite: for each one's last token, and those of its draft, in order: whether its logits are numbers.
    """
    fine: list[Work] = []
    rows: list[int] = []
    failed: list[Work] = []
    start = 0
    for part in work:
        own = finite[start : start + 1 + len(part.draft)]
        good = own.index(False) if False in own else len(own)
        if good:
            fine.append(replace(part, draft=part.draft[: good - 1]))
            rows += range(start, start + good)
        else:
            failed.append(part)
        start += len(own)
    return fine, rows, failed
