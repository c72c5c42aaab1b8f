"""What the user says about decontamination: the evaluation sets, and when a match is a leak."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...config import Config

# Matches of a lower score are not recorded.
Score = Annotated[float, Field(ge=0.4, le=1)]


class EvaluationSet(Config):
    """An evaluation set whose items must not stand in the training text."""

    name: Annotated[str, Field(min_length=1)]
    """What the report calls it."""
    path: str | list[str]
    """Its files: JSON Lines, JSON (a list, or SQuAD's format), CSV, TSV, Parquet, or text: a text a paragraph, or
    a line where there is no blank line."""
    question: str | None = None
    """The field that holds the question; guessed from the usual names when not given."""
    answer: str | None = None
    """The field that holds the answer, its letter, or its place among the choices; guessed when not given."""
    passage: str | None = None
    """The field that holds the passage a question is about; guessed when not given."""
    choices: str | None = None
    """The field that holds the choices; guessed when not given."""
    threshold: Score | None = None
    """This set's own threshold."""


class DecontaminationOptions(Config):
    """How evaluation items are found in training text, and what is done about them."""

    sets: tuple[EvaluationSet, ...] = ()
    """The evaluation sets."""
    action: Literal["drop", "cut", "report"] = "drop"
    """What happens to a leak: its document is dropped, the matched region is cut out, or it is only reported."""
    threshold: Score = 0.6
    """The least score of a leak, from 0.4 to 1."""
    ngram: Annotated[int, Field(ge=2, le=8)] = 3
    """How many words in a row begin a match. Longer ones miss short questions that were reworded."""
    near: Annotated[int, Field(ge=1, le=1000)] = 50
    """How many words away from the question its answer is looked for."""
    common: Annotated[int, Field(ge=1)] = 20
    """A question found without its answer in more documents than this is common text, and no leak."""

    @model_validator(mode="after")
    def _names_differ(self) -> DecontaminationOptions:
        names = [chosen.name for chosen in self.sets]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two evaluation sets are named '{min(twice)}'")
        return self
