"""How telling a match is: the question's words found in order, its answer close by, its passage around.

    share = (question + 25% answer + 15% passage) / (as much as there could be)
    score = share x (1 - 2 ^ -(bits / 35))

The first factor asks whether this *is* the item, the second whether so much text could agree by chance or custom: 35
bits make one half, 70 three quarters. A question without its answer keeps four fifths of its share, and one of a
reading set, without answer and passage, five sevenths: long distinctive questions still pass, short ones do not.

Two things look like a question and are none. A quotation inside a question leaves the rest of it unmatched, all on one
side, so a match must hold something of both halves. And a reading question often repeats a sentence of its passage, so
a match that is that sentence is none.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..words import Hashes, Integers, find_words
from .index import EvaluationIndex, ngrams_of
from .rarity import SCALE, Worth, text_column

ANSWER_SHARE = 0.25
PASSAGE_SHARE = 0.15
HALF = 35.0
"""Bits that make a score one half of its share."""

MOST = 40.0
"""Bits that an answer or a passage can add: a question must be there as well."""

_SKIPPED = 2 * SCALE  # what a word between two matched words costs
_EXACT_WORDS = 3  # an answer this short must stand there word for word
_LEAST_SHARE = 0.6  # of a longer one
_LEAST_PASSAGE = 0.3
_PASSAGE_SENTENCE = 0.7


@dataclass(frozen=True)
class Match:
    """A unit found in a document.

    Attributes:
        start: the document's word where the match begins.
        end: the word after its last.
        worth: what the matched words are worth, less the words skipped between them.
    """

    start: int
    end: int
    worth: int


@dataclass(frozen=True)
class Answer:
    """An answer found near a match: how surely, from 0 to 1, what it adds in bits, and where."""

    found: float = 0.0
    bits: float = 0.0
    start: int = -1
    end: int = -1


def align(unit: Hashes, worth: Worth, words: Hashes, least: float = 0.0) -> Match:
    """The best place of a unit in a run of words: its words in their order, others between them at a cost.

    Local alignment (Smith and Waterman 1981) where a word of the unit that is missing costs no more than its worth.

    Args:
        unit: uint64[n].
        worth: int32[n].
        words: uint64[k].
        least: a match of less worth is no match.

    Returns:
        The match; one of no worth where there is none.
    """
    best, end = _align_end(unit, worth, words)
    if not best or best < least:
        return Match(0, 0, 0)
    # The same from the back, over what stands before the end, finds the start.
    _, length = _align_end(unit[::-1], worth[::-1], words[:end][::-1])
    return Match(end - length, end, best)


def _align_end(unit: Hashes, worth: Worth, words: Hashes) -> tuple[int, int]:
    """The worth of the best alignment and the first place where one of that worth ends."""
    order = np.argsort(words, kind="stable")
    ordered = words[order]
    first, last = (np.searchsorted(ordered, unit, side=side).tolist() for side in ("left", "right"))
    slope = np.arange(len(words) + 1, dtype=np.int64) * _SKIPPED
    # gained[j] is the best worth of an alignment that ends before word j; with the slope added, the cost of skipped
    # words is a running maximum.
    gained = slope.copy()
    for begin, stop, value in zip(first, last, worth.tolist()):
        if begin == stop:
            continue
        places = order[begin:stop]
        taken = gained[places] + (value + _SKIPPED)
        places = places + 1
        gained[places] = np.maximum(gained[places], taken)
        np.maximum.accumulate(gained, out=gained)
    gained -= slope
    end = int(gained.argmax())
    return int(gained[end]), end


def find_answer(index: EvaluationIndex, item: int, words: Hashes, match: Match, items: int = 1) -> Answer:
    """The item's best answer near a match, in its document's words.

    The nearer and the rarer, the surer: an answer of b bits at d words from the question adds b - log2(d + 1), for in
    so many places it could have stood by chance, and log2(items) less where so many items ask the same question, any
    of whose answers could have stood there. It counts in full from 6 bits on.
    """
    reach = index.near + int(index.item_choice_words[item])
    best = _letter(index, item, words, match, reach)
    around: set[int] | None = None
    reach_around = 0
    for answer in range(int(index.item_answers[item]), int(index.item_answers[item + 1])):
        first, last = int(index.answer_offsets[answer]), int(index.answer_offsets[answer + 1])
        if first == last:
            continue
        wanted, worth = index.answer_words[first:last], index.answer_worth[first:last]
        total = int(index.answer_totals[answer])
        zone = reach + 2 * len(wanted)
        # Most are not there in any order, which is sooner told.
        if around is None or zone > reach_around:
            around, reach_around = set(words[max(0, match.start - zone) : match.end + zone].tolist()), zone
        present = sum(value for word, value in zip(wanted.tolist(), worth.tolist()) if word in around)
        if present < _LEAST_SHARE * total:
            continue
        after = _place_in(wanted, worth, total, words[match.end : match.end + zone], first=True)
        begin = max(0, match.start - zone)
        before = _place_in(wanted, worth, total, words[begin : match.start], first=False)
        for share, start, end, distance in (
            (after[0], match.end + after[1], match.end + after[2], after[1]),
            (before[0], begin + before[1], begin + before[2], match.start - begin - before[2]),
        ):
            if not share or distance > reach:
                continue
            bits = share * total / SCALE - math.log2((distance + 1) * items)
            found = share * min(1.0, max(0.0, bits / 6))
            if (found, bits) > (best.found, best.bits):
                best = Answer(found, min(bits, MOST), start, end)
    return best


def _place_in(wanted: Hashes, worth: Worth, total: int, words: Hashes, *, first: bool) -> tuple[float, int, int]:
    """Where an answer stands: its share, start and end; the first place of several, or the last."""
    if len(wanted) > _EXACT_WORDS:
        match = align(wanted, worth, words, _LEAST_SHARE * total)
        return match.worth / total, match.start, match.end
    count = len(words) - len(wanted) + 1
    if count <= 0:
        return 0.0, 0, 0
    equal = np.ones(count, bool)
    for place, word in enumerate(wanted):
        equal &= words[place : place + count] == word
    places = np.flatnonzero(equal)
    if not len(places):
        return 0.0, 0, 0
    start = int(places[0 if first else -1])
    return 1.0, start, start + len(wanted)


def _letter(index: EvaluationIndex, item: int, words: Hashes, match: Match, reach: int) -> Answer:
    """The right choice's letter where an answer is announced: "Answer: B", "the answer is (b)"."""
    letter = index.item_letter[item]
    if not letter:
        return Answer()
    zone = words[match.end : match.end + reach + 20]
    announced = np.flatnonzero(np.isin(zone, _announcing()))
    for place in announced.tolist():
        following = np.flatnonzero(zone[place + 1 : place + 4] == letter)
        if len(following):
            end = match.end + place + 2 + int(following[0])
            return Answer(1.0, 3.0, match.end + place, end)
    return Answer()


