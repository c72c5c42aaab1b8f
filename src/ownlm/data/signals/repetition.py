"""How much a document repeats itself (Rae et al. 2021, "Scaling Language Models", appendix A1.1 and table A1).

A line, a paragraph or an n-gram that stood in the document before is a repeat; the first is not. Characters that lie in
several repeated n-grams are counted once. Words are runs of anything but white space, in lower case.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..words import Integers
from .block import Block, Mask, group

Floats = NDArray[np.float64]

_BASE = np.uint64(0xD1342543DE82EF95)


def repeated_runs(block: Block) -> dict[str, Floats]:
    """The shares of lines and paragraphs that repeat an earlier one, and of the characters in them."""
    columns = {}
    for name, runs in (("line", block.lines), ("paragraph", block.paragraphs)):
        characters = runs.total(runs.repeats * block.span(runs.starts, runs.ends))
        columns[f"duplicate_{name}_fraction"] = ratio(runs.total(runs.repeats), runs.counts)
        columns[f"duplicate_{name}_character_fraction"] = ratio(characters, block.characters)
        if name == "line":
            feeds = block.count_at(block.newlines)
            columns["character_duplicate_ratio"] = ratio(characters, block.characters - feeds)
    return columns


def vocabulary(block: Block, places: Integers, begins: Mask) -> dict[str, Floats]:
    """The share of different words, and the entropy of the words in bits.

    Args:
        block: the documents.
        places, begins: their words grouped, as ``group_words`` returns them.
    """
    words, documents = block.words.counts, len(block)
    heads, counts = _counts(begins)
    of = block.word_documents[places[heads]]
    different = np.bincount(of, minlength=documents)
    # Sums of whole numbers come out the same in any order, and the order depends on the other documents.
    parts = np.rint(counts * np.log2(counts) * 2**20)
    spread = np.bincount(of, weights=parts, minlength=documents) / 2**20
    entropy = np.log2(np.maximum(words, 1)) - ratio(spread, words)
    return {"unique_word_fraction": ratio(different, words), "word_entropy": np.maximum(entropy, 0.0)}


def group_words(block: Block) -> tuple[Integers, Mask]:
    """Groups each document's equal words, as ``block.group`` does."""
    return group(block.word_keys)


def repeated_ngrams(block: Block, places: Integers, begins: Mask) -> dict[str, Floats]:
    """The characters of the most frequent 2-, 3- and 4-gram, and of the repeated 5- to 10-grams, as shares.

    An n-gram can be repeated only where both the (n-1)-grams in it are, so each length looks at what the one before
    left: few places of ordinary text.

    Args:
        block: the documents.
        places, begins: their words grouped, as ``group_words`` returns them.
    """
    words = block.words
    repeated = np.zeros(len(words) + 1, bool)
    repeated[places[_of_several(begins)]] = True
    follows = repeated[1:].copy()
    # The last word of a document is followed by none.
    follows[words.documents[1:][words.counts > 0] - 1] = False
    starts = np.flatnonzero(repeated[:-1] & follows)
    hashes = block.word_keys[starts]
    columns = {}
    for n in range(2, 11):
        hashes = hashes * _BASE + words.hashes[starts + (n - 1)]
        places, begins = group(hashes)
        if n <= 4:
            heads, counts = _counts(begins)
            columns[f"top_{n}gram_character_fraction"] = _top(block, n, starts[places[heads]], counts)
        else:
            again = np.sort(starts[places[~begins]])
            columns[f"duplicate_{n}gram_character_fraction"] = _covered(block, n, again)
        # What is left for the next length: where this n-gram and the next are repeated.
        left = np.sort(places[_of_several(begins)])
        repeated[:] = False
        repeated[starts[left]] = True
        left = left[repeated[starts[left] + 1]]
        starts, hashes = starts[left], hashes[left]
    return columns


def _counts(begins: Mask) -> tuple[Integers, Integers]:
    """Where each group begins, and how many it has: int64[groups] each."""
    heads = np.flatnonzero(begins)
    return heads, np.diff(np.append(heads, len(begins)))


def _of_several(begins: Mask) -> Mask:
    """bool[k], which places are in a group of at least two."""
    several = ~begins
    several[:-1] |= several[1:]
    return several


def _top(block: Block, n: int, first: Integers, counts: Integers) -> Floats:
    """The share of characters in the most frequent n-gram; of several as frequent, the one that begins first.

    Args:
        block: the documents.
        n: its length in words.
        first: int64[k], where each n-gram that may be repeated stands first.
        counts: int64[k], how often it stands in its document.
    """
    shift = len(block.words) + 1
    best = np.zeros(len(block), np.int64)
    np.maximum.at(best, block.word_documents[first], counts * shift + (shift - 1 - first))
    # A document in which none is repeated: each is as frequent as the first.
    has_any = block.words.counts >= n
    none = best < 2 * shift
    count = np.where(none, 1, best // shift)
    start = np.where(none, block.words.documents[:-1], shift - 1 - best % shift)
    start = np.where(has_any, start, 0)
    before = block.characters_before
    length = before[np.minimum(start + n, len(before) - 1)] - before[start] + (n - 1)
    return ratio(np.where(has_any, count * length, 0), block.characters)


def _covered(block: Block, n: int, starts: Integers) -> Floats:
    """The share of characters in the words that n-grams cover which begin at the given words, in rising order."""
    before = block.characters_before
    ends = np.minimum(starts + n, np.append(starts[1:], len(before) - 1))
    covered = before[ends] - before[starts]
    totals = np.bincount(block.word_documents[starts], weights=covered, minlength=len(block))
    return ratio(totals, block.characters)


def ratio(part: NDArray, whole: NDArray) -> Floats:
    """float64[k]: the quotients, 0 where the whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole), np.float64), where=np.asarray(whole) != 0)
