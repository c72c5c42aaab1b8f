"""Sizes, and what a document's characters and words are made of."""

from __future__ import annotations

import numpy as np

from ..words import Integers
from .block import INNER, LETTER, UPPER, Block, Mask, WordSet
from .repetition import Floats, ratio

# At least two of these stand in a document that reads as English (Rae et al. 2021, appendix A1.1).
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")

_DOT, _HASH, _ELLIPSIS = ord("."), ord("#"), 0x2026


def sizes(block: Block) -> dict[str, Integers]:
    """Characters, bytes, words, lines and paragraphs."""
    return {
        "characters": block.characters,
        "bytes": np.diff(block.words.bytes),
        "words": block.words.counts,
        "lines": block.lines.counts,
        "paragraphs": block.paragraphs.counts,
    }


def character_shares(block: Block) -> dict[str, Floats]:
    """Shares of the characters that are capitals, digits, signs, and beyond ASCII."""
    capitals = np.flatnonzero((block.flags & UPPER) != 0)
    columns = {"uppercase": capitals, "digit": block.digits, "punctuation": block.signs}
    shares = {}
    for name, places in columns.items():
        if len(block.wide):
            # A character of several bytes is counted at its first.
            places = places[(block.flags[places] & INNER) == 0]
        shares[f"{name}_fraction"] = ratio(block.count_at(places), block.characters)
    return shares | {"non_ascii_fraction": ratio(block.count_at(block.wide), block.characters)}


def word_shares(block: Block) -> dict[str, Floats | Integers]:
    """Lengths of words, signs per word, words with a letter, and English stop words."""
    words = block.words
    counts = words.counts
    lengths = np.diff(block.characters_before[words.documents])
    hashes = ratio(block.count_at(block.signs[block.sign_bytes == _HASH]), counts)
    ellipses = ratio(_ellipses(block), counts)
    return {
        "mean_word_length": ratio(lengths, counts),
        "hash_word_ratio": hashes,
        "ellipsis_word_ratio": ellipses,
        "symbol_ratio": np.maximum(hashes, ellipses),
        "alphabetic_word_fraction": ratio(block.count_at(words.starts[_alphabetic(block)]), counts),
        "stop_words": _stop_words(block),
    }


def _alphabetic(block: Block) -> Mask:
    """bool[words], whether a word has a letter."""
    starts, ends = block.words.starts, block.words.ends
    alphabetic = (block.flags[starts] & LETTER) != 0
    # Most words begin with one; the others are looked at byte by byte.
    others = np.flatnonzero(~alphabetic)
    if len(others):
        flags = np.append(block.flags, np.uint8(0))
        bounds = np.stack([starts[others], ends[others]], axis=1).ravel()
        alphabetic[others] = (np.bitwise_or.reduceat(flags, bounds)[::2] & LETTER) != 0
    return alphabetic


def _stop_words(block: Block) -> Integers:
    """int64[documents], how many of them each document has at least once."""
    places, which = WordSet.of(STOP_WORDS).find(block.words.hashes)
    found = np.zeros((len(block), len(STOP_WORDS)), bool)
    found[block.word_documents[places], which] = True
    return found.sum(axis=1)


def _ellipses(block: Block) -> Integers:
    """int64[documents], the ellipses: three dots that share none with the one before, or the character."""
    dots = block.signs[block.sign_bytes == _DOT]
    # Runs of dots end at a document's end.
    begins = np.ones(len(dots), bool)
    begins[1:] = np.diff(dots) != 1
    first = np.searchsorted(dots, block.words.bytes[:-1])
    begins[first[first < len(dots)]] = True
    heads = np.flatnonzero(begins)
    threes = np.diff(np.append(heads, len(dots))) // 3
    several = threes > 0
    at = np.repeat(dots[heads[several]], threes[several])
    return block.count_at(at) + block.count_at(block.wide[block.wide_codes == _ELLIPSIS])
