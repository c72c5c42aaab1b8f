"""A Unigram vocabulary (Kudo 2018, "Subword Regularization") from counted words, the same in every process.

The pieces that are worth a try are found first, then their probabilities by expectation and maximisation, and those
that the text would miss least are left out, a quarter at a time, until as many are left as were asked for. The library's
own trainer goes through its words in an order that chance decides, and so do its sums, its ties and its vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .lattice import Floats, Lattice
from .substrings import Pieces, find_pieces

# As SentencePiece and the library have them: how much of the pieces is kept each time, how often their probabilities
# are estimated before, and how much more than is wanted is left for the last choice.
SHRINKING = 0.75
ESTIMATES = 2
SURPLUS = 1.1
# A piece that is expected less often than this is left out at once.
LEAST = 0.5
# What one token more counts for, beside the likelihood that the text loses with a piece: sequences are to be short.
TOKEN = 1.0
# Scores are multiples of this: sums of them are exact, so that ties are ties.
GRAIN = 2.0**-20
# The pieces that are tried at first, or four for each that is wanted: more make no better vocabulary, measured on 20 MB.
SEEDS = 250_000
# Characters of the different words that are looked at, the most frequent words: for each some 250 bytes are held.
MOST_CHARACTERS = 4_000_000


def train_unigram(counts: Mapping[str, int], size: int) -> list[tuple[str, float]]:
    """The pieces with their log-probabilities, the most probable first: every character, and what else is worth most.

    Args:
        counts: how often each word stands in the text; words may be in any order.
        size: the most pieces there may be, at least the number of different characters.
    """
    looked_at = _most_frequent(counts)
    # Lattices take the longest first; of one length any order will do that is always the same.
    words = sorted(looked_at, key=lambda word: (-len(word), word))
    times = np.array([looked_at[word] for word in words], np.float64)
    return _Training(find_pieces(words, times, max(SEEDS, 4 * size)), words, times).run(size)


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """The most frequent words of together so many characters, and every character that only others have, once."""
    kept: dict[str, int] = {}
    room = MOST_CHARACTERS
    for word in sorted(filter(None, counts), key=lambda word: (-counts[word], word)):
        room -= len(word)
        if room < 0:
            break
        kept[word] = counts[word]
    missing = set().union(*counts) - set().union(*kept)
    return kept | dict.fromkeys(missing, 1)


class _Training:
    """Pieces, of which fewer and fewer are alive.

    Args:
        pieces: to begin with.
        words: the longest first.
        times: float64[words], how often each stands in the text.
    """

    def __init__(self, pieces: Pieces, words: Sequence[str], times: Floats) -> None:
        self._pieces, self._times = pieces, times
        self._scores = _rounded(np.log(pieces.weight) - np.log(pieces.weight.sum()))
        self._alive = np.ones(len(self._scores), np.bool_)
        self._is_character = np.arange(len(self._scores)) < pieces.characters
        lengths = np.array(list(map(len, words)), np.int64)
        self._words = Lattice(lengths, pieces.in_words(lengths))
        # The pieces whose other ways to be written are the second lattice: the longest first there too.
        self._long = np.lexsort((np.arange(len(self._scores)), -pieces.length))[: len(self._scores) - pieces.characters]
        self._parts = Lattice(pieces.length[self._long].astype(np.int64), pieces.in_pieces(self._long))

    def run(self, size: int) -> list[tuple[str, float]]:
        """At most ``size`` pieces, by falling score."""
        wanted = max(size, int(size * SURPLUS))
        while True:
            for _ in range(ESTIMATES):
                self._estimate()
            if (alive := int(self._alive.sum())) <= wanted:
                break
            self._prune(max(wanted, int(alive * SHRINKING)))
        if alive > size:
            self._prune(size)
            self._estimate()
        chosen = np.flatnonzero(self._alive)
        rows = zip(self._pieces.texts(chosen), self._scores[chosen].tolist(), strict=True)
        return sorted(rows, key=lambda row: (-row[1], row[0]))

    def _estimate(self) -> None:
        """One step of expectation and maximisation, with the sparse prior of Liang and Klein (2007)."""
        expected = self._words.expected_counts(self._scores, self._times)
        self._alive &= (expected >= LEAST) | self._is_character
        expected = np.maximum(expected, LEAST)
        scores = _rounded(_digamma(expected) - _digamma(expected[self._alive].sum()[None]))
        self._scores = np.where(self._alive, scores, -np.inf)

    def _prune(self, size: int) -> None:
        """Leaves at most ``size`` pieces alive: characters, and those that the text would miss most."""
        worth = self._worth()
        # Of equal ones the longest, which comes first.
        order = np.lexsort((np.arange(len(worth)), -worth))[: max(0, size - self._pieces.characters)]
        self._alive = self._is_character.copy()
        self._alive[self._long[order[worth[order] > -np.inf]]] = True
        self._scores = np.where(self._alive, self._scores, -np.inf)
        self._words = self._words.without(self._alive)
        stay = self._alive[self._long]
        self._parts = self._parts.without(self._alive, stay)
        self._long = self._long[stay]

    def _worth(self) -> Floats:
        """What would be lost if a piece were written with others wherever the best way to cut a word uses it.

        That is the logarithm of the text's likelihood, and a little for each token more.

        Returns:
            float64[long]; -inf for what is not used.
        """
        used = self._words.best_paths(self._scores)
        times = np.bincount(used.piece, weights=self._times[used.word], minlength=len(self._scores))
        total = times.sum()
        instead = self._parts.best_paths(self._scores)
        own = times[self._long]
        used_at_all = (own > 0) & (instead.score <= self._scores[self._long])
        own = np.maximum(own, 1.0)
        # The others would be used as often more.
        others = np.log(times[instead.piece] + own[instead.word])
        parts = np.bincount(instead.word, minlength=len(own))
        likelihood = np.bincount(instead.word, others, len(own)) - parts * np.log(total + own * (parts - 1))
        lost = own * (np.log(own / total) - likelihood + TOKEN * (parts - 1))
        return np.where(used_at_all, _rounded(lost), -np.inf)


def _rounded(values: Floats) -> Floats:
    return np.rint(values / GRAIN) * GRAIN


def _digamma(values: Floats) -> Floats:
    """The logarithmic derivative of the gamma function, by recurrence up to 7 and its asymptotic series from there."""
    values = values.copy()
    result = np.zeros_like(values)
    for _ in range(7):
        low = values < 7
        result[low] -= 1 / values[low]
        values[low] += 1
    inverse = 1 / (values * values)
    series = inverse * (1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse / 240)))
    return result + np.log(values) - 0.5 / values - series
