"""Tokens guessed ahead of answers, so that one pass of the model settles several (Leviathan et al. 2023).

Three guess, in this order: a constraint that leaves no choice; the text itself, where its last tokens stood before
(drafts.py); and a draft model, which is a smaller one with the same tokenizer. The model reads all of a guess in one
pass, and which of it is right is decided by the answer's own draws (sampler.sample_drafts), so a guess may save time and
never changes an answer.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from .decoder import Decoder, check_writes, make_decoder
from .drafts import Drafter, Pace
from .draw import Draw
from .native_decoder import runs_natively
from .packing import KINDS
from .pages import PAGE
from .requests import Answer, State
from .scheduler import Scheduler, Work

# Rows of a pass up to which another costs the kernels little: the weights are read for the first (docs/lab-notes.md).
CHEAP_ROWS = 8

log = logging.getLogger(__name__)


class DraftModel:
    """Guesses greedily, and keeps keys and values of its own in pages of the same numbers as the model's.

    So the cache has one bookkeeping: ``Answer.drafted`` says how many of an answer's tokens this one has read, and a page
    is found by others only when both have filled it.

    Args:
        decoder: runs it, with as many pages as the model has.
        context: the most tokens it reads; an answer that is longer is not guessed at.
        vocab: how many tokens the tokenizer has.
    """

    def __init__(self, decoder: Decoder, context: int, vocab: int) -> None:
        self.context = context
        self.decoder, self._vocab = decoder, vocab

    def guess(self, plan: Sequence[Work], counts: Mapping[Answer, int]) -> dict[Answer, list[int]]:
        """Reads what it lacks of the plan's answers, and guesses at some of them.

        Args:
            plan: what the model is about to read.
            counts: how many tokens to guess, for which there are pages. One pass guesses one token for all of them.
        """
        guesses: dict[Answer, list[int]] = {answer: [] for answer in counts}
        parts = [
            (work.answer, work.answer.part(work.answer.drafted, min(work.end, self.context)))
            for work in plan
            if work.answer in counts or self._must_read(work)
        ]
        while parts:
            starts = list(itertools.accumulate((len(tokens) for _, tokens in parts), initial=0))
            guessing = [
                (answer, end - 1) for (answer, _), end in zip(parts, starts[1:], strict=True) if answer in counts
            ]
            logits = self.decoder(
                [token for _, tokens in parts for token in tokens],
                [place for a, tokens in parts for place in range(a.drafted, a.drafted + len(tokens))],
                starts,
                [answer.pages for answer, _ in parts],
                [row for _, row in guessing],
            )
            for answer, tokens in parts:
                answer.drafted += len(tokens)
            if guessing:
                for (answer, _), token in zip(guessing, logits[:, : self._vocab].argmax(-1).tolist(), strict=True):
                    guesses[answer].append(token)
            # The last guess is not read: whether it is right is not known yet.
            parts = [(answer, guesses[answer][-1:]) for answer, _ in guessing if len(guesses[answer]) < counts[answer]]
        return guesses

    def _must_read(self, work: Work) -> bool:
        """Whether it reads along without guessing: prompts as they come, and answers by whole pages, which costs less."""
        lacks = min(work.end, self.context) - work.answer.drafted
        return lacks > 0 and (work.answer.state is State.PREFILL or lacks >= PAGE or work.end >= self.context)


def make_draft_model(model: Transformer, tokenizer: Tokenizer, weights: str, pages: int) -> DraftModel:
    """A draft model over as many pages; its weights are kept as the model's are, where the kernels run it.

    Raises:
        ModelError: it has no language-model head, or the tokenizer has tokens that it does not know.
    """
    check_writes(model)
    config = model.config
    tokenizer.check_fits(config.vocab_size, "draft_model")
    decoder = make_decoder(model, weights if runs_natively(model) else "auto", pages)
    return DraftModel(decoder, min(config.max_positions, pages * PAGE), tokenizer.vocab_size)


@dataclass(eq=False)
class _Guided:
    """What guesses at an answer, and whose its last guess was; a constraint's is right and needs no judgement."""

    draw: Draw
    lookup: Drafter
    pace: Pace
    last: Drafter | Pace | None = field(default=None)


