"""Filling bins of tokens without cutting anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

_WORD = 1024


def best_fit(lengths: Sequence[int] | NDArray[np.int64], capacity: int) -> list[list[int]]:
    """Packs items into as few bins as best-fit decreasing finds, whole and in near-linear time.

    Longest first, each item goes into the fullest bin that still has room for it (Ding et al. 2024, "Fewer Truncations
    Improve Language Modeling"). The result depends on nothing but the arguments.

    Args:
        lengths: the size of each item, at least 1.
        capacity: the size of a bin.

    Returns:
        The items of each bin, by their place in ``lengths``, longest first.

    Raises:
        DataError: an item is longer than a bin.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) == 0:
        return []
    if sizes.min() < 1:
        raise ValueError("every length must be at least 1")
    if sizes.max() > capacity:
        longest = int(sizes.argmax())
        raise DataError(f"item {longest} has {sizes[longest]:,} tokens, more than the {capacity:,} of a batch")
    order = np.argsort(-sizes, kind="stable")
    distinct, counts = np.unique(sizes, return_counts=True)
    bins: list[list[int]] = []
    spaces = _Spaces(capacity)
    with_space: dict[int, list[list[int]]] = {}
    queue = order.tolist()
    place = 0
    # Items of one size are placed together: a bin that takes one of them and has room for another is the fullest.
    for size, count in zip(distinct[::-1].tolist(), counts[::-1].tolist(), strict=True):
        end = place + count
        while place < end:
            space = spaces.smallest_from(size)
            if space is None:
                space = capacity
                chosen: list[int] = []
                bins.append(chosen)
            else:
                chosen = with_space[space].pop()
                if not with_space[space]:
                    spaces.remove(space)
            taken = min(space // size, end - place)
            chosen.extend(queue[place : place + taken])
            place += taken
            left = space - taken * size
            if left:
                with_space.setdefault(left, []).append(chosen)
                spaces.add(left)
    return bins


def split_lengths(length: int, limit: int) -> list[int]:
    """The lengths of the pieces that a long text is split into: all of it, each at most ``limit``.

    Every piece but the last is full, unless one token would be left over: a lone token has nothing to predict from, so
    the piece before gives it company.
    """
    pieces = [limit] * (length // limit)
    rest = length % limit
    if rest == 1 and pieces and limit > 2:
        pieces[-1] -= 1
        rest = 2
    return [*pieces, rest] if rest else pieces


class _Spaces:
    """The set of free spaces that some bin has, asked for the smallest that is large enough: bits in two levels."""

    def __init__(self, capacity: int) -> None:
        self._words = [0] * (capacity // _WORD + 1)
        self._summary = 0

    def add(self, space: int) -> None:
        word, bit = divmod(space, _WORD)
        self._words[word] |= 1 << bit
        self._summary |= 1 << word

    def remove(self, space: int) -> None:
        word, bit = divmod(space, _WORD)
        self._words[word] &= ~(1 << bit)
        if not self._words[word]:
            self._summary &= ~(1 << word)

    def smallest_from(self, space: int) -> int | None:
        word, bit = divmod(space, _WORD)
        here = self._words[word] >> bit
        if here:
            return space + _lowest_bit(here)
        above = self._summary >> (word + 1)
        if not above:
            return None
        word += 1 + _lowest_bit(above)
        return word * _WORD + _lowest_bit(self._words[word])


def _lowest_bit(value: int) -> int:
    return (value & -value).bit_length() - 1
