"""What is asked of the engine, the life of each answer, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from pydantic import Field, InstanceOf, ValidationInfo, field_validator

from ..config import Config, validate
from .constraints import Constraint

FinishReason = Literal["stop", "length", "error"]


class _SamplingFields(Config):
    max_tokens: int = Field(256, ge=1)
    """The most tokens an answer has; one that reaches the end of the model's context ends there."""
    min_tokens: int = Field(0, ge=0)
    """Nothing ends an answer before it has so many tokens, but ``max_tokens`` and a constraint that is fulfilled."""
    temperature: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
    """Divides the logits: below 1 is more certain, above 1 more varied, and 0 always takes the likeliest token."""
    top_k: int = Field(0, ge=0)
    """Only the k likeliest tokens may be drawn; 0 is no limit."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Only the fewest likeliest tokens whose probabilities reach this sum may be drawn (Holtzman et al. 2020)."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Only tokens at least this fraction as likely as the likeliest may be drawn (Nguyen et al. 2024)."""
    repetition_penalty: float = Field(1.0, ge=0.001, le=1000)
    """Above 1 makes tokens of the prompt and of the answer so far less likely (Keskar et al. 2019)."""
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    """Taken off a token's logit once for each time that the answer has it already."""
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    """Taken off the logits of all tokens that the answer has already."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Added to the logits of these tokens, by id: from -100, which bans a token, to 100; given as a mapping or pairs."""
    constraint: InstanceOf[Constraint] | None = None
    """What the answer's text must be: JSON of a schema, a match of a regular expression, ... (constraints.py)."""
    seed: int | None = None
    """Makes drawn answers repeatable: the same seed, prompt and options give the same answers. None draws a seed."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer; it holds what stands before the first of them."""
    stop_token_ids: tuple[int, ...] = ()
    """Further tokens that end the answer, which does not hold them; they do so with ``ignore_eos`` as well."""
    n: int = Field(1, ge=1, le=128)
    """Answers to each prompt."""
    ignore_eos: bool = False
    """Whether to go on past the tokens that end an answer, as a measurement of speed does."""
    logprobs: int | None = Field(None, ge=0, le=20)
    """If set, each token comes with its log-probability and this many likeliest tokens with theirs."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("a stop text must not be empty")
        return value

    @field_validator("stop_token_ids")
    @classmethod
    def _token_ids(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        _check_ids(value)
        return value

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        return tuple(value.items()) if isinstance(value, Mapping) else value

    @field_validator("logit_bias")
    @classmethod
    def _within_bounds(cls, value: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        _check_ids([token for token, _ in value])
        if wrong := [bias for _, bias in value if not -100 <= bias <= 100]:
            raise ValueError(f"a bias is from -100 to 100, and this is {wrong[0]}")
        if len({token for token, _ in value}) < len(value):
            raise ValueError("a token has two biases")
        return value

    @field_validator("min_tokens")
    @classmethod
    def _can_end(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("max_tokens", value):
            raise ValueError(f"max_tokens is {info.data['max_tokens']}, and min_tokens cannot be more")
        return value


def _check_ids(ids: Sequence[int]) -> None:
    if wrong := [number for number in ids if number < 0]:
        raise ValueError(f"{wrong[0]} is not a token's id")


class SamplingOptions(_SamplingFields):
    """How an answer is drawn; frozen.

    Raises:
        ConfigError: a value out of its range, or an unknown name (with the nearest one).
    """

    def __init__(self, **values: Any) -> None:
        super().__init__(**dict(validate(_SamplingFields, values)))


class State(Enum):
    """Where an answer is in its life."""

    QUEUED = "queued"
    PREFILL = "prefill"
    DECODE = "decode"
    FINISHED = "finished"
    ABORTED = "aborted"
    FAILED = "failed"


# A prompt that the first token already ends goes from prefill to finished. Back to the queue goes who gave its pages up.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.PREFILL, State.ABORTED, State.FAILED}),
    State.PREFILL: frozenset({State.DECODE, State.QUEUED, State.FINISHED, State.ABORTED, State.FAILED}),
    State.DECODE: frozenset({State.QUEUED, State.FINISHED, State.ABORTED, State.FAILED}),
    State.FINISHED: frozenset(),
    State.ABORTED: frozenset(),
    State.FAILED: frozenset(),
}


@dataclass(eq=False)
class Answer:
    """One answer in the making: one of a request's ``n``.

    Attributes:
        request: the request's id.
        index: which of the request's answers this is.
        prompt: token ids.
        limit: the most tokens this answer can have: ``max_tokens``, or what the context has room for.
        seed: what it is drawn with; None where nothing is.
        namespace: what else the cache's content depends on, such as an adapter: pages are shared within it.
        state: see State; changed only by ``move``.
        tokens: what was generated, without the token that ended it.
        cached: how many tokens of prompt and answer the cache holds.
        drafted: how many of them a draft model has read, where there is one (speculation.py).
        pages: where it holds them.
        digests: what its full pages are known by.
        kept: how many of its pages others may find.
        reused: how many of the prompt's tokens the cache held when it was first admitted; None before.
    """

    request: int
    index: int
    prompt: tuple[int, ...]
    limit: int
    seed: int | None = None
    namespace: bytes = b""
    state: State = State.QUEUED
    tokens: list[int] = field(default_factory=list)
    cached: int = 0
    drafted: int = 0
    pages: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    kept: int = 0
    reused: int | None = None

    def move(self, state: State) -> None:
        """Goes to another state; a step the life of an answer does not have is our mistake."""
        assert state in TRANSITIONS[self.state], f"{self.state.value} -> {state.value}"
        self.state = state

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return not TRANSITIONS[self.state]

    @property
    def length(self) -> int:
        """How many tokens there are: the prompt's and those generated so far."""
        return len(self.prompt) + len(self.tokens)

    def part(self, start: int, end: int) -> list[int]:
        """Some of these tokens."""
        size = len(self.prompt)
        if end <= size:
            return list(self.prompt[start:end])
        if start >= size:
            return self.tokens[start - size : end - size]
        return [*self.prompt[start:], *self.tokens[: end - size]]

    @property
    def most_cached(self) -> int:
        """The most tokens the cache may hold for it: all but the last, which is never read."""
        return len(self.prompt) + self.limit - 1


