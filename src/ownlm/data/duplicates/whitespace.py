"""White space in a column of texts: squeezed for comparing, and the blank lines between paragraphs."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from ..words import Bytes, Integers

_SPACE, _NEWLINE = 0x20, 0x0A
# The other white space of one byte: tab to carriage return, and the four separators before the space.
_RANGES = ((np.uint8(0x09), 5), (np.uint8(0x1C), 4))


def squeeze(data: Bytes, documents: Integers) -> tuple[Bytes, Integers, Integers]:
    """Makes every run of white space one space, and strips the ends: what ``" ".join(text.split())`` gives.

    Args:
        data: uint8[bytes], UTF-8, all documents one after another.
        documents: int64[documents + 1], where each begins.

    Returns:
        the bytes that stay, and where each document starts and ends in them.
    """
    white = is_white(data)
    keep = ~white
    # The first byte of a run stays, and becomes the space.
    keep[1:] |= ~white[:-1]
    squeezed = data[keep]
    squeezed[white[keep]] = _SPACE
    bounds = documents - np.searchsorted(np.flatnonzero(~keep), documents)
    starts, ends = bounds[:-1].copy(), bounds[1:].copy()
    # A run at a document's beginning may have lost its space to the document before; what is left of one is stripped.
    full = starts < ends
    starts[full] += squeezed[starts[full]] == _SPACE
    full = starts < ends
    ends[full] -= squeezed[ends[full] - 1] == _SPACE
    return squeezed, starts, ends


def paragraph_spans(data: Bytes, documents: Integers) -> tuple[Integers, Integers, Integers]:
    """The paragraphs of every document, as byte ranges that reach to the next one's beginning or the document's end.

    Blank lines divide paragraphs. In a document without one, as extracted web pages are, each line is a paragraph.

    Returns:
        starts, ends, and the document of each: int64[paragraphs].
    """
    if not len(data):
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    begins = np.zeros(len(data), bool)
    begins[1:] = data[:-1] == _NEWLINE
    begins[documents[:-1][documents[:-1] < len(data)]] = True
    lines = np.flatnonzero(begins)
    # An empty document begins where the next one does, and has no line.
    owner = np.searchsorted(documents, lines, side="right") - 1
    text = np.logical_or.reduceat(~is_white(data), lines)
    new = np.ones(len(lines), bool)
    new[1:] = owner[1:] != owner[:-1]
    after_blank = new.copy()
    after_blank[1:] |= ~text[:-1]
    # Blank lines at a document's ends divide nothing.
    inner = text & after_blank & ~_first_texts(text, owner)
    divided = np.zeros(len(documents) - 1, bool)
    divided[owner[inner]] = True
    begin = text & (after_blank | ~divided[owner])
    starts, owners = lines[begin], owner[begin]
    ends = documents[owners + 1].copy()
    same = np.flatnonzero(owners[1:] == owners[:-1])
    ends[same] = starts[same + 1]
    return starts, ends, owners


def _first_texts(text: NDArray[np.bool_], owner: Integers) -> NDArray[np.bool_]:
    """Which lines are the first of their document that is not blank."""
    first = np.zeros(len(text), bool)
    places = np.flatnonzero(text)
    owners = owner[places]
    leads = np.ones(len(places), bool)
    leads[1:] = owners[1:] != owners[:-1]
    first[places[leads]] = True
    return first


def is_white(data: Bytes) -> NDArray[np.bool_]:
    """Which bytes are white space, as ``str.isspace`` has it; every byte of a longer character."""
    # Unsigned bytes wrap around, so each range of ``_RANGES`` is one comparison.
    white = data == _SPACE
    for first, count in _RANGES:
        white |= data - first < count
    if not (data >= 0x80).any():
        return white
    two = np.flatnonzero(data[:-1] == 0xC2)
    two = two[(data[two + 1] == 0x85) | (data[two + 1] == 0xA0)]
    for shift in range(2):
        white[two + shift] = True
    lead = np.flatnonzero((data[:-2] >= 0xE1) & (data[:-2] <= 0xE3)) if len(data) > 2 else np.zeros(0, np.int64)
    code = data[lead].astype(np.int32) << 16 | data[lead + 1].astype(np.int32) << 8 | data[lead + 2]
    three = lead[np.isin(code, _white_codes())]
    for shift in range(3):
        white[three + shift] = True
    return white


@functools.cache
def _white_codes() -> NDArray[np.int32]:
    """The UTF-8 bytes of white space of three bytes, as one number each."""
    wide = [chr(point).encode() for point in range(0x800, 0x10000) if chr(point).isspace()]
    return np.array([int.from_bytes(code, "big") for code in wide], np.int32)
