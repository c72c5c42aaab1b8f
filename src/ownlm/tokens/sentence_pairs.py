"""Pairs for next-sentence prediction (Devlin et al. 2018, section 3.1 and appendix A.2).

A "sentence" there is any run of sentences. Each text is gone through once: as many of its sentences as fit are taken,
and parted in two at random. Half of the time the second part is kept, and follows the first; otherwise it goes back,
and its place is taken by sentences of another text. So every token of every text stands in exactly one pair as its own,
and none is cut away. Where a single sentence is left over, what comes second is always another text's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .vocabulary import Vocabulary

Integers = NDArray[np.int64]

# Random numbers drawn at a time, and how many each pair takes.
_DRAWN, _EACH = 2**14, 4


@dataclass(frozen=True)
class Sentences:
    """The sentences of texts by where they stand among all tokens, in order.

    Attributes:
        starts, ends: [sentences] each; an end is the place after the last token.
        texts: the first sentence of each text that has any, and the end of the last: [texts + 1].
    """

    starts: Integers
    ends: Integers
    texts: Integers

    @classmethod
    def of(
        cls, blocks: Iterable[tuple[Integers, int, Integers, Integers]], vocabulary: Vocabulary, most: int
    ) -> Sentences:
        """Cuts texts after the tokens that end a sentence.

        Args:
            blocks: some texts at a time: their tokens, where these stand among all, and where in them each text begins
                and ends.
            vocabulary: tells which tokens end a sentence.
            most: the most tokens of a sentence; a longer one is cut into equal parts.
        """
        parts = [_cut(*block, vocabulary.ends_sentence, most) for block in blocks]
        starts, ends, firsts = (np.concatenate([part[i] for part in parts]) for i in range(3))
        return cls(starts, ends, np.append(np.flatnonzero(firsts), len(starts)))


@dataclass(frozen=True)
class Pairs:
    """Pairs of runs of tokens.

    Attributes:
        first, second: where each half begins and ends among all tokens: [pairs] each.
        follows: 1 where the second half follows the first, else 0: [pairs].
    """

    first: tuple[Integers, Integers]
    second: tuple[Integers, Integers]
    follows: Integers

    def __len__(self) -> int:
        return len(self.follows)


def pair_sentences(sentences: Sentences, room: int, where: str) -> Pairs:
    """The pairs of all texts, the same for the same sentences.

    Args:
        sentences: each of at most ``room // 2`` tokens, or of one.
        room: the most tokens of a pair, at least 2.
        where: what to call the texts in an error.

    Raises:
        DataError: there are not two texts.
    """
    starts, ends, texts = sentences.starts, sentences.ends, sentences.texts
    count = len(texts) - 1
    if count < 2:
        hint = "name more texts, or set objective.next_sentence to false"
        raise DataError("pairs of sentences need two texts at least", where=where, hint=hint)
    draw = _Draws()
    rows: list[tuple[int, int, int, int, int]] = []
    for text in range(count):
        sentence, last = int(texts[text]), int(texts[text + 1])
        while sentence < last:
            split, coin, other, place = draw.some()
            begin = int(starts[sentence])
            stop = sentence + int(np.searchsorted(ends[sentence:last], begin + room, side="right"))
            cut = sentence + 1 + split % (stop - sentence - 1) if stop - sentence > 1 else stop
            end = int(ends[cut - 1])
            if cut < stop and coin & 1:
                rows.append((begin, end, end, int(ends[stop - 1]), 1))
                sentence = stop
                continue
            other = (text + 1 + other % (count - 1)) % count
            from_, to = int(texts[other]), int(texts[other + 1])
            from_ += place % (to - from_)
            rows.append((begin, end, *_run(starts, ends, from_, to, room - (end - begin)), 0))
            sentence = cut
    columns = np.array(rows, np.int64).T
    return Pairs((columns[0], columns[1]), (columns[2], columns[3]), columns[4])


def _run(starts: Integers, ends: Integers, sentence: int, last: int, room: int) -> tuple[int, int]:
    """Where the sentences that fit begin and end; the first is cut where even that one does not fit."""
    begin = int(starts[sentence])
    fitting = int(np.searchsorted(ends[sentence:last], begin + room, side="right"))
    return begin, int(ends[sentence + fitting - 1]) if fitting else begin + room


def _cut(
    ids: Integers, place: int, begins: Integers, ends: Integers, enders: NDArray[np.bool_], most: int
) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """The starts and ends of sentences, and whether each is its text's first."""
    owned = begins < ends
    begins, ends = begins[owned], ends[owned]
    # Several marks in a row ("?!") end one sentence.
    over = enders[ids]
    new = np.append(False, over[:-1] & ~over[1:])
    firsts = np.zeros(len(ids), bool)
    firsts[begins] = True
    text = np.cumsum(firsts) - 1
    inside = (text >= 0) & (np.arange(len(ids)) < ends[text]) if len(ends) else np.zeros(len(ids), bool)
    starts = np.flatnonzero(firsts | (new & inside))
    stops = np.minimum(np.append(starts[1:], len(ids)), ends[text[starts]])
    lengths = stops - starts
    parts = -(-lengths // most)
    owner = np.repeat(np.arange(len(starts)), parts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    cuts = [starts[owner] + n * lengths[owner] // parts[owner] for n in (number, number + 1)]
    return cuts[0] + place, cuts[1] + place, firsts[starts[owner]] & (number == 0)


class _Draws:
    """Raw random bits, the same in every process and version."""

    def __init__(self) -> None:
        self._bits = np.random.Philox(np.random.SeedSequence(0))
        self._held: list[int] = []

    def some(self) -> list[int]:
        """The next four numbers of 64 bits."""
        if not self._held:
            self._held = self._bits.random_raw(_DRAWN).tolist()
        drawn = self._held[-_EACH:]
        del self._held[-_EACH:]
        return drawn
