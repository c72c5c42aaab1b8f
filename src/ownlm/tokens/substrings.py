"""The substrings of many words that stand there more than once, as pieces for a vocabulary, and where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .lattice import Edges, Floats, Integers

Numbers = NDArray[np.int32]
Flags = NDArray[np.bool_]

# Characters of the longest piece, as in SentencePiece and the library.
LONGEST_PIECE = 16


class Pieces(NamedTuple):
    """Substrings of a text, the characters first.

    Attributes:
        text: uint32[n], the characters of all words, one word after another.
        begin, length: int32[pieces], where each piece stands in it, for one of its places.
        characters: how many of them are single characters.
        weight: float64[pieces], how many characters of the text, words repeated, it could stand for.
        places: for each length from 1, where a piece of that length begins in the text, and which.
    """

    text: NDArray[np.uint32]
    begin: Numbers
    length: Numbers
    characters: int
    weight: Floats
    places: Sequence[tuple[Numbers, Numbers]]

    def texts(self, chosen: Integers) -> list[str]:
        """Some pieces as texts."""
        rows = zip(self.begin[chosen].tolist(), self.length[chosen].tolist(), strict=True)
        return [self.text[begin : begin + length].tobytes().decode("utf-32-le") for begin, length in rows]

    def in_words(self, lengths: Integers) -> Edges:
        """Every place of a piece in the words, whose lengths these are."""
        word = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        begin = np.cumsum(lengths) - lengths
        found = []
        for size, (places, pieces) in enumerate(self.places, 1):
            owner = word[places]
            found.append(_edges(owner, places - begin[owner] + size, size, pieces))
        return _joined(found)

    def in_pieces(self, chosen: Integers) -> Edges:
        """Every place of a piece inside of others, themselves left out.

        Args:
            chosen: int64[k], the other pieces, the longest first; edges number them by their place here.
        """
        begin, length = self.begin[chosen], self.length[chosen]
        # How many of them have at least so many characters.
        reaching = np.searchsorted(-length, -np.arange(LONGEST_PIECE + 1), side="right")
        found = []
        at = np.empty(len(self.text), np.int32)
        for size, (places, pieces) in enumerate(self.places, 1):
            at.fill(-1)
            at[places] = pieces
            for offset in range(LONGEST_PIECE - size + 1):
                # At its beginning a piece of this length is the other itself, where that is no longer.
                others = reaching[max(size + offset, size + 1)] if size < LONGEST_PIECE else 0
                inner = at[begin[:others] + offset]
                hits = np.flatnonzero(inner >= 0)
                found.append(_edges(hits, np.full(len(hits), offset + size), size, inner[hits]))
        return _joined(found)


def find_pieces(words: Sequence[str], times: Floats, most: int) -> Pieces:
    """The pieces that are worth a try: characters, and what is repeated and not always followed by the same character.

    Args:
        words: none of them empty.
        times: float64[words], how often each stands in the text.
        most: the most pieces, characters aside: those that could stand for the most text.
    """
    lengths = np.array(list(map(len, words)), np.int64)
    text = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(text))
    levels = _substrings(text, left, np.repeat(times, lengths))
    weights = [level.times * size for size, level in enumerate(levels, 1)]
    chosen = [np.ones(len(weights[0]), np.bool_), *(level.varied for level in levels[1:])]
    _keep_heaviest(weights[1:], chosen[1:], most)
    places = []
    first = 0
    for level, keep in zip(levels, chosen, strict=True):
        number = np.where(keep, np.cumsum(keep) - 1 + first, -1).astype(np.int32)[level.name]
        places.append((level.place[number >= 0], number[number >= 0]))
        first += int(keep.sum())
    begin = np.concatenate([level.example[keep] for level, keep in zip(levels, chosen, strict=True)])
    length = np.repeat(np.arange(1, len(levels) + 1, dtype=np.int32), [int(keep.sum()) for keep in chosen])
    weight = np.concatenate([weight[keep] for weight, keep in zip(weights, chosen, strict=True)])
    return Pieces(text, begin, length, len(weights[0]), weight, places)


class _Level(NamedTuple):
    """The different substrings of one length that stand in the text more than once, and their places.

    Attributes:
        place, name: int32[k], where one begins, and which it is; names are in the order of the substrings.
        times: float64[names], how often each stands in the text, words repeated.
        example: int32[names], the first place of each.
        varied: bool[names], whether different characters, or the end of the word, follow it.
    """

    place: Numbers
    name: Numbers
    times: Floats
    example: Numbers
    varied: Flags


def _substrings(text: NDArray[np.uint32], left: Integers, times: Floats) -> list[_Level]:
    """The repeated substrings of each length, found by adding a character to those that are one shorter.

    Args:
        text: uint32[n], characters.
        left: int64[n], how many there are to the end of the word.
        times: float64[n], how often the word stands in the text.
    """
    points, example, inverse = np.unique(text, return_index=True, return_inverse=True)
    character = inverse.astype(np.int32)
    place = np.arange(len(text), dtype=np.int32)
    often = np.bincount(character, times).astype(np.float64)
    levels = [_Level(place, character, often, example.astype(np.int32), np.ones(len(points), np.bool_))]
    # One step more than there are levels, for what follows the longest.
    for size in range(2, LONGEST_PIECE + 2):
        shorter = levels[-1]
        there = left[shorter.place] >= size
        place, before = shorter.place[there], shorter.name[there]
        keys = before * np.int64(len(points)) + character[place + size - 1]
        _, example, name = np.unique(keys, return_index=True, return_inverse=True)
        often = np.bincount(name, times[place], len(example)).astype(np.float64)
        most = np.zeros(len(shorter.times))
        np.maximum.at(most, before[example], often)
        shorter.varied[:] = most < shorter.times
        repeated = often >= 2
        if size > LONGEST_PIECE or not repeated.any():
            break
        number = (np.cumsum(repeated) - 1).astype(np.int32)
        here = repeated[name]
        example = place[example[repeated]]
        levels.append(
            _Level(place[here], number[name[here]], often[repeated], example, np.ones(len(example), np.bool_))
        )
    return levels


def _keep_heaviest(weights: Sequence[Floats], chosen: Sequence[Flags], most: int) -> None:
    """Leaves at most so many pieces chosen; the weights and the choice are given for each length."""
    flags = np.concatenate([*chosen, np.zeros(0, np.bool_)])
    weight = np.concatenate([*weights, np.zeros(0)])
    heaviest = np.lexsort((np.arange(len(flags)), -weight, ~flags))[:most]
    kept = np.zeros(len(flags), np.bool_)
    kept[heaviest] = flags[heaviest]
    for keep, part in zip(chosen, np.split(kept, np.cumsum([len(keep) for keep in chosen])), strict=False):
        keep[:] = part


def _edges(word: Integers | Numbers, end: Integers | Numbers, size: int, piece: Numbers) -> Edges:
    return Edges(word.astype(np.int32), end.astype(np.int16), np.full(len(word), size, np.int8), piece)


def _joined(edges: Sequence[Edges]) -> Edges:
    return Edges(*map(np.concatenate, zip(*edges, strict=True)))
