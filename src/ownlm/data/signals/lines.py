"""How a document's lines begin, end and follow each other: rules of Gopher, C4 and FineWeb."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from .block import INNER, Block, Mask, code_points
from .repetition import Floats, ratio

# The signs that lists begin with; Rae et al. (2021) name the bullet point alone.
BULLETS = "•‣⁃◦▪▫●○■□·∙–—-*"
ELLIPSIS = "…"
# A line of at most so many characters is short (Penedo et al. 2024, "The FineWeb Datasets").
SHORT_LINE = 30
# Marks that end a line C4 keeps: a period, an exclamation mark, a question mark, or an end quotation mark.
C4_TERMINALS = '.!?"”'

# Code points with the property Sentence_Terminal (Unicode 17, PropList), with the three Khmer signs that FineWeb adds.
_TERMINAL_RANGES = """
21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736 17D4-17D6
17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B4E-1B4F 1B5A-1B5B 1B5E-1B5F 1B7D-1B7F 1C3B-1C3C 1C7E-1C7F 2024 203C-203D
2047-2049 2CF9-2CFB 2E2E 2E3C 2E53-2E54 2E60-2E61 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9
AA5D-AA5F AAF0-AAF1 ABEB FE12 FE15-FE16 FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89
11047-11048 110BE-110C1 11141-11143 111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 113D4-113D5
1144B-1144C 115C2-115C3 115C9-115D7 11641-11642 1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42
11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38 16B44 16D6E-16D6F 16E98 1BC9F 1DA88
"""
TERMINALS = frozenset(
    chr(code)
    for first, _, last in (part.partition("-") for part in _TERMINAL_RANGES.split())
    for code in range(int(first, 16), int(last or first, 16) + 1)
)


def line_shares(block: Block) -> dict[str, Floats]:
    """Shares of the lines, and line feeds per word."""
    lines = block.lines
    first = code_points(block.data, lines.starts)
    last = code_points(block.data, last_characters(block, lines.ends))
    ellipsis = (last == ord(ELLIPSIS)) | _three_dots(block)
    columns = {
        "bullet_line_fraction": one_of(first, BULLETS),
        "ellipsis_line_fraction": ellipsis,
        "terminal_punctuation_line_fraction": one_of(last, TERMINALS),
        "unterminated_line_fraction": ~one_of(last, C4_TERMINALS) | _three_dots(block),
        "short_line_fraction": block.span(lines.starts, lines.ends) <= SHORT_LINE,
    }
    shares = {name: ratio(lines.total(mask), lines.counts) for name, mask in columns.items()}
    shares["newline_word_ratio"] = ratio(block.count_at(block.newlines), block.words.counts)
    return shares


def last_characters(block: Block, ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64[k], where the last character before each end begins."""
    places = ends - 1
    for _ in range(3 if len(block.wide) else 0):
        places = places - ((block.flags[places] & INNER) != 0)
    return places


def one_of(codes: NDArray[np.int32], characters: frozenset[str] | str) -> Mask:
    """bool[k], whether each code point is one of the characters."""
    plain, wide = _tables(characters)
    found = plain[np.minimum(codes, 0x80)]
    beyond = np.flatnonzero(codes >= 0x80)
    found[beyond] = np.isin(codes[beyond], wide)
    return found


@functools.cache
def _tables(characters: frozenset[str] | str) -> tuple[Mask, NDArray[np.int32]]:
    """Which ASCII characters are meant, bool[129], the last for all others; and the code points beyond."""
    codes = np.array(sorted(map(ord, characters)), np.int32)
    plain = np.zeros(0x81, bool)
    plain[codes[codes < 0x80]] = True
    return plain, codes[codes >= 0x80]


def _three_dots(block: Block) -> Mask:
    """bool[lines], whether each ends with three dots."""
    starts, ends = block.lines.starts, block.lines.ends
    long = ends - starts >= 3
    places = np.where(long, ends, 3) if len(block.data) >= 3 else ends
    if len(block.data) < 3:
        return long
    return long & (block.data[places - 1] == 46) & (block.data[places - 2] == 46) & (block.data[places - 3] == 46)
