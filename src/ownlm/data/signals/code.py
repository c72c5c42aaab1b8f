"""How much of a document looks like source code rather than prose: a plain measure of its lines' signs and words."""

from __future__ import annotations

import functools

import numpy as np

from ..words import Bytes
from .block import Block, WordSet, listed
from .lines import last_characters
from .repetition import Floats, ratio

# Signs that are common in programs and rare in prose, and in its markup.
SIGNS = "(){}[]<>=;|+\\$%"
# So large a share of them makes a line of code, unless it is a rule of nothing but signs.
SIGN_SHARE = 0.12
# Words that stand between others, with spaces around, in programs only.
OPERATORS = listed(
    "= == != === !== += -= *= /= |= -> => := && || <= >= << >> { null, none, true, false, self, #include #define"
)
# Lines of these alone.
ALONE = listed("{ } }; }, }) }); ) ); ), ] ]; ], else: try: finally: pass break; break continue; continue fi done")
# Words that programs begin a short line with, and prose hardly ever.
KEYWORDS = listed(
    "def class elif import from return raise yield await async const let var function public private protected static "
    "void int char struct typedef enum unsigned extern echo export package func fn impl pub namespace virtual override "
    "@override @property @staticmethod #include #define #ifdef #ifndef #endif #pragma >>> except except: assert"
)
_KEYWORD_WORDS = 5
_ENDS = ";{}"
_SENTENCE_ENDS = ".!?,"


def code_share(block: Block) -> dict[str, Floats]:
    """The share of lines that look like code.

    Such a line has many signs; or ends in a semicolon or a brace and has two other signs; or has an operator between two
    words; or is a bracket or the like alone; or is short, begins with a keyword and does not end as a sentence does.
    A line that begins with an equals sign is a heading.
    """
    lines, words = block.lines, block.words
    bounds = np.append(lines.starts, len(block.data))
    places = block.signs[_table(SIGNS)[block.sign_bytes] != 0]
    signs = np.diff(np.searchsorted(places, bounds))
    sizes = lines.ends - lines.starts
    last = block.data[last_characters(block, lines.ends)]
    code = (signs >= SIGN_SHARE * block.span(lines.starts, lines.ends)) & (block.line_signs < sizes)
    code |= (_table(_ENDS)[last] != 0) & (signs >= 3)
    counts = np.diff(block.line_words)
    firsts = words.hashes[block.line_words[:-1]]
    operators, _ = WordSet.of(OPERATORS).find(words.hashes)
    line = np.searchsorted(block.line_words, operators, side="right") - 1
    between = (operators > block.line_words[line]) & (operators < block.line_words[line + 1] - 1)
    code[line[between]] = True
    alone, _ = WordSet.of(ALONE).find(firsts)
    code[alone] |= counts[alone] == 1
    keywords, _ = WordSet.of(KEYWORDS).find(firsts)
    code[keywords] |= (counts[keywords] <= _KEYWORD_WORDS) & (_table(_SENTENCE_ENDS)[last[keywords]] == 0)
    # Headings of wikis and reStructuredText.
    code &= block.data[lines.starts] != ord("=")
    return {"code_fraction": ratio(lines.total(code), lines.counts)}


@functools.cache
def _table(characters: str) -> Bytes:
    """uint8[256], 1 at the characters' bytes."""
    table = np.zeros(256, np.uint8)
    table[list(characters.encode())] = 1
    return table
