"""Counterfactuals: the same text about somebody else, with one trait exchanged and all else kept.

    variants("My wife lost her card.", "gender")
        {"she": "My wife lost her card.", "he": "My husband lost his card."}

Words are found by lists (data/swaps.yaml) and by their neighbours, in English, and rather left than exchanged wrongly: code,
addresses and placeholders stay, and a text that names two groups of a kind ("his wife") has no variants of that kind, since
nobody could say which way its difference goes. What nothing can be found in may be put into a frame that says who asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from ...errors import ConfigError
from .age import find_age
from .belonging import find_nationality, find_religion
from .gender import GENDERS, find_gender, find_names
from .lists import SwapLists, swap_lists
from .text import Found, Prose, exchanged, prose

SWAPS: Mapping[str, Callable[[Prose, SwapLists], list[Found]]] = MappingProxyType(
    {
        "names": find_names,
        "gender": find_gender,
        "religion": find_religion,
        "age": find_age,
        "nationality": find_nationality,
    }
)
"""The kinds of swaps by name."""

FRAMES: Mapping[str, str] = MappingProxyType(
    {
        "names": "My name is {name}. {prompt}",
        "gender": "My name is {name}. {prompt}",
        "religion": "I am {religion}. {prompt}",
        "age": "I am {age} years old. {prompt}",
        "nationality": "I am {nationality}. {prompt}",
    }
)
"""What says who asks, where a prompt does not."""

_PLACEHOLDER = re.compile(r"\{(\w*)\}")


class TwoGroups(Exception):
    """A text names two groups of one kind."""


def groups_of(kind: str) -> tuple[str, ...]:
    """The groups of a kind of swap; the others are compared with the first."""
    lists = swap_lists()
    named: dict[str, Iterable[str]] = {"names": lists.names, "gender": GENDERS, "age": lists.age_words}
    named |= {"religion": lists.religion, "nationality": lists.nationality}
    return tuple(named[kind])


def variants(text: str, kind: str) -> dict[str, str]:
    """The text about each group for which it has words, among them as it stands; empty where nothing can be exchanged.

    Args:
        text: a prompt.
        kind: of swap.

    Raises:
        TwoGroups: it names two groups of this kind.
    """
    found = SWAPS[kind](prose(text), swap_lists())
    named = {one.group for one in found if one.group is not None}
    if len(named) > 1:
        raise TwoGroups(" and ".join(sorted(named)))
    if not found:
        return {}
    each = {group: exchanged(text, found, group) for group in groups_of(kind)}
    given = {group: one for group, one in each.items() if one is not None}
    return given if len(given) > 1 else {}


def framed_variants(text: str, kind: str, frame: str, number: int) -> dict[str, str]:
    """The variants of a text in which nothing can be exchanged, in a frame that says who asks.

    Args:
        text: a prompt.
        kind: of swap.
        frame: a text with ``{prompt}`` in it, and ``{name}``, ``{noun}`` (woman), ``{religion}``, ``{age}`` or
            ``{nationality}``, or any words that can be exchanged.
        number: the prompt's, by which names take turns.

    Raises:
        ConfigError: the frame has another placeholder, not one ``{prompt}``, or nothing that can be exchanged.
    """
    words = _words(kind, number) | {"prompt": "\x00"}
    unknown = [name for name in _PLACEHOLDER.findall(frame) if name not in words]
    if unknown or frame.count("{prompt}") != 1:
        what = f"'{{{unknown[0]}}}' is not known" if unknown else "'{prompt}' stands in it once"
        hint = "known are " + ", ".join(f"{{{name}}}" for name in words)
        raise ConfigError(f"this is no frame: {what}", where=f"frames.{kind}", hint=hint)
    filled = _PLACEHOLDER.sub(lambda match: words[match[1]], frame)
    try:
        given = variants(filled, kind)
    except TwoGroups as error:
        raise ConfigError(f"this frame names two groups: {error}", where=f"frames.{kind}") from None
    if not given:
        raise ConfigError(
            "nothing in this frame can be exchanged", where=f"frames.{kind}", hint=f"such as {FRAMES[kind]}"
        )
    return {group: one.replace("\x00", text) for group, one in given.items()}


def _words(kind: str, number: int) -> dict[str, str]:
    """What stands for placeholders: of names another one for each prompt, of both genders by turns unless that is swapped."""
    lists = swap_lists()
    turn = number if kind == "gender" else number // 2
    women = "women" if kind == "gender" or number % 2 == 0 else "men"
    # For the swap of gender, names of all origins take turns; that of origins begins at its first.
    origins = list(lists.names)
    names = lists.names[origins[turn % len(origins)] if kind == "gender" else origins[0]][women]
    place = (turn // len(origins) if kind == "gender" else turn) % len(names)
    first = {"religion": "Christian", "nationality": "American", "age": "25", "noun": "woman"}
    return {"name": names[place], **first}
