"""What decides the tokens of one answer besides the model: its random numbers, what it has said, what it must become.

The random number of a step is a function of the seed, the prompt, the answer's index and the number of its tokens so
far, and of nothing that is kept: an answer that is computed again, or ahead of time, draws the same.
"""

from __future__ import annotations

import array
import functools
import hashlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from .grammars import CompiledGrammar, Matcher
from .requests import SamplingOptions


@dataclass(frozen=True)
class Step:
    """What one row of logits is drawn by.

    Attributes:
        options: of its answer.
        uniform: the step's random number, from 0 up to 1; 0 for a greedy answer.
        mask: which tokens the constraint allows, a bit each, low first: [vocab / 8] bytes; None where there is none.
        banned: ids that cannot be drawn: those that would end an answer too early.
        seen: ids in the prompt or in the answer, each once.
        counts: how often the answer has each of ``seen``.
    """

    options: SamplingOptions
    uniform: float
    mask: np.ndarray | None
    banned: np.ndarray
    seen: np.ndarray
    counts: np.ndarray


class Draw:
    """The state of one answer, made when it is first needed: most of a long queue only waits.

    Args:
        options: how it is drawn.
        seed: with the prompt and ``index`` it decides every random number of the answer.
        prompt: token ids.
        index: which of the request's answers.
        stop_ids: tokens with which the model ends an answer.
        grammar: of the options' constraint.

    Attributes:
        stop_ids: tokens that end this answer.
        tokens: what it has so far.
    """

    def __init__(
        self,
        options: SamplingOptions,
        *,
        seed: int | None,
        prompt: Sequence[int],
        index: int,
        stop_ids: Set[int] = frozenset(),
        grammar: CompiledGrammar | None = None,
    ) -> None:
        self.options = options
        self.stop_ids = frozenset(options.stop_token_ids) | (frozenset() if options.ignore_eos else stop_ids)
        self.tokens: list[int] = []
        self._seed, self._prompt, self._index = seed, prompt, index
        self._model_stop_ids, self._grammar = stop_ids, grammar

    @property
    def finished(self) -> bool:
        """Whether the constraint is fulfilled and nothing can be added."""
        return self._matcher is not None and self._matcher.must_stop

    @property
    def failure(self) -> UserError | None:
        """Why the answer cannot go on."""
        return None if self._matcher is None else self._matcher.failure

    def uniform(self, step: int) -> float:
        """The random number for the token after so many: from 0 up to 1, a multiple of 2**-53."""
        if self.options.temperature == 0:
            return 0.0
        digest = hashlib.blake2b(step.to_bytes(8, "little"), digest_size=8, key=self._key).digest()
        return (int.from_bytes(digest, "little") >> 11) * 2.0**-53

    def took(self, token: int) -> None:
        """The answer goes on with this token."""
        if self._matcher is not None:
            self._matcher.took(token)
        if self._penalised:
            self._seen.add(token, 1)
        self.tokens.append(token)

    def back(self, count: int) -> None:
        """Takes back the answer's last ``count`` tokens."""
        for _ in range(count):
            token = self.tokens.pop()
            if self._penalised:
                self._seen.add(token, -1)
        if self._grammar is not None and count:
            if self._matcher is not None and self._matcher.failure is None:
                self._matcher.back(count)
            else:
                # What failed was not part of the answer.
                self.__dict__["_matcher"] = self._grammar.matcher(self.tokens)

    def step(self) -> Step:
        """What the next token is drawn by."""
        seen, counts = self._seen.arrays() if self._penalised else (_NONE, _NONE)
        mask, banned = self._limits()
        return Step(self.options, self.uniform(len(self.tokens)), mask, banned, seen, counts)

    def steps(self, draft: Sequence[int]) -> Iterator[Step]:
        """What the next token is drawn by, and those after each token of a draft; the answer stays as it is.

        Fewer steps come where the constraint does not allow the draft.
        """
        taken = 0
        try:
            yield (step := self.step())
            for token in draft:
                if self.failure is not None or token in self.stop_ids or not _allows(step.mask, token):
                    return
                self.took(token)
                taken += 1
                if self.finished:
                    return
                step = self.step()
                if self.failure is not None:
                    return
                yield step
        finally:
            self.back(taken)

    @functools.cached_property
    def _key(self) -> bytes:
        digest = hashlib.blake2b(f"{self._seed}/{self._index}/".encode(), digest_size=32)
        digest.update(array.array("q", self._prompt).tobytes())
        return digest.digest()

    @functools.cached_property
    def _matcher(self) -> Matcher | None:
        return None if self._grammar is None else self._grammar.matcher()

    @functools.cached_property
    def _penalised(self) -> bool:
        options = self.options
        return options.repetition_penalty != 1 or options.frequency_penalty != 0 or options.presence_penalty != 0

    @functools.cached_property
    def _seen(self) -> _Seen:
        # Only the repetition penalty looks at the prompt.
        return _Seen(self._prompt if self.options.repetition_penalty != 1 else ())

    @functools.cached_property
    def _endings(self) -> np.ndarray:
        return np.array(sorted(self.stop_ids), np.int64)

    @functools.cached_property
    def _model_endings(self) -> np.ndarray:
        return np.array(sorted(self._model_stop_ids), np.int64)

    def _limits(self) -> tuple[np.ndarray | None, np.ndarray]:
        """The step's mask, and which tokens are banned beside it."""
        early = len(self.tokens) < self.options.min_tokens
        matcher = self._matcher
        if matcher is None:
            return None, self._endings if early else _NONE
        mask = matcher.mask().copy()
        if matcher.failure is not None:
            return None, _NONE
        # An answer that must be whole ends where it is, and by no token that the grammar takes for text.
        _set(mask, self._endings, matcher.may_stop)
        if early or self.options.ignore_eos:
            longer = mask.copy()
            _set(longer, self._model_endings, False)
            if early:
                _set(longer, self._endings, False)
            # The constraint comes first: where nothing can be added, the answer ends all the same.
            if longer.any():
                return longer, _NONE
        return mask, _NONE


class _Seen:
    """Which tokens there were, and how often in the answer; grows with it, at a constant cost for each token."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._places = {token: place for place, token in enumerate(dict.fromkeys(prompt))}
        self._in_prompt = len(self._places)
        room = max(64, 2 * len(self._places))
        self._ids, self._counts = np.zeros(room, np.int64), np.zeros(room, np.int64)
        self._ids[: len(self._places)] = list(self._places)

    def add(self, token: int, times: int) -> None:
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._ids):
            self._ids, self._counts = (np.concatenate((x, np.zeros_like(x))) for x in (self._ids, self._counts))
        self._ids[place] = token
        self._counts[place] += times

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """The ids, and how often the answer has each."""
        size = len(self._places)
        there = self._counts[:size] > 0
        there[: self._in_prompt] = True
        return self._ids[:size][there], self._counts[:size][there]


_NONE = np.zeros(0, np.int64)


def _set(mask: np.ndarray, ids: np.ndarray, allowed: bool) -> None:
    """Allows or forbids tokens, in place; an id may not stand twice."""
    for token in ids.tolist():
        byte, bit = int(mask[token >> 3]), 1 << (token & 7)
        mask[token >> 3] = byte | bit if allowed else byte & ~bit


def _allows(mask: np.ndarray | None, token: int) -> bool:
    return mask is None or bool(mask[token >> 3] >> (token & 7) & 1)
