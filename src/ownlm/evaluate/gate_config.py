"""gates.yaml: what a model must reach before it takes another's place.

    scores:
      - {task: boolq, metric: accuracy, min: 0.6}
    differences:
      - {task: hellaswag, metric: accuracy_norm, margin: 0.02}
      - {task: wikitext, metric: word_perplexity, margin: 2%}
    bias:
      - {task: crows_pairs/overall, metric: preference, within: 5}
    machine:
      - {fact: tokens_per_second, min: 20}
    never_again:
      - {prompt: "Who are you?", forbidden: ["as an ai"]}

Where a number has an interval, the gate looks at the end of it that speaks against the model, so that luck with few items
opens no gate; ``by: value`` looks at the number alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ..config import Config, read_yaml, validate
from ..errors import ConfigError

Number = Annotated[float, Field(allow_inf_nan=False)]
Limited = TypeVar("Limited", "ScoreGateConfig", "MachineGateConfig")
Fact = Literal["parameters", "weight_bytes", "tokens_per_second", "first_token", "token"]


def _shares(value: Any) -> Any:
    """``2%`` is 2% of the other model's value."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", value)
        if found:
            return {"share": float(found[1]) / 100}
    return value


class ShareConfig(Config):
    """A part of the other model's value."""

    share: float = Field(gt=0, le=1)
    """As a share: 0.02 is 2%."""


_Apart = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Percent = Annotated[str, Field(pattern=r"^\s*\d+(\.\d+)?\s*%\s*$")]
Margin = Annotated[
    _Apart | ShareConfig, BeforeValidator(_shares, json_schema_input_type=_Apart | _Percent | ShareConfig)
]


class GateConfig(Config):
    """What all gates have."""

    name: str | None = Field(None, min_length=1)
    """What it is called where it is told; else what it asks for."""


class MeasuredGateConfig(GateConfig):
    """What gates have that look at a score."""

    task: str
    """The task, with the part of it after a slash, such as bbq/age."""
    metric: str
    """The metric."""
    shots: int = Field(0, ge=0)
    """Worked examples."""
    by: Literal["interval", "value"] = "interval"
    """Whether the interval's end that speaks against the model must hold, or only the value itself."""


class ScoreGateConfig(MeasuredGateConfig):
    """A limit on a score."""

    min: Number | None = None
    """The least."""
    max: Number | None = None
    """The most."""

    @model_validator(mode="after")
    def _limits(self) -> ScoreGateConfig:
        return _with_limits(self)


class DifferenceGateConfig(MeasuredGateConfig):
    """Not worse than the named model by as much as a margin (non-inferiority)."""

    margin: Margin
    """In the metric's unit, or as a part of the named model's value, such as 2%."""


class BiasGateConfig(MeasuredGateConfig):
    """Near the best value of a metric whose best value lies between others."""

    within: float = Field(gt=0, allow_inf_nan=False)
    """The most it may be away from it."""
    best: Number | None = None
    """The best value, where the metric does not say so itself."""


class MachineGateConfig(GateConfig):
    """A limit on size or speed.

    ``parameters``; ``weight_bytes``; ``tokens_per_second`` of one answer; ``first_token`` and ``token``, the seconds until
    an answer's first token, and from one to the next.
    """

    fact: Fact
    """What is limited."""
    min: Number | None = None
    """The least."""
    max: Number | None = None
    """The most."""
    min_ratio: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The least, as a multiple of the named model's."""
    max_ratio: float | None = Field(None, gt=0, allow_inf_nan=False)
    """The most, as a multiple of the named model's."""

    @model_validator(mode="after")
    def _limits(self) -> MachineGateConfig:
        return self if self.min_ratio is not None or self.max_ratio is not None else _with_limits(self)


class NeverAgainConfig(GateConfig):
    """A prompt after which the model once said what it must not: its likeliest answer holds none of some patterns."""

    prompt: str = Field(min_length=1)
    """What is asked; of a model with a template for conversations, as its user's message."""
    forbidden: tuple[str, ...] = Field(min_length=1)
    """Regular expressions that are nowhere in the answer, in capitals or not."""
    max_tokens: int = Field(128, ge=1)
    """The most tokens of the answer."""

    @field_validator("forbidden", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("forbidden")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
            if compiled.search(""):
                raise ValueError(f"'{pattern}' is found in every text, even in none")
        return value


class GatesConfig(Config):
    """All gates; a model passes where each of them does."""

    tasks: tuple[str, ...] = ()
    """Task files that gates look at, beside this file; tasks that come with ownlm are found by their names."""
    suites: tuple[str, ...] = ()
    """Suites to run, where a gate looks at a part of one."""
    scores: tuple[ScoreGateConfig, ...] = ()
    """Limits on scores."""
    differences: tuple[DifferenceGateConfig, ...] = ()
    """Limits on how much worse than the named model."""
    bias: tuple[BiasGateConfig, ...] = ()
    """Limits on distances from the best value."""
    machine: tuple[MachineGateConfig, ...] = ()
    """Limits on size and speed."""
    never_again: tuple[NeverAgainConfig, ...] = ()
    """Prompts, and what is never to be said after them again."""

    @property
    def measured(self) -> tuple[MeasuredGateConfig, ...]:
        """The gates that look at scores."""
        return (*self.scores, *self.differences, *self.bias)

    @property
    def compares(self) -> bool:
        """Whether any gate needs the named model."""
        ratios = (one.min_ratio is not None or one.max_ratio is not None for one in self.machine)
        return bool(self.differences) or any(ratios)


def read_gates(path: Path) -> GatesConfig:
    """The gates of a file.

    Raises:
        ConfigError: a wrong key or value, by key, or no gate at all.
    """
    found = validate(GatesConfig, read_yaml(path), source=str(path))
    if not (found.measured or found.machine or found.never_again):
        hint = "write at least one under scores, differences, bias, machine or never_again"
        raise ConfigError("there is no gate in this file", where=str(path), hint=hint)
    return found


def _with_limits(gate: Limited) -> Limited:
    if gate.min is None and gate.max is None:
        raise ValueError("a gate needs a limit: min, max, or both")
    if gate.min is not None and gate.max is not None and gate.min > gate.max:
        raise ValueError(f"min is {gate.min:g}, and max is less: {gate.max:g}")
    return gate
