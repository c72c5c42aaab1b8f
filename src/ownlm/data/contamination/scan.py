"""Texts -> the evaluation items found in them, with a score; a pure function of each document.

Every n-gram of the texts is looked up among the index's seeds, a bit table first. Seeds of one unit that stand close
together make a candidate, and only where they cover enough of the unit are its words aligned with the text's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..words import Hashes, Integers, Words, find_words, mix, ngrams
from .evidence import MOST, Answer, Match, align, evenness, find_answer, is_passage, passage_share, score, surroundings
from .index import EvaluationIndex
from .rarity import SCALE

if TYPE_CHECKING:
    import pyarrow as pa

FLOOR = 0.4
"""Matches of a lower score are not recorded; no threshold can be set below it."""

MOST_TEXT = 500
"""Characters of matched text that are kept."""

_LEAST_COVERED = 0.3  # of what a unit's seeds cover
_LEAST_QUESTION = 0.5  # of a unit's worth: less than half a question is none
_SLACK = 4  # words around a candidate, and a quarter of the unit's length
_MOST_REPEATS = 100  # of one seed in a document
_CLOSING = b"?!.,;:)]\"'"


@dataclass(frozen=True)
class Candidate:
    """A run of words that may hold a unit: words ``start:end`` of the batch."""

    document: int
    unit: int
    start: int
    end: int


@dataclass(frozen=True)
class Hit:
    """An item found: its region in words of the batch, the score and its parts."""

    document: int
    item: int
    start: int
    end: int
    score: float
    question: float
    answer: float
    passage: float


def scan(texts: pa.LargeStringArray, index: EvaluationIndex, words: Words | None = None) -> pa.Table:
    """Finds evaluation items in documents.

    Args:
        texts: the documents; none may be null.
        index: the evaluation items.
        words: ``find_words(texts, "letters")``, where it is at hand.

    Returns:
        A row a hit, by document, place and item: ``document`` int32, ``set`` and ``item`` (names), ``number`` int32
        (the item's place in ``index.items``), ``start`` and ``end`` int64 (characters), ``score`` float32 and its parts
        ``question``, ``answer`` and ``passage`` (0 to 1; null where the item has none), ``matched`` (the text, at most
        500 characters).
    """
    if words is None:
        words = find_words(texts, "letters")
    hits: dict[tuple[int, int, int, int], Hit] = {}
    for candidate in candidates(words, index):
        for hit in _hits_of(candidate, words, index):
            # Two candidates may overlap and find the same.
            hits.setdefault((hit.document, hit.start, hit.end, hit.item), hit)
    return _table([hits[key] for key in sorted(hits)], words, index)


def candidates(words: Words, index: EvaluationIndex) -> list[Candidate]:
    """Where seeds of one unit stand close together and cover enough of it, by document, unit and place."""
    at, unit, place = _seed_places(words, index)
    if not len(at):
        return []
    order = np.lexsort((place, at, unit))
    at, unit, place = at[order], unit[order], place[order]
    document = np.searchsorted(words.documents, at, side="right") - 1
    slack = _SLACK + index.unit_lengths // 4
    new = np.ones(len(at), bool)
    apart = np.diff(at) > (index.unit_lengths + slack)[unit[1:]]
    new[1:] = (np.diff(unit) != 0) | (np.diff(document) != 0) | apart
    group = np.cumsum(new) - 1
    firsts = np.flatnonzero(new)
    enough = index.covered(group, unit, place) >= _LEAST_COVERED * index.coverable[unit[firsts]]
    lengths = index.unit_lengths[unit]
    start = np.minimum.reduceat(at - place, firsts) - slack[unit[firsts]]
    end = np.maximum.reduceat(at - place + lengths, firsts) + slack[unit[firsts]]
    document, unit = document[firsts], unit[firsts]
    start = np.maximum(start, words.documents[document])
    end = np.minimum(end, words.documents[document + 1])
    found = np.stack([document, unit, start, end], axis=1)[enough]
    return [Candidate(*row) for row in sorted(found[_could_match(found, words, index)].tolist())]


def _seed_places(words: Words, index: EvaluationIndex) -> tuple[Integers, Integers, Integers]:
    """Every place where a seed stands: the word of the batch, the unit, the unit's word."""
    ats, slots = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    table, shift = index.bit_table
    for size in index.sizes:
        grams, offsets = ngrams(words, size)
        bit = grams >> np.uint64(shift)
        maybe = np.flatnonzero((table[bit >> np.uint64(3)] >> (bit & np.uint64(7)).astype(np.uint8)) & 1)
        slot = np.minimum(np.searchsorted(index.seeds, grams[maybe]), len(index.seeds) - 1)
        real = index.seeds[slot] == grams[maybe]
        gram = maybe[real]
        document = np.searchsorted(offsets, gram, side="right") - 1
        ats.append(gram - offsets[document] + words.documents[document])
        slots.append(slot[real])
    at, slot = _not_too_often(np.concatenate(ats), np.concatenate(slots), words)
    row, hit = _ranges(index.seed_offsets[slot], index.seed_offsets[slot + 1])
    return at[hit], index.seed_units[row].astype(np.int64), index.seed_places[row].astype(np.int64)


def _not_too_often(at: Integers, slot: Integers, words: Words) -> tuple[Integers, Integers]:
    """The first hundred places of a seed in a document: a phrase repeated a million times must not fill the memory."""
    document = np.searchsorted(words.documents, at, side="right") - 1
    order = np.lexsort((at, slot, document))
    group = np.flatnonzero(np.diff(document[order], prepend=-1) | np.diff(slot[order], prepend=-1))
    rank = np.arange(len(order)) - np.repeat(group, np.diff(np.append(group, len(order))))
    kept = order[rank < _MOST_REPEATS]
    return at[kept], slot[kept]


def _could_match(found: NDArray[np.int64], words: Words, index: EvaluationIndex) -> NDArray[np.bool_]:
    """Which candidates hold enough of their unit's words in any order: bool[candidates]. It spares most alignments.

    Args:
        found: int64[candidates, 4], the rows of ``Candidate``.
    """
    _, unit, start, end = found.T
    number = np.arange(len(found))
    inside, owner = _ranges(start, end)
    # A word of this candidate's region: hashes of different candidates are kept apart by its number.
    keys = np.sort(words.hashes[inside] ^ mix(owner.astype(np.uint64) + np.uint64(1)))
    asked, owner = _ranges(index.unit_offsets[unit], index.unit_offsets[unit + 1])
    key = index.unit_words[asked] ^ mix(owner.astype(np.uint64) + np.uint64(1))
    place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    worth = np.where(keys[place] == key, index.unit_worth[asked], 0)
    return np.bincount(owner, worth, minlength=len(number)) >= _LEAST_QUESTION * index.unit_totals[unit]


def _ranges(starts: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """The numbers of all ranges one after another, and the range of each."""
    counts = ends - starts
    owner = np.repeat(np.arange(len(starts)), counts)
    return np.arange(len(owner)) + np.repeat(starts - np.cumsum(counts) + counts, counts), owner


def _hits_of(candidate: Candidate, words: Words, index: EvaluationIndex) -> Iterator[Hit]:
    """The hits of one candidate: the best place, and then what is left on either side of it."""
    unit = candidate.unit
    mine = slice(int(index.unit_offsets[unit]), int(index.unit_offsets[unit + 1]))
    length, total = mine.stop - mine.start, int(index.unit_totals[unit])
    begin = int(words.documents[candidate.document])
    document = words.hashes[begin : int(words.documents[candidate.document + 1])]
    left = [(candidate.start - begin, candidate.end - begin)]
    while left:
        start, end = left.pop()
        if (end - start) * 2 < length:
            continue
        least = _LEAST_QUESTION * total
        match = align(index.unit_words[mine], index.unit_worth[mine], document[start:end], least)
        if not match.worth:
            continue
        match = Match(match.start + start, match.end + start, match.worth)
        hit = _best_item(candidate, match, document, index)
        if hit is not None:
            yield replace(hit, start=hit.start + begin, end=hit.end + begin)
        left += [(start, match.start), (match.end, end)]


def _best_item(candidate: Candidate, match: Match, document: Hashes, index: EvaluationIndex) -> Hit | None:
    """Of the items that ask this question, the one whose answer and passage fit best; None below the floor."""
    unit = candidate.unit
    mine = slice(int(index.unit_offsets[unit]), int(index.unit_offsets[unit + 1]))
    found = document[match.start : match.end]
    even = evenness(index.unit_words[mine], index.unit_worth[mine], found)
    matched, total = match.worth / SCALE, int(index.unit_totals[unit]) / SCALE
    members = index.unit_items[index.unit_item_offsets[unit] : index.unit_item_offsets[unit + 1]].tolist()
    # Most candidates could not pass with any answer, and need none looked for.
    if score(matched, total, even=even, answer=Answer(1.0, MOST), passage=1.0, items=len(members)) < FLOOR:
        return None
    best: Hit | None = None
    around: Hashes | None = None
    for item in members:
        answer = passage = None
        if index.unit_ends[unit] and index.item_answers[item] < index.item_answers[item + 1]:
            answer = find_answer(index, item, document, match, len(members))
        if index.item_passage[item] >= 0:
            if score(matched, total, even=even, answer=answer, passage=1.0, items=len(members)) < FLOOR:
                continue
            around = surroundings(index, members, document, match) if around is None else around
            passage = passage_share(index, item, around)
        value = round(score(matched, total, even=even, answer=answer, passage=passage, items=len(members)), 4)
        if value < FLOOR or (best is not None and value <= best.score):
            continue
        if passage and is_passage(index, item, unit, found, match.worth):
            continue
        start, end = _region(match, answer)
        parts = (answer.found if answer else np.nan, np.nan if passage is None else passage)
        best = Hit(candidate.document, item, start, end, value, matched / total, *parts)
    return best


def _region(match: Match, answer: Answer | None) -> tuple[int, int]:
    """The match, and its answer where one was found."""
    if answer is None or answer.found <= 0:
        return match.start, match.end
    return min(match.start, answer.start), max(match.end, answer.end)


def _table(hits: list[Hit], words: Words, index: EvaluationIndex) -> pa.Table:
    import pyarrow as pa

    starts, ends, matched = [], [], []
    before: dict[int, Integers] = {}
    for hit in hits:
        origin, stop = int(words.bytes[hit.document]), int(words.bytes[hit.document + 1])
        first, last = int(words.starts[hit.start]), int(words.ends[hit.end - 1])
        # The sign that closes a sentence belongs to it.
        while last < stop and words.data[last] in _CLOSING:
            last += 1
        if hit.document not in before:
            before = {hit.document: _characters(words.data[origin:stop])}
        characters = before[hit.document]
        starts.append(int(characters[first - origin]))
        ends.append(int(characters[last - origin]))
        matched.append(words.data[first:last].tobytes().decode()[:MOST_TEXT])
    items = [index.items[hit.item] for hit in hits]
    parts = {name: [getattr(hit, name) for hit in hits] for name in ("score", "question", "answer", "passage")}
    return pa.table(
        {
            "document": pa.array([hit.document for hit in hits], pa.int32()),
            "set": pa.array([item.set for item in items], pa.string()),
            "item": pa.array([item.id for item in items], pa.string()),
            "number": pa.array([hit.item for hit in hits], pa.int32()),
            "start": pa.array(starts, pa.int64()),
            "end": pa.array(ends, pa.int64()),
            **{name: pa.array(np.array(values, np.float32), from_pandas=True) for name, values in parts.items()},
            "matched": pa.array(matched, pa.large_string()),
        }
    )


def _characters(data: NDArray[np.uint8]) -> Integers:
    """How many characters begin before each byte of a text: int64[bytes + 1]."""
    counts = np.zeros(len(data) + 1, np.int64)
    np.cumsum((data & 0xC0) != 0x80, out=counts[1:])
    return counts