class Speculation:
    """Decides at which answers to guess, how far, and by what.

    Args:
        scheduler: whose plans they are.
        kind: how the model's weights are kept.
        drafts: the most tokens guessed for an answer; 0 is never. None is what is cheap: with the kernels, a few for a
            few answers at once; elsewhere each answer with a guess takes a pass of its own, so with a draft model one
            answer alone is guessed at, and without one none.
        model: the draft model.

    Attributes:
        guessed_tokens: tokens guessed since the start.
        right_tokens: how many of them were right.
    """

    def __init__(
        self, scheduler: Scheduler, *, kind: str, drafts: int | None = None, model: DraftModel | None = None
    ) -> None:
        self._scheduler, self._natively, self._drafts = scheduler, kind in KINDS, drafts
        self._use(model)
        self._guided: dict[Answer, _Guided] = {}
        self.guessed_tokens = self.right_tokens = 0

    def reserve(self) -> None:
        """Takes that cache's memory now."""
        if self._model is not None:
            self._model.decoder.reserve()

    def begin(self, answer: Answer, draw: Draw) -> None:
        """An answer was asked for."""
        most = max(1, self._most)
        self._guided[answer] = _Guided(draw, Drafter(answer.prompt, most=most), Pace(most))

    def end(self, answer: Answer) -> None:
        """It has ended."""
        del self._guided[answer]

    def guessed(self, plan: list[Work]) -> list[Work]:
        """The plan with guesses at what follows, as far as reading them along costs little."""
        drafts: dict[Answer, Sequence[int]] = {}
        counts: dict[Answer, int] = {}
        for work, room in self._rooms(plan):
            answer, guided = work.answer, self._guided[work.answer]
            guided.last, guess = None, guided.draw.forced()[:room]
            if not guess:
                guided.last, guess = guided.lookup, guided.lookup.propose(room)
            if guess:
                drafts[answer] = guess[: self._scheduler.room(work, len(guess))]
            elif self._model is not None:
                guided.last = guided.pace
                count = guided.pace.next(min(room, self._model.context - work.end + 1))
                if count := self._scheduler.room(work, count):
                    counts[answer] = count
        drafts |= self._by_model(plan, counts)
        return [replace(work, draft=tuple(drafts.get(work.answer, ()))) for work in plan]

    def judged(self, work: Work, taken: Sequence[int]) -> None:
        """An answer goes on with these tokens: those of its guess that were right, and one more."""
        guided, right = self._guided[work.answer], len(taken) - 1
        if guided.last is not None:
            guided.last.judged(len(work.draft), right)
        guided.lookup.took(taken)
        self.guessed_tokens += len(work.draft)
        self.right_tokens += right

    def _use(self, model: DraftModel | None) -> None:
        cheap = CHEAP_ROWS - 1 if self._natively or model is not None else 0
        self._most = cheap if self._drafts is None else self._drafts
        self._answers = CHEAP_ROWS if self._natively or self._drafts is not None else 1
        self._model = model
        self._scheduler.draft_context = 0 if model is None else model.context

    def _rooms(self, plan: Sequence[Work]) -> list[tuple[Work, int]]:
        """At whom to guess, and the most tokens of each."""
        speaking = sum(work.speaks for work in plan)
        each = min(self._most, CHEAP_ROWS // speaking - 1) if 0 < speaking <= self._answers else 0
        if each < 1 or sum(work.end - work.start for work in plan) > CHEAP_ROWS:
            return []
        rooms = [(work, min(each, work.answer.limit - len(work.answer.tokens) - 1)) for work in plan if work.speaks]
        return [(work, room) for work, room in rooms if room > 0 and work.answer.state is State.DECODE]

    def _by_model(self, plan: Sequence[Work], counts: Mapping[Answer, int]) -> Mapping[Answer, Sequence[int]]:
        if self._model is None:
            return {}
        try:
            return self._model.guess(plan, counts)
        except Exception:
            # Answers need no guesses, so they go on; what it has read or not means nothing from here on.
            log.exception("the draft model failed, and is not used any more")
            self._use(None)
            return {}
