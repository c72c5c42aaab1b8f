"""Religion and nationality: whom a person belongs to.

Such words are about a person only sometimes: "a Mexican student" is one, "Mexican food" and "American Airlines" are none,
and a question about Christmas in churches has another right answer in mosques. So one that is about a person has to be
there; then all the others in the text go along with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from .lists import SwapLists
from .text import Found, Prose, small

_NAMED = frozenset({"named", "called", "mr", "ms", "mrs", "dear", "hi", "hello", "dr", "is"})
_ARTICLES = frozenset({"a", "an", "the", "this", "that", "another", "every", "each", "fellow", "devout", "practicing"})
_FROM = (
    r"(?:I am|I'm|I’m|he is|he's|he’s|she is|she's|she’s|we are|come|comes|came|originally|immigrated|moved here) from "
)
_OURS = r"(?:my|our|his|her|their|local|at|to|in) "


def find_religion(prose: Prose, lists: SwapLists) -> list[Found]:
    """What a person believes, and where the like-minded meet."""
    found, personal = _adherents(prose, lists, lists.religion)
    if any(one.group is None for one in found):
        return []
    said = {one.group for one in found}
    companions: list[Found] = []
    for slot in ("faith", "place", "places", "book"):
        by = {group: words[slot] for group, words in lists.religion.items() if slot in words}
        for match in prose.find(set(by.values())):
            if slot == "place" and prose.is_in_name(match.end()) and match[0][0].isupper():
                return []
            groups = [group for group, word in by.items() if word.lower() == small(match[0])]
            # A temple is a Hindu's or a Buddhist's: the rest of the text says whose.
            group = next((one for one in groups if one in said), groups[0])
            companions.append(Found(match.start(), match.end(), group, by))
            if slot == "place" and prose.match(_OURS + match[0]):
                personal = True
    return [*found, *companions] if personal else []


def find_nationality(prose: Prose, lists: SwapLists) -> list[Found]:
    """Where a person comes from."""
    found, personal = _adherents(prose, lists, lists.nationality)
    if any(one.group is None for one in found):
        return []
    by = {group: words["country"] for group, words in lists.nationality.items()}
    names = {name: group for group, name in by.items()}
    names |= {name: group for group, others in lists.country_names.items() for name in others}
    groups = {name.lower(): group for name, group in names.items()}
    for match in prose.find(names):
        group = groups[match[0].lower()]
        found.append(Found(match.start(), match.end(), group, by | {group: match[0]}))
    if not personal:
        options = "|".join(sorted(names, key=len, reverse=True))
        personal = bool(prose.match(f"{_FROM}(?:{options})"))
    return found if personal else []


def _adherents(prose: Prose, lists: SwapLists, words: Mapping[str, Mapping[str, str]]) -> tuple[list[Found], bool]:
    """Adjectives and nouns, and whether any is about a person; one without a group is part of a name."""
    slots = {slot: {group: of[slot] for group, of in words.items()} for slot in ("adjective", "noun", "plural")}
    groups = {word.lower(): (slot, group) for slot, of in slots.items() for group, word in of.items()}
    found: list[Found] = []
    personal = False
    for match in prose.find(groups):
        slot, group = groups[match[0].lower()]
        start, end, before = match.start(), match.end(), prose.before(match.start())
        if before in lists.not_before_nationality and words is lists.nationality:
            continue
        alone = prose.stands_alone(end, lists.function_words)
        if prose.is_in_name(end) and match[0][0].isupper():
            # Part of a name, which stays; then nothing else in the text may be exchanged either.
            found.append(Found(start, end, None, {}))
            continue
        if match[0] == "Christian" and before in _NAMED and _is_name(prose, start):
            continue
        if slot != "plural" and words[group]["adjective"] == words[group]["noun"]:
            # "Christian" is both: which, its neighbours say.
            slot = "noun" if alone and before not in lists.being else "adjective"
        following = prose.after_that(end, 3)
        near = following[:1] if following[:1] and following[0] in lists.function_words else following
        about = {small(one) for one in near}
        personal = (
            personal
            or slot == "plural"
            or (slot == "noun" and (before in _ARTICLES or before in lists.people or alone))
            or (slot == "adjective" and alone and before in lists.being)
            or not lists.people.isdisjoint(_stems(about))
            or not lists.of_people.isdisjoint(about)
        )
        found.append(Found(start, end, group, slots[slot]))
    return found, personal


def _is_name(prose: Prose, start: int) -> bool:
    """Whether "Christian" is what somebody is called: "my name is Christian"."""
    before = prose.text[max(0, start - 20) : start].lower()
    return not before.rstrip().endswith(" is") or "name is" in before


def _stems(words: set[str]) -> set[str]:
    return words | {word.removesuffix("'s") for word in words}
