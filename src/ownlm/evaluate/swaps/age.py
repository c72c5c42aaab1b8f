"""Age: "a 25-year-old nurse" and "a 75-year-old nurse", "a young man" and "an old man"; never "my old phone"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .lists import SwapLists
from .text import Found, Prose, small

# Both sides are grown-up, and as far from each other.
YOUNG, YEARS = range(18, 40), 50
# The first years of old age, whose young partner would be a child.
_SIXTIES = range(60, 68)
_SUBJECT = r"(?:I am|I'm|I’m|he is|he's|he’s|she is|she's|she’s|who is|who's|who’s|turned|aged|age|turning|just turned)"
_NUMBER = r"(?P<age>\d\d)"


def find_age(prose: Prose, lists: SwapLists) -> list[Found]:
    """What a person's age is, in years and in words."""
    return [*_numbers(prose, lists), *_words(prose, lists)]


def _numbers(prose: Prose, lists: SwapLists) -> Iterator[Found]:
    people = "|".join(sorted(lists.people))
    seen: set[int] = set()
    patterns = [
        # "a 25-year-old nurse", "a 25-year-old with", "a 25 year old."
        (_NUMBER + r"[- ]year[- ]old", True),
        (rf"{_SUBJECT} (?:now |already |only |just )?{_NUMBER}(?: years old| years of age| ?y/?o)?", False),
        (rf"(?:{people}) (?:is|was|are|were) (?:now |already |only )?{_NUMBER}(?: years old| years of age)?", False),
    ]
    for pattern, before_noun in patterns:
        for match in prose.match(pattern):
            if before_noun and not _is_of_person(prose, match.end(), lists):
                continue
            if (
                not before_noun
                and re.match(r"[ \t]*(?:[%$€£]|[a-z])", prose.text[match.end() :])
                and not _ends(match[0])
            ):
                # "I am 25 minutes late"
                following = small(prose.after(match.end()))
                if following not in lists.function_words:
                    continue
            found = _number(match.start("age"), int(match["age"]))
            if found is not None and found.start not in seen:
                seen.add(found.start)
                yield found


def _ends(words: str) -> bool:
    return not words[-1].isdigit()


def _number(start: int, age: int) -> Found | None:
    if age in YOUNG:
        both = {"young": str(age), "old": str(age + YEARS)}
        return Found(start, start + 2, "young", both)
    if age - YEARS in YOUNG:
        return Found(start, start + 2, "old", {"young": str(age - YEARS), "old": str(age)})
    if age in _SIXTIES:
        return Found(start, start + 2, "old", {"young": str(age - 40), "old": str(age)})
    return None


def _words(prose: Prose, lists: SwapLists) -> Iterator[Found]:
    young, old = lists.age_words["young"], lists.age_words["old"]
    partners = {a: ("young", {"young": a, "old": b}) for a, b in zip(young, old, strict=True)}
    partners |= {b: ("old", {"young": a, "old": b}) for a, b in zip(young, old, strict=True)}
    partners["elderly"] = ("old", {"young": "young", "old": "elderly"})
    for match in prose.find(partners):
        following = prose.after_that(match.end(), 2)
        said = re.search(
            r"\b(?:I am|I'm|I’m|he is|he's|he’s|she is|she's|she’s|we are|they are) (?:(?:too|very|so|quite|getting) )*$",
            prose.text[: match.start()],
            re.IGNORECASE,
        )
        of_person = bool(following) and (
            following[0] in lists.people or (len(following) > 1 and following[1] in lists.people)
        )
        if _is_of_its_own(match[0].lower(), prose.before(match.start()), following, lists):
            of_person = False
        if of_person or (said is not None and prose.stands_alone(match.end(), lists.function_words)):
            group, by = partners[match[0].lower()]
            yield Found(match.start(), match.end(), group, by)


def _is_of_its_own(word: str, before: str, following: list[str], lists: SwapLists) -> bool:
    """Whether the word says something else of whom follows: "an old friend", "a young adult", "how old people are"."""
    if not following or before == "how":
        return True
    if word == "old" and not lists.former.isdisjoint(following):
        return True
    return following[0] in lists.function_words or (word == "young" and following[0] in ("adult", "adults"))


def _is_of_person(prose: Prose, end: int, lists: SwapLists) -> bool:
    """Whether "25-year-old" is said of somebody: it stands alone, or a person follows."""
    if prose.stands_alone(end, lists.function_words):
        return True
    return not lists.people.isdisjoint(prose.after_that(end, 3))