@functools.cache
def _announcing() -> Hashes:
    return find_words(text_column(["answer", "ans", "correct"]), "letters").hashes


def evenness(unit: Hashes, worth: Worth, words: Hashes) -> float:
    """Of a unit's two halves, equal in worth, how much of the one found less was found in ``words``: 0 to 1."""
    sums = np.cumsum(worth, dtype=np.int64)
    middle = min(max(int(np.searchsorted(sums, sums[-1] / 2)) + 1, 1), len(unit) - 1)
    halves = ((unit[:middle], worth[:middle]), (unit[middle:], worth[middle:]))
    return min(_align_end(half, value, words)[0] / max(int(value.sum()), 1) for half, value in halves)


def is_passage(index: EvaluationIndex, item: int, unit: int, words: Hashes, matched: int) -> bool:
    """Whether words that match a question are only a sentence of its passage: most of them stand there in a row, and
    the passage itself matches the question no worse."""
    passage = int(index.item_passage[item])
    if passage < 0:
        return False
    told = index.passage_words[index.passage_offsets[passage] : index.passage_offsets[passage + 1]]
    grams = _trigrams(words)
    if not len(grams) or np.isin(grams, _trigrams(told)).mean() < _PASSAGE_SENTENCE:
        return False
    mine = slice(int(index.unit_offsets[unit]), int(index.unit_offsets[unit + 1]))
    return matched <= _align_end(index.unit_words[mine], index.unit_worth[mine], told)[0]


