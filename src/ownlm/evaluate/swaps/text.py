"""Words in a text: which may be exchanged, and how the text reads afterwards: capitals kept, "a" and "an" mended."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

# What is no prose: code, addresses, placeholders, tags, handles.
_NO_PROSE = re.compile(
    r"```.*?(?:```|\Z)"
    r"|`[^`\n]+`"
    r"|\b[a-z][a-z0-9+.-]*://\S+"
    r"|\bwww\.\S+"
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|\b(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|co|uk|de|eu|info|biz|app|dev|ai|me|tv|shop)\b(?:/\S*)?"
    r"|\{\{.*?\}\}|\{[^{}\n]*\}|\[[^\[\]\n]*\]\([^()\n]*\)|<[^<>\n]+>"
    r"|(?<!\w)[@#]\w+",
    re.DOTALL | re.IGNORECASE,
)
# A hyphen, a slash or a dot makes a word part of another ("Sino-American", "she/her", "her.name"); kinship by law does not.
_BEFORE = r"(?<![\w/\\.@#&-])"
_AFTER = r"(?![\w/\\@&]|\.\w|-(?!in-law\b))"
_NEXT = re.compile(r"[ \t]*\n?[ \t]*([\w'’]+)")
_PREVIOUS = re.compile(r"([\w'’]+)[ \t]*\n?[ \t]*$")
_ARTICLE = re.compile(r"(?<![\w'’-])(an?)([ \t]+|[ \t]*\n[ \t]*)$", re.IGNORECASE)
_SENTENCE_START = re.compile(r"(?:^|[.!?:][\"'”’)\]]*\s|\n|[\"“]|\x1e)\s*$")
_CONSONANT_SOUND = re.compile(r"(?:eu|uni(?!n)|use|usu|uti|one\b|once\b|ur[aeiou])", re.IGNORECASE)
_VOWEL_SOUND = re.compile(r"(?:[aeiou]|hour|honest|honou?r|heir|8|11\b|18\b)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """A word that can be exchanged.

    Attributes:
        start, end: where it stands.
        group: whom it is about; None where it does not tell.
        by: what stands there for each group, in its plain form; a group that lacks a word is not in it.
    """

    start: int
    end: int
    group: str | None
    by: Mapping[str, str]


@dataclass(frozen=True)
class Prose:
    """A text in which words are looked for.

    Attributes:
        text: all of it.
        closed: the parts in which nothing is found.
    """

    text: str
    closed: Sequence[tuple[int, int]]

    def find(self, words: Iterable[str], *, capitals: bool = False) -> list[re.Match[str]]:
        """Where whole words stand, the longest first of those that begin alike.

        Args:
            words: in their plain forms.
            capitals: whether they are found only in just these letters.
        """
        options = "|".join(re.escape(word).replace("'", "['’]") for word in sorted(words, key=len, reverse=True))
        if not options:
            return []
        return self.match(f"(?:{options})", capitals=capitals)

    def match(self, pattern: str, *, capitals: bool = False) -> list[re.Match[str]]:
        """Where a pattern stands that begins and ends with a whole word."""
        flags = re.NOFLAG if capitals else re.IGNORECASE
        found = re.finditer(_BEFORE + pattern + _AFTER, self.text, flags)
        return [one for one in found if not any(a < one.end() and one.start() < b for a, b in self.closed)]

    def after(self, end: int) -> str:
        """The next word in its own letters, where nothing but space stands before it; else nothing."""
        found = _NEXT.match(self.text, end)
        return found[1] if found else ""

    def after_that(self, end: int, count: int) -> list[str]:
        """As many following words, small, as no mark of punctuation ends."""
        found: list[str] = []
        while len(found) < count and (one := _NEXT.match(self.text, end)):
            found.append(small(one[1]))
            end = one.end()
        return found

    def before(self, start: int) -> str:
        """The word before, small, where nothing but space stands between; else nothing."""
        found = _PREVIOUS.search(self.text, max(0, start - 40), start)
        return small(found[1]) if found else ""

    def stands_alone(self, end: int, function_words: Collection[str]) -> bool:
        """Whether what follows is no word that the one that ends here belongs to."""
        following = small(self.after(end))
        return not following or following in function_words

    def is_in_name(self, end: int) -> bool:
        """Whether a word in capitals follows, as in "American Airlines", in a text that is not all capitals."""
        following = self.after(end)
        return following[:1].isupper() and following not in ("I",) and not self.text.isupper()


def prose(text: str) -> Prose:
    """A text with what is no prose closed."""
    return Prose(text, [match.span() for match in _NO_PROSE.finditer(text)])


def small(word: str) -> str:
    """A word as lists have it."""
    return word.lower().replace("’", "'")


def exchanged(text: str, words: Sequence[Found], group: str) -> str | None:
    """The text about another group; None where the group has no word for one of them."""
    parts: list[str] = []
    done = 0
    for word in sorted(words, key=lambda one: one.start):
        if group not in word.by:
            return None
        old = text[word.start : word.end]
        if word.group == group:
            continue
        plain = old if word.group is None else word.by.get(word.group, old)
        new = _cased(word.by[group], old, plain, _SENTENCE_START.search(text, 0, word.start) is not None)
        parts += [_mended(text[done : word.start], old, new), new]
        done = word.end
    return "".join(parts) + text[done:]


def _cased(new: str, old: str, plain: str, first: bool) -> str:
    """A new word in the letters of the one whose place it takes, whose plain form is known."""
    if old.isupper() and len(old) > 1 and not plain.isupper():
        return new.upper()
    if old == plain:
        return new[:1].upper() + new[1:] if first and old[:1].isupper() else new
    if old[:1].isupper():
        return new[:1].upper() + new[1:]
    return new.lower()


def _mended(before: str, old: str, new: str) -> str:
    """What stands before a new word, with the article that its sound asks for."""
    found = _ARTICLE.search(before)
    if found is None or (len(found[1]) == 2) == _sounds_open(new) or (len(found[1]) == 2) != _sounds_open(old):
        return before
    article = found[1]
    if len(article) == 2:
        mended = article[0]
    else:
        mended = article + ("N" if article == "A" and new.isupper() and len(new) > 1 else "n")
    return before[: found.start(1)] + mended + before[found.end(1) :]


def _sounds_open(word: str) -> bool:
    """Whether a word begins with a vowel as it is spoken."""
    return _CONSONANT_SOUND.match(word) is None and _VOWEL_SOUND.match(word) is not None
