"""Which tokens are hidden, and behind what (Devlin et al. 2018, section 3.1; Liu et al. 2019, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batch import Batch
from .vocabulary import Vocabulary

# What each token draws a number for.
_CHOICE, _REPLACEMENT, _TOKEN = range(3)

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Draws = NDArray[np.uint64]


@dataclass(frozen=True)
class Hiding:
    """How tokens are hidden.

    Of a document's n ordinary tokens, max(1, round(share x n)) are chosen, with half rounded to even; never a special
    one. With ``whole_words``, words are chosen until they have at least that many tokens.

    Attributes:
        vocabulary: what each token is.
        mask: the mask token.
        share: of a document's ordinary tokens, how many are chosen.
        replace: of these, the shares that become the mask token, become any ordinary token, and stay.
        whole_words: whether words are chosen, with all of their tokens.
    """

    vocabulary: Vocabulary
    mask: int
    share: float
    replace: tuple[float, float, float]
    whole_words: bool

    def hide(self, batch: Batch, key: tuple[int, int]) -> tuple[Integers, Flags]:
        """The tokens that the model reads, and which are to be told: both [tokens].

        Every token draws by (key, piece, position) alone, so neither packing nor other documents change anything.
        """
        tokens, positions = batch.tokens.numpy(), batch.positions.numpy()
        starts = np.array(batch.document_starts, np.int64)
        lengths = np.diff(starts)
        document = np.repeat(np.arange(len(lengths)), lengths)
        # Documents that no piece stands behind count nowhere.
        pieces = np.array(batch.documents, np.int64) if batch.documents else np.arange(len(lengths))
        inside = self.vocabulary.ordinary[tokens]
        if not inside.any():
            return tokens.copy(), np.zeros(len(tokens), bool)
        draws = _draws(key, pieces[document], positions)
        chosen = self._chosen(tokens, document, inside, draws[_CHOICE])
        masked, other = (cut * 2.0**64 for cut in np.cumsum(self.replace)[:2])
        number = draws[_REPLACEMENT].astype(np.float64)
        hidden = tokens.copy()
        hidden[chosen & (number < masked)] = self.mask
        swapped = chosen & (number >= masked) & (number < other)
        ordinary = np.flatnonzero(self.vocabulary.ordinary)
        hidden[swapped] = ordinary[draws[_TOKEN][swapped] % np.uint64(len(ordinary))]
        return hidden, chosen

    def _chosen(self, tokens: Integers, document: Integers, inside: Flags, order: Draws) -> Flags:
        """Of each document the words of the lowest draws, until they have as many tokens as wanted: [tokens]."""
        begins = inside
        if self.whole_words:
            follows = np.append(False, inside[:-1] & (document[1:] == document[:-1]))
            begins = self.vocabulary.word_begins(tokens, follows)
        first = np.flatnonzero(begins)
        word = np.cumsum(begins) - 1
        sizes = np.bincount(word[inside], minlength=len(first))
        owner = document[first]
        counts = np.bincount(document[inside], minlength=int(document[-1]) + 1)
        wanted = np.maximum(1, np.rint(self.share * counts))
        turn = np.lexsort((order[first], owner))
        before = np.cumsum(sizes[turn]) - sizes[turn]
        # Counted from the first word of each document on.
        starts = np.flatnonzero(np.append(True, np.diff(owner) > 0))
        before -= np.repeat(before[starts], np.diff(np.append(starts, len(turn))))
        taken = np.zeros(len(first), bool)
        taken[turn] = before < wanted[owner]
        result = np.zeros(len(tokens), bool)
        result[inside] = taken[word[inside]]
        return result


def _draws(key: tuple[int, int], pieces: Integers, positions: Integers) -> list[Draws]:
    """Three draws of 64 random bits for each token."""
    state = _mixed(_mixed(np.array([key[0]], np.uint64)) + np.uint64(key[1]))
    state = _mixed(state + pieces.astype(np.uint64))
    state = _mixed(state + positions.astype(np.uint64))
    return [_mixed(state + np.uint64(number)) for number in range(3)]


def _mixed(x: NDArray[np.uint64] | Any) -> Draws:
    """SplitMix64's mixer (Steele et al. 2014), on whole arrays; arithmetic wraps around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
