"""Mojibake: UTF-8 that some program read as a single-byte encoding, undone by ftfy where its traces are found.

ftfy looks at every character and reads some 3 MB/s. Misread UTF-8 always shows: the first byte of a character became a
letter such as Ã or Р, and the bytes after it signs such as © or ‚ that hardly ever follow that letter. Only the lines
that hold such a sequence are given to ftfy, which then decides.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable

from ...errors import MissingExtra
from .characters import (
    CHANGED,
    CONTINUATION,
    CYRILLIC,
    FIRST_BYTES,
    LATIN,
    OTHER_SIGNS,
    OTHER_THREE,
    OTHER_TWO,
    misread,
)

# A line longer than this is looked at in pieces.
_PIECE = 20_000


def fix_mojibake(text: str) -> str:
    """The text with its mojibake undone; a text without any comes back as it is."""
    traces = _traces()
    found = traces.search(text)
    if not found:
        return text
    pieces, done = [], 0
    while found:
        start, end = _piece_around(text, found.start(), done)
        pieces += [text[done:start], _fix(text[start:end])]
        done = end
        found = traces.search(text, end)
    return "".join([*pieces, text[done:]])


def _fix(line: str) -> str:
    try:
        from ftfy import TextFixerConfig, fix_encoding
        from ftfy.fixes import fix_c1_controls
    except ImportError:
        raise MissingExtra("repairing text", "data") from None
    return fix_c1_controls(fix_encoding(line, TextFixerConfig(explain=False)))


def _piece_around(text: str, place: int, done: int) -> tuple[int, int]:
    """The line around a place; of a very long line, what lies around it between two spaces."""
    start = max(text.rfind("\n", done, place) + 1, done)
    if place - start > _PIECE:
        start = max(text.rfind(" ", done, place - _PIECE) + 1, place - 2 * _PIECE, done)
    end = text.find("\n", place, place + _PIECE)
    if end < 0:
        end = text.find(" ", place + _PIECE, place + 2 * _PIECE)
    return start, end if end >= 0 else min(place + 2 * _PIECE, len(text))


@functools.cache
def _traces() -> re.Pattern[str]:
    """The sequences that misread UTF-8 leaves.

    The search begins at the sign of a continuation byte, since those are rarer in any script than the letters of first
    bytes. Where a sign is a letter of the same script, as Ukrainian's і in windows-1251, a second pair must follow.
    """
    encodings = (*LATIN, *CYRILLIC)
    sign = _set(misread(encodings, CONTINUATION))
    letters = _set(c for c in misread(CYRILLIC, CONTINUATION) if c.isalpha() and c >= "\u0400")
    two, three, four = (_set(misread(encodings, first)) for first in FIRST_BYTES)
    after_first = (
        f"(?<=[{two}].)(?:(?<![{letters}])|[{_set(misread(CYRILLIC, FIRST_BYTES[0]))}][{sign}])",
        # French puts a space that does not break between a word and the closing quotation mark.
        f"(?<=[{three}].)(?!(?<=\u00a0)»)[{sign}]",
        f"(?<=[{four}].)[{sign}][{sign}]",
    )
    other = _set(OTHER_SIGNS)
    others = (
        f"[{_set(OTHER_TWO)}](?=[{other}])(?:(?<![–—])|.[–—])",
        f"[{_set(OTHER_THREE)}](?=[{other}][{other}])",
        "[\x80-\x9f]",
        *map(re.escape, CHANGED),
    )
    return re.compile(f"[{sign}](?:{'|'.join(after_first)})|{'|'.join(others)}", re.S)


def _set(characters: Iterable[str]) -> str:
    return re.escape("".join(sorted(characters)))
