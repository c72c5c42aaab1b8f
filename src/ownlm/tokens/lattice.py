"""Every way to cut many words into pieces, as one graph in flat arrays: expected counts, and the best ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class Edges(NamedTuple):
    """Pieces that stand in words.

    Attributes:
        word: int32[edges], the word's number.
        end: int16[edges], the characters of the word up to the piece's end.
        length: int8[edges], the characters of the piece.
        piece: int32[edges], its number.
    """

    word: NDArray[np.int32]
    end: NDArray[np.int16]
    length: NDArray[np.int8]
    piece: NDArray[np.int32]

    def where(self, chosen: NDArray[np.bool_] | Integers) -> Edges:
        """Some of them, or all in another order."""
        return Edges(self.word[chosen], self.end[chosen], self.length[chosen], self.piece[chosen])


class Paths(NamedTuple):
    """The best way to cut each word.

    Attributes:
        word, piece: int32[k], a row for each piece on the way, from the words' ends.
        score: float64[words], the sum over the word's pieces; -inf where it cannot be cut.
    """

    word: NDArray[np.int32]
    piece: NDArray[np.int32]
    score: Floats


@dataclass(frozen=True)
class _Step:
    """The edges that end behind one character, and where those of each word begin among them."""

    edges: slice
    nodes: slice
    owner: NDArray[np.int32]
    starts: Integers


class Lattice:
    """The words, cut between any two characters where a piece ends and another begins.

    A node is a place in a word: behind so many characters. Nodes are numbered by place, then by word, so one step of a
    calculation takes all words at once. All sums are made in the order of the edges, which is fixed, by one thread.

    Args:
        lengths: int64[words], characters of each word, at least 1 and fewer than 2^15, falling.
        edges: the pieces, in any order; a word with a place that no piece ends at has no paths beyond it.
    """

    def __init__(self, lengths: Integers, edges: Edges) -> None:
        self.lengths = lengths
        # Of one place and word the longest first: where two ways are equally good, the one with longer pieces is taken.
        self.edges = edges = edges.where(np.lexsort((-edges.length, edges.word, edges.end)))
        longest = int(lengths[0]) if len(lengths) else 0
        # Words with at least so many characters: they come first.
        reaching = np.searchsorted(-lengths, -np.arange(longest + 1), side="right")
        self._first = np.concatenate([[0], np.cumsum(reaching)])
        self._ends = self._first[lengths] + np.arange(len(lengths))
        self._source = (self._first[edges.end - edges.length] + edges.word).astype(np.int32)
        self._steps = self._make_steps(longest)

    def _make_steps(self, longest: int) -> list[_Step]:
        bounds = np.searchsorted(self.edges.end, np.arange(longest + 2))
        steps = []
        for end in range(1, longest + 1):
            edges = slice(int(bounds[end]), int(bounds[end + 1]))
            owner = self.edges.word[edges]
            if len(owner):
                starts = np.flatnonzero(np.diff(owner, prepend=-1))
                nodes = slice(int(self._first[end]), int(self._first[end + 1]))
                steps.append(_Step(edges, nodes, owner, starts))
        return steps

    def without(self, pieces: NDArray[np.bool_], words: NDArray[np.bool_] | None = None) -> Lattice:
        """The lattice without some pieces, and without some words.

        Args:
            pieces: bool[pieces], those that stay.
            words: bool[words], those that stay; the others' numbers are given to those behind them.
        """
        stay = pieces[self.edges.piece]
        if words is None:
            return Lattice(self.lengths, self.edges.where(stay))
        edges = self.edges.where(stay & words[self.edges.word])
        number = (np.cumsum(words) - 1).astype(np.int32)
        return Lattice(self.lengths[words], edges._replace(word=number[edges.word]))

    def expected_counts(self, scores: Floats, counts: Floats) -> Floats:
        """How often each piece is expected to be used, over all ways to cut the words by their probability.

        Args:
            scores: float64[pieces], log-probabilities.
            counts: float64[words], how often each word stands in the text.
        """
        share = np.empty(len(self.edges.piece))
        total = self._start(0.0)
        for step, value in self._forward(scores, total):
            # Log of a sum of exponentials: nothing overflows, whatever the word's length.
            most = np.maximum.reduceat(value, step.starts)
            weight = np.exp(value - self._spread(most, step))
            sums = np.add.reduceat(weight, step.starts)
            total[self._targets(step)] = most + np.log(sums)
            share[step.edges] = weight / self._spread(sums, step)
        mass = np.zeros(len(total))
        mass[self._ends] = counts
        for step in reversed(self._steps):
            flow = share[step.edges] * mass[step.nodes.start + step.owner]
            # No two edges of a step share both their ends, so each source stands here once.
            mass[self._source[step.edges]] += flow
            share[step.edges] = flow
        return np.bincount(self.edges.piece, weights=share, minlength=len(scores)).astype(np.float64)

    def best_paths(self, scores: Floats) -> Paths:
        """The way of the highest score for each word (Viterbi); sums of scores should be exact for ties to be ties."""
        best = self._start(0.0)
        back = np.full(len(best), -1, np.int64)
        for step, value in self._forward(scores, best):
            most = np.maximum.reduceat(value, step.starts)
            best[self._targets(step)] = most
            hits = np.flatnonzero((value == self._spread(most, step)) & (value > -np.inf))
            # Of equal ones the first: it is written last.
            back[step.nodes.start + step.owner[hits[::-1]]] = hits[::-1] + step.edges.start
        on_path = np.zeros(len(best), np.bool_)
        on_path[self._ends] = True
        chosen = []
        for step in reversed(self._steps):
            edges = back[step.nodes][on_path[step.nodes]]
            edges = edges[edges >= 0]
            on_path[self._source[edges]] = True
            chosen.append(edges)
        path = np.concatenate(chosen) if chosen else np.zeros(0, np.int64)
        return Paths(self.edges.word[path], self.edges.piece[path], best[self._ends])

    def _start(self, value: float) -> Floats:
        """A value for each node: that of the words' beginnings, and for the others that there is no way to them."""
        values = np.full(int(self._first[-1]), -np.inf)
        values[: len(self.lengths)] = value
        return values

    def _forward(self, scores: Floats, values: Floats) -> Iterator[tuple[_Step, Floats]]:
        """Each step with its edges' scores added to the values of where they begin, which were set before."""
        for step in self._steps:
            yield step, values[self._source[step.edges]] + scores[self.edges.piece[step.edges]]

    def _targets(self, step: _Step) -> Integers:
        return step.nodes.start + step.owner[step.starts]

    @staticmethod
    def _spread(values: Floats, step: _Step) -> Floats:
        """A value of each word for each of its edges."""
        return np.repeat(values, np.diff(step.starts, append=len(step.owner)))
