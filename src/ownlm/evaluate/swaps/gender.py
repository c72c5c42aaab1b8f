"""Gender and names: she and he, her and his or him, wife and husband, Ms and Mr, Emily and Greg, Emily and Lakisha."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .lists import SwapLists
from .text import Found, Prose, small

GENDERS = ("she", "he")
_LISTS = {"women": "she", "men": "he"}
_BEFORE_OTHER_NAMES = frozenset(
    {"st", "saint", "san", "santa", "lake", "mount", "port", "fort", "king", "queen", "prince"}
)
# One that follows "Mr" is no first name; "Miss" is a title only before a name, and never where one misses somebody.
_TITLE = r"(?:Mrs|Ms|Miss|Mr)(?=\.?[ \t]+[A-Z])"


@dataclass(frozen=True)
class Name:
    """A first name on a list.

    Attributes:
        name: the name.
        gender: she or he.
        origin: whose list; None of names that tell none.
        place: on the list.
        other: its partner of the other gender.
    """

    name: str
    gender: str
    origin: str | None
    place: int
    other: str


def known_names(lists: SwapLists) -> dict[str, Name]:
    """All names that are found in texts."""
    found: dict[str, Name] = {}
    for origin, by_gender in [*lists.names.items(), (None, lists.known_names)]:
        for women, men in (("women", "men"), ("men", "women")):
            for place, name in enumerate(by_gender[women]):
                found.setdefault(name, Name(name, _LISTS[women], origin, place, by_gender[men][place]))
    return found


def find_names(prose: Prose, lists: SwapLists) -> list[Found]:
    """First names with those of other origins; each keeps its gender, and a name is always exchanged for the same one."""
    return [
        Found(
            start, end, name.origin, _by_origin(name, lists) | ({} if name.origin is None else {name.origin: name.name})
        )
        for start, end, name in _names(prose, lists)
    ]


def _by_origin(name: Name, lists: SwapLists) -> dict[str, str]:
    women = "women" if name.gender == "she" else "men"
    # A name of no known origin always gets the same place of the lists.
    count = len(lists.names["white"][women])
    place = name.place if name.origin else zlib.crc32(name.name.encode()) % count
    return {origin: by_gender[women][place] for origin, by_gender in lists.names.items()}


def _names(prose: Prose, lists: SwapLists) -> Iterator[tuple[int, int, Name]]:
    names = known_names(lists)
    for match in prose.find(names, capitals=True):
        if prose.before(match.start()) not in _BEFORE_OTHER_NAMES:
            yield match.start(), match.end(), names[match[0]]
    if prose.text.isupper():
        shouted = {name.upper(): one for name, one in names.items()}
        for match in prose.find(shouted, capitals=True):
            yield match.start(), match.end(), shouted[match[0]]


def find_gender(prose: Prose, lists: SwapLists) -> list[Found]:
    """Pronouns, nouns, titles and first names with those of the other gender."""
    found = [*_nouns(prose, lists), *_pronouns(prose, lists), *_titles(prose)]
    for start, end, name in _names(prose, lists):
        other = "he" if name.gender == "she" else "she"
        found.append(Found(start, end, name.gender, {name.gender: name.name, other: name.other}))
    return found


def _nouns(prose: Prose, lists: SwapLists) -> Iterator[Found]:
    partners = {word: (place, both) for both in lists.gender for place, word in enumerate(both)}
    for match in prose.find(partners):
        place, both = partners[small(match[0])]
        if match[0].lower() in ("female", "male") and small(prose.after(match.end())) in lists.not_of_people:
            continue
        yield Found(match.start(), match.end(), GENDERS[place], dict(zip(GENDERS, both, strict=True)))
    for group, words in lists.gender_one_way.items():
        other = "he" if group == "she" else "she"
        for match in prose.find(words):
            yield Found(match.start(), match.end(), group, {group: small(match[0]), other: words[small(match[0])]})


def _pronouns(prose: Prose, lists: SwapLists) -> Iterator[Found]:
    """her, hers, his and him: what follows says whether "her" is "his" or "him", and "his" is "her" or "hers"."""
    for match in prose.find(("her", "hers", "his", "him")):
        word = match[0].lower()
        alone = prose.stands_alone(match.end(), lists.function_words)
        gives = prose.before(match.start()) in lists.giving
        # "gave her 20 dollars", but "her 20 employees"
        alone = alone or (gives and re.match(r"\d", prose.after(match.end())) is not None)
        she, he = {
            "her": ("her", "him" if alone else "his"),
            "hers": ("hers", "his"),
            "him": ("her", "him"),
            "his": ("hers" if alone else "her", "his"),
        }[word]
        yield Found(match.start(), match.end(), "she" if word in ("her", "hers") else "he", {"she": she, "he": he})


def _titles(prose: Prose) -> Iterator[Found]:
    for match in prose.match(_TITLE, capitals=True):
        group = "he" if match[0] == "Mr" else "she"
        yield Found(match.start(), match.end(), group, {"she": "Ms", "he": "Mr"} | {group: match[0]})
