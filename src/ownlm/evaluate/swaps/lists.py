"""The lists of words that swaps are made of (data/swaps.yaml, where their sources stand)."""

from __future__ import annotations

import functools
from importlib import resources

import yaml
from pydantic import model_validator

from ...config import Config, validate

Names = dict[str, tuple[str, ...]]


class SwapLists(Config):
    """What stands in the file, which says what each is for."""

    names: dict[str, Names]
    known_names: Names
    gender: tuple[tuple[str, str], ...]
    gender_one_way: dict[str, dict[str, str]]
    not_of_people: frozenset[str]
    religion: dict[str, dict[str, str]]
    nationality: dict[str, dict[str, str]]
    country_names: dict[str, tuple[str, ...]]
    not_before_nationality: frozenset[str]
    age_words: dict[str, tuple[str, ...]]
    former: frozenset[str]
    people: frozenset[str]
    of_people: frozenset[str]
    function_words: frozenset[str]
    being: frozenset[str]
    giving: frozenset[str]

    @model_validator(mode="after")
    def _have_partners(self) -> SwapLists:
        lengths = {len(names) for by_gender in self.names.values() for names in by_gender.values()}
        if len(lengths) != 1 or len({len(names) for names in self.known_names.values()}) != 1:
            raise ValueError("lists of names that belong together have equal lengths")
        return self


@functools.cache
def swap_lists() -> SwapLists:
    """The lists, read once."""
    text = (resources.files(__package__).joinpath("..", "data", "swaps.yaml")).read_text(encoding="utf-8")
    return validate(SwapLists, yaml.safe_load(text), source="swaps.yaml")
