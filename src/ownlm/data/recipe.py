"""The recipe of a data set: everything that decides what ``ownlm data build`` makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ..config import Config, merge, read_yaml, validate
from ..errors import ConfigError
from .contamination.options import DecontaminationOptions, EvaluationSet
from .duplicates.options import DuplicateOptions
from .extract.options import ExtractOptions
from .filters import FilterOptions, columns_of, rules_of
from .personal.options import PersonalOptions
from .signals.measurement import SignalOptions
from .sources.options import ReadLimits, SourceOptions
from .split import SplitOptions

# Bytes of a source's name, which with a number becomes a file's.
LONGEST_NAME = 100


class TokenizerTraining(Config):
    """A tokenizer trained on the training documents."""

    kind: Literal["bpe", "wordpiece", "unigram"] = "bpe"
    """Byte-level BPE as GPT-2's, WordPiece as BERT's, or SentencePiece's Unigram."""
    vocab_size: int = Field(default=8192, gt=0)
    """The most ids there may be."""
    bytes: int = Field(default=200_000_000, gt=0)
    """Text to train on; of more, documents are taken evenly over all."""


class TokenOptions(Config):
    """How the documents become tokens."""

    kind: Literal["auto", "text", "chat"] = "auto"
    """`chat` learns the answers of conversations, `text` every token; `auto` is chat where all documents are."""
    max_length: int | None = Field(default=None, gt=0)
    """Conversations with more tokens are left out, counted as such; texts are never cut."""


class Recipe(Config):
    """A data set's recipe."""

    sources: tuple[SourceOptions, ...] = Field(min_length=1)
    """What to read: files and folders, databases, data sets of the hub."""
    limits: ReadLimits = ReadLimits()
    """How large, deep and slow the input may be."""
    extract: ExtractOptions = ExtractOptions()
    """How text is taken out of pages and documents, and repaired."""
    signals: SignalOptions = SignalOptions()
    """What is measured of each document."""
    quality: str | None = None
    """A quality model's folder, made by `ownlm data quality train`; its score is the column `quality`."""
    filters: FilterOptions = FilterOptions()
    """Which documents to drop, as expressions over the signals."""
    personal_data: PersonalOptions = PersonalOptions()
    """What becomes of personal data and secrets."""
    duplicates: DuplicateOptions = DuplicateOptions()
    """Which copies to drop."""
    decontaminate: DecontaminationOptions = DecontaminationOptions()
    """Evaluation sets whose items must not be trained on; a list is the sets alone."""
    split: SplitOptions = SplitOptions()
    """How much is held out."""
    tokenizer: str | TokenizerTraining | None = None
    """A model or tokenizer by name or folder, or how to train one; without it no tokens are written."""
    tokens: TokenOptions = TokenOptions()
    """How the documents become tokens."""

    @field_validator(
        "decontaminate", mode="before", json_schema_input_type=DecontaminationOptions | list[EvaluationSet]
    )
    @classmethod
    def _sets_alone_are_a_list(cls, value: Any) -> Any:
        return {"sets": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _names_differ(self) -> Recipe:
        taken: dict[str, str] = {}
        for name in (source.name for source in self.sources):
            if len(name.encode()) > LONGEST_NAME:
                raise ValueError(f"a source's name has more than {LONGEST_NAME} bytes: '{name[:40]}...'")
            folder = folder_name(name).casefold()
            if folder in taken:
                if taken[folder] == name:
                    raise ValueError(f"two sources are named '{name}'")
                raise ValueError(f"two sources would share a folder: '{taken[folder]}' and '{name}'")
            taken[folder] = name
        return self

    @model_validator(mode="after")
    def _quality_is_known(self) -> Recipe:
        for name, rule in rules_of(self.filters).items():
            if self.quality is None and "quality" in columns_of(rule):
                hint = "name a model as 'quality' in the recipe, made by ownlm data quality train"
                raise ConfigError("there is no column 'quality'", where=f"filters.drop.{name}", hint=hint)
        return self


def folder_name(source: str) -> str:
    """A source's name as a folder's; those of a recipe differ, on a disk that takes A and a for the same as well."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in source)


def read_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe from a YAML file, with dotted overrides.

    Raises:
        ConfigError: not YAML, a wrong value, or an unknown key, which the message names with the nearest known one.
    """
    values = read_yaml(path)
    if not values:
        raise ConfigError("this recipe is empty", where=str(path), hint="name at least one source")
    return validate(Recipe, merge(values, overrides or {}), source=str(path))