@dataclass(frozen=True)
class TokenLogprob:
    """How likely a token was, by the model's own logits: before temperature, penalties and limits.

    Attributes:
        token: the token that was taken.
        logprob: in nats.
        top: the likeliest tokens at that place and their log-probabilities, best first.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Event:
    """One token of one answer, or its end.

    Attributes:
        request: the request's id.
        index: which of the request's answers.
        text: what may be shown now; empty while a character or a possible stop text is incomplete.
        token: the token; None where the token is not part of the answer, as the one that ends it.
        logprob: of ``token``, where asked for.
        finish_reason: set in an answer's last event: ``stop`` (the model ended it, or a stop text, or a constraint
            that nothing can be added to), ``length`` (``max_tokens``, or the end of the context), ``error``.
        error: why an answer failed.
        reused: how many of the prompt's tokens were found in the cache, and not read.
    """

    request: int
    index: int
    text: str = ""
    token: int | None = None
    logprob: TokenLogprob | None = None
    finish_reason: FinishReason | None = None
    error: Exception | None = None
    reused: int = 0


@dataclass(frozen=True)
class Completion:
    """A whole answer.

    Attributes:
        text: the decoded answer, without special tokens and up to the first stop text.
        tokens: its ids, without the token that ended it; those of a stop text are among them.
        finish_reason: see Event.
        prompt_tokens: how many tokens the prompt had.
        index: which of the request's ``n`` answers.
        seed: what the answer was drawn with, and given again it gives the same answer; None for a greedy one.
        logprobs: one for each token, where asked for.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    index: int
    seed: int | None
    logprobs: tuple[TokenLogprob, ...] | None = None

    @classmethod
    def of(cls, answer: Answer, events: Sequence[Event], options: SamplingOptions) -> Completion:
        """An answer that has ended by itself, and all of its events."""
        reason = events[-1].finish_reason
        assert reason is not None
        return cls(
            text="".join(event.text for event in events),
            tokens=tuple(answer.tokens),
            finish_reason=reason,
            prompt_tokens=len(answer.prompt),
            index=answer.index,
            seed=answer.seed,
            logprobs=tuple(e.logprob for e in events if e.logprob) if options.logprobs is not None else None,
        )
