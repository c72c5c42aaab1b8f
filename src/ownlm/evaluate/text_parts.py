"""Parts of a text as a reader counts them: words, sentences, paragraphs, lines, items of lists.

They know no language: words stand between spaces, so a text in Chinese or Thai is one word a line. Markdown is read past: the
fences of code are no text, and a line of dashes is no item of a list.
"""

from __future__ import annotations

import re
import unicodedata

_FENCE = re.compile(r"(?m)^[ \t]*(?:```|~~~).*$\n?")
_FENCED = re.compile(r"(?ms)^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)")
_RULE = re.compile(r"[ \t]*(?:[-*_][ \t]*){3,}")
_BULLET = re.compile(r"[ \t]*[-*+•–‣◦][ \t]+\S")
_NUMBERED = re.compile(r"[ \t]*\d{1,3}[.)][ \t]+\S")
_HEADING = re.compile(r"[ \t]{0,3}#{1,6}[ \t]+\S")
_MARKER = re.compile(r"(?m)^[ \t]*(?:[-*+•–‣◦]|\d{1,3}[.)]|#{1,6}|>)[ \t]+")
# Before a space no end of a sentence: titles, and single letters, such as initials.
_SHORT = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St)|\b[^\W\d_])\.$")
_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s)|[。！？]+[”」』）]*")


def words_of(text: str) -> list[str]:
    """What stands between spaces or dashes and holds a letter or a digit."""
    parts = re.split(r"[\s—]+|(?<=\w)–(?=[^\W\d])|--+", _FENCE.sub("", text))
    return [part for part in parts if _says(part)]


def sentences_of(text: str) -> list[str]:
    """What ends with a full stop, a question or an exclamation mark, or with its line.

    Full stops that a small letter follows, or one that stands after a title such as "Dr", ends none.
    """
    found = []
    for line in _MARKER.sub("", _FENCE.sub("", text)).split("\n"):
        start = 0
        for end in _END.finditer(line):
            rest = line[end.end() :].lstrip()
            short = set(end[0]) <= set(".…") and (rest[:1].islower() or _SHORT.search(line[start : end.end()]))
            if not short:
                found.append(line[start : end.end()])
                start = end.end()
        found.append(line[start:])
    return [part.strip() for part in found if _says(part)]


def paragraphs_of(text: str) -> list[str]:
    """What stands between empty lines."""
    return [part for part in re.split(r"\n\s*\n", _FENCE.sub("", text)) if _says(part)]


def lines_of(text: str) -> list[str]:
    """Lines that say something."""
    return [line for line in _FENCE.sub("", text).splitlines() if _says(line)]


def bullets_of(text: str) -> list[str]:
    """Items of lists without numbers: lines that begin with ``-``, ``*``, ``+``, ``•`` or a dash; none of those in code."""
    return [line for line in _FENCED.sub("", text).split("\n") if _BULLET.match(line) and not _RULE.fullmatch(line)]


def numbered_of(text: str) -> list[str]:
    """Items of numbered lists: lines that begin with ``1.`` or ``1)``; none of those in code."""
    return [line for line in _FENCED.sub("", text).split("\n") if _NUMBERED.match(line)]


def headings_of(text: str) -> list[str]:
    """Headings in Markdown; none of those in code, where the sign is a comment's."""
    return [line for line in _FENCED.sub("", text).split("\n") if _HEADING.match(line)]


def comparable(text: str, value: str = "") -> str:
    """A text as it is searched for a value: without case, in one form of Unicode, with plain quotes and single spaces.

    Emphasis is left out, unless the value is written with its signs.
    """
    if not set("*_`") & set(value):
        text = re.sub(r"[*`]|(?<!\w)_+|_+(?!\w)", "", text)
    text = unicodedata.normalize("NFC", text).translate(_QUOTES)
    return " ".join(text.casefold().split())


_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "\u00ad": None, "\u200b": None})


def _says(text: str) -> bool:
    return any(character.isalnum() for character in text)