def surroundings(index: EvaluationIndex, items: list[int], words: Hashes, match: Match) -> Hashes:
    """The trigrams around a match, as far as the longest of the items' passages could reach on either side: uint64[k],
    sorted."""
    passages = index.item_passage[items]
    lengths = index.passage_offsets[passages + 1] - index.passage_offsets[passages]
    reach = 2 * int(lengths[passages >= 0].max(initial=0)) + index.near
    return np.sort(_trigrams(words[max(0, match.start - reach) : match.end + reach]))


def passage_share(index: EvaluationIndex, item: int, around: Hashes) -> float:
    """How much of the item's passage stands in ``surroundings``: the share of its different trigrams, 0 below 0.3."""
    grams, offsets = index.passage_grams
    passage = int(index.item_passage[item])
    wanted = grams[offsets[passage] : offsets[passage + 1]]
    if passage < 0 or not len(wanted) or not len(around):
        return 0.0
    place = np.minimum(around.searchsorted(wanted), len(around) - 1)
    share = float((around[place] == wanted).mean())
    return share if share >= _LEAST_PASSAGE else 0.0


def _trigrams(words: Hashes) -> Hashes:
    ends: Integers = np.array([0, len(words)], np.int64)
    return ngrams_of(words, ends, 3)[0]


def score(
    matched: float,
    total: float,
    *,
    even: float = 1.0,
    answer: Answer | None = None,
    passage: float | None = None,
    items: int = 1,
) -> float:
    """The score of a match, from 0 to 1.

    Args:
        matched: the bits of the unit's words that were found.
        total: the bits of all its words.
        even: how much of its less matched half was found.
        answer: the answer found, or not; None where the item has none.
        passage: the share of the passage; None where the item has none.
        items: how many items ask this same question: which one it is takes bits as well.
    """
    if total <= 0 or matched <= 0:
        return 0.0
    whole, found = 1.0, matched / total * (0.5 + min(even, 0.5))
    bits = matched - math.log2(items)
    if answer is not None:
        whole, found, bits = whole + ANSWER_SHARE, found + ANSWER_SHARE * answer.found, bits + answer.bits
    if passage is not None:
        whole, found, bits = whole + PASSAGE_SHARE, found + PASSAGE_SHARE * passage, bits + MOST * passage
    return found / whole * (1.0 - 2.0 ** (-max(bits, 0.0) / HALF))


def best_score(index: EvaluationIndex) -> NDArray[np.float64]:
    """The most that each item could score, its question, answer and passage word for word: float64[items]."""
    best = np.zeros(len(index.item_passage))
    for unit, total in enumerate(index.unit_totals.tolist()):
        members = index.unit_items[index.unit_item_offsets[unit] : index.unit_item_offsets[unit + 1]].tolist()
        for item in members:
            answers = index.answer_totals[index.item_answers[item] : index.item_answers[item + 1]]
            answer = Answer(1.0, min(MOST, int(answers.max()) / SCALE)) if len(answers) else None
            if not index.unit_ends[unit]:
                answer = None
            passage = 1.0 if index.item_passage[item] >= 0 else None
            bits = total / SCALE
            best[item] = max(best[item], score(bits, bits, answer=answer, passage=passage, items=len(members)))
    return best
