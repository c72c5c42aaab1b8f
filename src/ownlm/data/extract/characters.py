"""Which characters of a text need a second look, found for all of it at once.

A table says of each UTF-16 unit whether it stands out, and whether it may be a piece of mojibake. Looking units up runs
at hundreds of megabytes a second; only what is found then costs more.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
BREAKS = "\x0b\x0c\x85\u2028\u2029"
JOINERS = "\u200b\u200c\u200d"
CONTROLS = "".join(map(chr, (*range(9), *range(14, 32), *range(127, 133), *range(134, 160))))
# Soft hyphen, Arabic letter mark, marks of direction, word joiner and invisible operators, byte order mark,
# interlinear annotation, object replacement, and the code points that are no characters.
UNSEEN = "\u00ad\u061c\u200e\u200f\ufeff\ufffe\uffff" + "".join(
    map(chr, (*range(0x202A, 0x202F), *range(0x2060, 0x2070), *range(0xFFF9, 0xFFFD), *range(0xFDD0, 0xFDF0)))
)
# Tags, and the first UTF-16 unit of each of them (and of a few others).
_TAGS = ("\U000e0000", "\U000e007f")
_TAG_UNIT = "\udb40"

# The encodings that ftfy undoes.
LATIN = ("latin-1", "cp1252", "cp1250", "cp1254", "cp1257", "iso8859-2", "cp1253")
CYRILLIC = ("cp1251",)
# UTF-8's first bytes of sequences of two, three and four bytes, and its continuation bytes (RFC 3629).
FIRST_BYTES = (range(0xC2, 0xE0), range(0xE0, 0xF0), range(0xF0, 0xF5))
CONTINUATION = range(0x80, 0xC0)
# Mac OS Roman and the IBM PC's encoding, where continuation bytes are common letters and some first bytes common
# signs: quotation marks are left out of the first bytes, and lines to draw boxes with out of the others.
OTHER_TWO = "¬√ƒ≈∆Œœ◊ÿŸ–—" + "".join(bytes(FIRST_BYTES[0]).decode("cp437"))
OTHER_THREE = bytes(FIRST_BYTES[1]).decode("cp437") + bytes(FIRST_BYTES[1]).decode("mac-roman")
OTHER_SIGNS = "".join(
    c for name in ("mac-roman", "cp437") for c in bytes(CONTINUATION).decode(name) if not "\u2500" <= c <= "\u259f"
)
# What "à" and quotation marks became where a byte was changed to a plain space or a question mark.
CHANGED = ("Ã ", "Â ", "â€?", "â€\ufffd")

# Setting up arrays costs more than it saves on a text of fewer characters.
_SHORT = 1500
_PLAIN_ASCII = bytes((9, 10, *range(32, 127)))
_ODD_CHARACTERS = "\r" + CONTROLS + BREAKS + SPACES + UNSEEN + JOINERS

_ODD, _SIGN, _TWO, _LONGER, _OTHER, _OTHER_SIGN, _C1 = (1 << bit for bit in range(7))


@dataclass(frozen=True)
class Look:
    """What stands out in a text.

    Attributes:
        odd: each character that may have to be changed or removed, once; tags are not among them.
        tags: whether it may hold tags.
        mojibake: whether it may hold any; if not, it holds none.
    """

    odd: str
    tags: bool
    mojibake: bool


def look(text: str) -> Look:
    """Looks at a text without lone surrogates."""
    if text.isascii():
        # A few bytes are left over if any.
        left = text.encode("ascii").translate(None, _PLAIN_ASCII)
        return Look("".join(map(chr, sorted(set(left)))), False, False)
    if len(text) < _SHORT:
        odd = sorted(set(_odd_pattern().findall(text)))
        return Look("".join(c for c in odd if c < _TAGS[0]), bool(odd) and odd[-1] >= _TAGS[0], True)
    units = np.frombuffer(text.encode("utf-16-le"), np.dtype("<u2"))
    classes = _table()[units]
    found = units[(classes & _ODD) != 0]
    odd = [chr(unit) for unit in np.unique(found).tolist()] if len(found) else []
    return Look("".join(c for c in odd if c != _TAG_UNIT), _TAG_UNIT in odd, _may_be_mojibake(text, classes))


@functools.cache
def _odd_pattern() -> re.Pattern[str]:
    return re.compile(f"[{re.escape(_ODD_CHARACTERS)}{_TAGS[0]}-{_TAGS[1]}]")


def misread(encodings: Iterable[str], values: Iterable[int]) -> set[str]:
    """The characters that bytes become when they are read in these encodings."""
    content = bytes(values)
    return {c for encoding in encodings for c in content.decode(encoding, "ignore")}


def _may_be_mojibake(text: str, classes: NDArray[np.uint8]) -> bool:
    if any(changed in text for changed in CHANGED) or (classes & _C1).any():
        return True
    sign = (classes & _SIGN) != 0
    found = sign[1:] & ((classes[:-1] & _TWO) != 0)
    found[1:] |= sign[1:-1] & sign[2:] & ((classes[:-2] & _LONGER) != 0)
    found |= ((classes[1:] & _OTHER_SIGN) != 0) & ((classes[:-1] & _OTHER) != 0)
    return bool(found.any())


@functools.cache
def _table() -> NDArray[np.uint8]:
    """uint8[65536], what each UTF-16 unit may be."""
    table = np.zeros(1 << 16, np.uint8)
    encodings = (*LATIN, *CYRILLIC)
    two, three, four = (misread(encodings, first) for first in FIRST_BYTES)
    classes: list[tuple[int, Iterable[str]]] = [
        (_ODD, _ODD_CHARACTERS + _TAG_UNIT),
        (_SIGN, misread(encodings, CONTINUATION)),
        (_TWO, two),
        (_LONGER, three | four),
        (_OTHER, OTHER_TWO + OTHER_THREE),
        (_OTHER_SIGN, OTHER_SIGNS),
        (_C1, map(chr, range(0x80, 0xA0))),
    ]
    for bit, characters in classes:
        table[[ord(c) for c in characters]] |= bit
    table.setflags(write=False)
    return table
