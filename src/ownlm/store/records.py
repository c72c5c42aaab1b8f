"""What the store keeps and gives back; frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

Role = Literal["use", "review", "admin"]
Rating = Literal["up", "down"]
# Each may do what those before it may.
ROLES: tuple[Role, ...] = ("use", "review", "admin")


@dataclass(frozen=True)
class ApiKey:
    """What is known of a key; the key itself is not, only its hash.

    Attributes:
        id: what the key is called by; it stands in the key itself and is no secret.
        name: whose it is, as its maker wrote.
        role: what its holder may do: ``use`` the models, ``review`` conversations as well, ``admin`` everything.
        requests_per_minute: None for no limit.
        tokens_per_day: tokens of prompts and answers in a day (UTC); None for no limit.
        created: when it was made.
        revoked: when it was revoked; None for one that is good.
        last_used: when it was last shown, to about a minute; None for never.
    """

    id: str
    name: str
    role: Role
    requests_per_minute: int | None
    tokens_per_day: int | None
    created: datetime
    revoked: datetime | None = None
    last_used: datetime | None = None

    def may(self, role: Role) -> bool:
        """Whether its holder may do what ``role`` may."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True)
class Usage:
    """What was used with one key on one day (UTC)."""

    key_id: str
    day: date
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Answer:
    """One of the answers to a prompt.

    Attributes:
        message: as it was sent: role, content, and what else it has, such as tool calls.
        finish_reason: as it was sent.
    """

    message: Mapping[str, Any]
    finish_reason: str | None = None


@dataclass(frozen=True)
class Conversation:
    """One request as the model saw it, with its answers: everything said up to then, and what was said to it.

    Attributes:
        id: the answer's id, as the client got it.
        model: the name the client asked for.
        release: the hash of everything that shapes an answer.
        messages: the prompt's messages, in order; a plain completion has one of the role ``text``.
        answers: in the order of their index.
        options: how it was sampled, and what else the client sent that shapes the answer.
        prompt_tokens: of the rendered prompt.
        completion_tokens: of all answers.
        timings: seconds by name, such as queued, first_token, total.
        key_id: with whose key; empty where keys are off.
        created: with its time zone; None for now.
    """

    id: str
    model: str
    release: str
    messages: Sequence[Mapping[str, Any]]
    answers: Sequence[Answer]
    options: Mapping[str, Any] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)
    key_id: str = ""
    created: datetime | None = None


@dataclass(frozen=True)
class Feedback:
    """What somebody said about one answer.

    Attributes:
        conversation_id: of the conversation that the answer is in.
        answer: the answer's index.
        rating: ``up`` or ``down``.
        reason: why, in their words; empty for none given.
        correction: what the answer should have been; empty for none given.
        key_id: with whose key; empty where keys are off.
        created: when.
    """

    conversation_id: str
    answer: int
    rating: Rating
    reason: str
    correction: str
    key_id: str
    created: datetime


@dataclass(frozen=True)
class Purged:
    """How much was removed for its age."""

    conversations: int
    feedback: int


@dataclass(frozen=True)
class StoredScore:
    """One metric of one task, as an evaluation found it.

    Attributes:
        task, metric, shots, value, low, high, n, best: as in a score; NaN for what is no number.
        content: the hash of the items and of how they are shown; only scores of the same content compare.
        higher_is_better: None where neither is.
        influences: what each unit of evidence adds to the value, as float32; empty where it is not kept.
    """

    task: str
    metric: str
    shots: int
    value: float
    low: float
    high: float
    n: int
    content: str = ""
    higher_is_better: bool | None = None
    best: float | None = None
    influences: bytes = b""


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of a model.

    Attributes:
        model: the model's name, as its user wrote it.
        release: the hash of what was measured: weights, tokenizer, settings.
        scores: in their order.
        asked: the hash of what was asked for: tasks, examples, items.
        conditions: how it was measured: suites, tasks, dtype, ...
        created: None for now.
        id: "" for one that the store is to name.
    """

    model: str
    release: str
    scores: Sequence[StoredScore]
    asked: str = ""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    created: datetime | None = None
    id: str = ""
