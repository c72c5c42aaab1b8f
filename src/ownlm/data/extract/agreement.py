"""Two extractions of one page made into a better one.

Trafilatura decides line by line and is right about nearly all it keeps, but now and then it misses a paragraph, or
stops where an advertisement cuts an article in two. Resiliparse keeps the page's main part as a whole, with more
clutter at its ends. What both found tells how the two run along each other, so a paragraph that only the second has can be judged
by its place: between two lines that both kept it belongs to the article, before and after them it is most likely the
page's furniture.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass

# In characters of the compared form. Both were varied by half and double, which changes F1 on the benchmark's pages by
# less than 0.001.
_PARAGRAPH = 100
_ANCHOR = 25
# Of places where a page says the same, those that are looked at.
_REPEATED = 100

_WORDS = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?…:\"”’»)\]。！？]$")
_CAPTION = re.compile(
    r"\([^()]{0,200}\b(?:photo|image|getty|ap|reuters|credit|afp)\b[^()]{0,200}\)$|^©|\bfile photo\b", re.I
)


def compared(line: str) -> str:
    """The form in which lines are compared: lower-case words, one space between them."""
    return " ".join(_WORDS.findall(line.lower()))


@dataclass(frozen=True)
class Lines:
    """A text's lines as they are, and as they are compared; an empty line is compared as ''."""

    shown: list[str]
    compared: list[str]

    @classmethod
    def of(cls, text: str) -> Lines:
        """The lines of a text."""
        shown = [line.rstrip() for line in text.split("\n")]
        return cls(shown, [compared(line) for line in shown])


def combine(precise: str, whole: str, links: Container[str]) -> str:
    """The text of a page from its two extractions.

    Args:
        precise: what the choosier extractor found; may be empty.
        whole: what the more generous one found.
        links: the page's links as compared lines; a paragraph that is one of them is a teaser.
    """
    ours, theirs = Lines.of(precise), Lines.of(whole)
    anchors = _anchors(ours, theirs)
    missed = _missed(theirs, anchors, links)
    if sum(len(theirs.compared[i]) for i in missed) > sum(map(len, ours.compared)):
        # Less than half of the running text was found: the page is not what the choosy extractor expects.
        places = [*anchors, *missed]
        return "\n".join(theirs.shown[min(places) : max(places) + 1])
    return "\n".join(_insert(ours, theirs, anchors, missed)) if missed else precise


def _anchors(ours: Lines, theirs: Lines) -> dict[int, int]:
    """Their lines that stand in ours as well, and in which of ours each begins."""
    whole: dict[str, int] = {}
    starts, length = [], 0
    for i, line in enumerate(ours.compared):
        whole.setdefault(line, i)
        starts.append(length)
        length += len(line) + 1
    everything = " ".join(ours.compared)
    beginnings = _beginnings(everything)
    found = {}
    for i, line in enumerate(theirs.compared):
        if len(line) < _ANCHOR:
            continue
        if line in whole:
            found[i] = whole[line]
            continue
        # Not just sought in the text, which for a page of many lines would take the square of its length.
        places = beginnings.get(line[:_ANCHOR], ())
        place = next((place for place in places if everything.startswith(line, place)), -1)
        if place >= 0:
            found[i] = bisect.bisect_right(starts, place) - 1
    return found


def _beginnings(text: str) -> dict[str, list[int]]:
    """Where words begin, by the characters from there on; the first places of those that stand in many."""
    places: dict[str, list[int]] = {}
    place = 0
    while place <= len(text) - _ANCHOR:
        held = places.setdefault(text[place : place + _ANCHOR], [])
        if len(held) < _REPEATED:
            held.append(place)
        if (space := text.find(" ", place)) < 0:
            break
        place = space + 1
    return places


def _missed(theirs: Lines, anchors: Container[int], links: Container[str]) -> list[int]:
    """Their paragraphs of running text that ours lacks."""
    times = Counter(theirs.compared)
    return [
        i
        for i, line in enumerate(theirs.compared)
        if len(line) >= _PARAGRAPH
        and i not in anchors
        and times[line] == 1
        and line not in links
        and _SENTENCE_END.search(theirs.shown[i])
        and not _CAPTION.search(theirs.shown[i])
    ]


def _insert(ours: Lines, theirs: Lines, anchors: dict[int, int], missed: Sequence[int]) -> list[str]:
    """Our lines with the missed paragraphs that lie between two anchors put where they belong."""
    out = [[line] for line in ours.shown]
    waiting: list[int] = []
    last = -1
    for i in sorted([*anchors, *missed]):
        if i not in anchors:
            waiting.append(i)
        elif anchors[i] >= last:
            if last >= 0:
                for paragraph in waiting:
                    _place(out, ours, theirs, paragraph, last, anchors[i])
            waiting, last = [], anchors[i]
    return [line for lines in out for line in lines]


def _place(out: list[list[str]], ours: Lines, theirs: Lines, paragraph: int, before: int, after: int) -> None:
    grams = _grams(theirs.compared[paragraph])
    # Lines of ours between the anchors that are parts of the paragraph, such as one that lost the text of its links.
    parts = [
        i for i in range(before + 1, after) if (own := _grams(ours.compared[i])) and 2 * len(own & grams) > len(own)
    ]
    if parts:
        if sum(len(ours.compared[i]) for i in parts) < len(theirs.compared[paragraph]):
            for i in parts:
                out[i] = []
            out[parts[0]] = [theirs.shown[paragraph]]
    elif 3 * len(grams & _grams(" ".join(ours.compared[before : after + 1]))) <= len(grams):
        out[before].append(theirs.shown[paragraph])


def _grams(line: str) -> set[tuple[str, ...]]:
    words = line.split()
    return {tuple(words[i : i + 4]) for i in range(len(words) - 3)}
