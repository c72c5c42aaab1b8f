"""C4's measures: sentences, and what marks a page as none of prose (Raffel et al. 2020, section 2.2)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..words import Integers
from .block import LOWER, UPPER, Block, WordSet, code_points, listed
from .lines import last_characters, one_of

# What to look for: the phrases about privacy are those by which the published C4 pipeline knows notices.
MARKS = {
    "lorem_ipsum": ("lorem ipsum",),
    "javascript": ("javascript",),
    "policy": (
        *("terms of use", "privacy policy", "cookie policy"),
        *("uses cookies", "use of cookies", "use cookies"),
    ),
}

# Marks that end a sentence where a space follows, and those that do anywhere, of scripts without spaces.
ENDS = ".!?…"
ENDS_ANYWHERE = "。！？｡"
CLOSERS = "\"')]}”’»"
# Words with a period that seldom ends a sentence; so are single capitals, which are initials.
ABBREVIATIONS = listed(
    "mr. mrs. ms. dr. prof. st. sr. jr. rev. gen. col. capt. lt. sgt. gov. sen. rep. hon. vs. e.g. i.e. cf. etc. al. "
    "fig. figs. eq. no. nos. vol. pp. ed. eds. inc. ltd. co. corp. dept. est. approx. jan. feb. mar. apr. jun. jul. "
    "aug. sep. sept. oct. nov. dec. mt. ca. u.s. u.k. a.m. p.m."
)


_LIKELY = np.array([chr(byte) in ENDS + CLOSERS or byte >= 0x80 for byte in range(256)])


def page_marks(block: Block, found: Mapping[str, Integers]) -> dict[str, Integers]:
    """Sentences, curly brackets, placeholder text, and lines that speak of JavaScript or of cookies.

    Args:
        block: the documents.
        found: where the entries of ``MARKS`` stand.
    """
    brackets = block.signs[(block.sign_bytes == ord("{")) | (block.sign_bytes == ord("}"))]
    return {
        "sentences": sentences(block),
        "curly_brackets": block.count_at(brackets),
        "lorem_ipsum": block.count_at(found["lorem_ipsum"]),
        "javascript_lines": _lines_of(block, found["javascript"]),
        "policy_lines": _lines_of(block, found["policy"]),
    }


def sentences(block: Block) -> Integers:
    """int64[documents], how many sentences end.

    One ends with a word whose last sign but quotes and brackets is a mark, unless the next word of the paragraph begins
    with a small letter, or the word is an abbreviation or an initial and not the paragraph's last.
    """
    words, flags = block.words, block.flags
    # A look at the last byte leaves few words to look at closely.
    ends = np.flatnonzero(_LIKELY[block.data[words.ends - 1]])
    starts = words.starts[ends]
    places = last_characters(block, words.ends[ends])
    for _ in range(2):
        closing = one_of(code_points(block.data, places), CLOSERS) & (places > starts)
        places[closing] = last_characters(block, places[closing])
    marked = one_of(code_points(block.data, places), ENDS)
    ends, places = ends[marked], places[marked]
    last = np.zeros(len(words) + 1, bool)
    last[block.paragraph_words[1:] - 1] = True
    following = flags[np.append(words.starts, 0)[ends + 1]] if len(words) else flags[:0]
    goes_on = (following & LOWER) != 0
    # An initial is a capital and a period, and nothing more.
    goes_on |= (block.word_characters[ends] == 2) & ((flags[words.starts[ends]] & UPPER) != 0)
    goes_on[WordSet.of(ABBREVIATIONS).find(words.hashes[ends])[0]] = True
    counted = ends[last[ends] | ~goes_on]
    anywhere = block.wide[one_of(block.wide_codes, ENDS_ANYWHERE)]
    return block.count_at(words.starts[counted]) + block.count_at(anywhere)


def _lines_of(block: Block, places: Integers) -> Integers:
    """int64[documents], how many lines have one of the places."""
    lines = np.unique(np.searchsorted(block.lines.starts, places, side="right") - 1)
    return np.bincount(block.lines.documents[lines], minlength=len(block))
