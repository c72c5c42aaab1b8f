"""What an epoch holds, and in which order: pure functions of the lengths, the seed and the epoch's number.

Only raw random bits are drawn, and sorted: unlike the numbers a library derives from them, they are the same in every
version and on every machine.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .packing import best_fit

# How many steps are filled at the same time: enough to fill them, few enough that each stays a random draw.
OPEN_STEPS = 8

# What random bits are drawn for.
_ORDER, _PART = range(2)

Integers = NDArray[np.int64]


def split_documents(lengths: Integers, limit: int) -> tuple[Integers, Integers, Integers]:
    """Splits each document as ``packing.split_lengths`` does: the document, start and end of each piece: [pieces]."""
    counts = -(-lengths // limit)
    documents = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = number * limit
    last = number == counts[documents] - 1
    lone = (lengths % limit == 1) & (lengths > limit) & (limit > 2)
    starts[last & lone[documents]] -= 1
    ends = np.append(starts[1:], 0)
    ends[last] = lengths
    return documents, starts, ends


def mix_repeats(
    tokens: Sequence[float], weights: Sequence[float] | None, epochs: Sequence[float] | None
) -> list[float]:
    """How often each dataset is passed in one epoch of a mix.

    Without weights, each is passed ``epochs`` times (once unless said otherwise). With weights, each gives exactly its
    share of the epoch's tokens, and the epoch ends when the first of them has been passed ``epochs`` times; so nothing
    is repeated more often than allowed, and what an epoch leaves out comes in the next ones.

    Args:
        tokens: the tokens of each dataset.
        weights: the share of each in the tokens of an epoch, in any unit.
        epochs: how often each may be passed in one epoch of the mix.

    Raises:
        ConfigError: a weight is negative, all are zero, or a number of epochs is not above zero.
    """
    allowed = [1.0] * len(tokens) if epochs is None else [float(e) for e in epochs]
    if min(allowed) <= 0:
        raise ConfigError("epochs must be above zero", where="data.mix")
    if weights is None:
        return allowed
    if min(weights) < 0 or max(weights) <= 0:
        raise ConfigError("weights must not be negative, and one must be above zero", where="data.mix")
    size = min(e * t / w for e, t, w in zip(allowed, tokens, weights, strict=True) if w > 0)
    return [w * size / t for t, w in zip(tokens, weights, strict=True)]


def pieces_of_epoch(counts: Sequence[int], repeats: Sequence[float], seed: int, epoch: int) -> Integers:
    """The pieces of an epoch, unshuffled, by their numbers across all datasets.

    A dataset passed 2.25 times gives all of its pieces twice and a quarter of them once more: another quarter in each
    epoch, until all have had their turn.
    """
    parts = []
    first = 0
    for dataset, (count, repeat) in enumerate(zip(counts, repeats, strict=True)):
        whole = int(repeat)
        part = round((repeat - whole) * count)
        parts += [np.arange(first, first + count)] * whole
        if part:
            turn = np.argsort(_bits(count, seed, dataset, _PART), kind="stable")
            parts.append(first + turn[(epoch * part + np.arange(part)) % count])
        first += count
    pieces = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    if not len(pieces):
        raise ConfigError(
            "the mix leaves no document in an epoch", where="data.mix", hint="raise its weights or epochs"
        )
    return pieces


@dataclass(frozen=True)
class EpochPlan:
    """Which pieces each step of an epoch holds.

    Attributes:
        pieces: every piece of the epoch, step after step.
        starts: where each step begins in them, and the end of the last: [steps + 1].
    """

    pieces: Integers
    starts: Integers

    def __len__(self) -> int:
        return len(self.starts) - 1

    def step(self, index: int) -> Integers:
        """The pieces of one step."""
        return self.pieces[self.starts[index] : self.starts[index + 1]]


def plan_epoch(pieces: Integers, lengths: Integers, batch_tokens: int, seed: int, epoch: int) -> EpochPlan:
    """Shuffles an epoch's pieces and packs them into steps of at most ``batch_tokens``.

    The pieces come in their shuffled order, and each goes into the fullest of a few open steps that has room for it
    (bounded best fit, Johnson 1974): steps are nearly full, and yet a random draw. Packing many at once would fill them
    a little better, but sorts by length: short documents would meet in one step and long ones in another, in every
    epoch the same. What is left open at the end is packed once more, so only the last step may be small.

    Args:
        pieces: the epoch's pieces, by number, some perhaps several times.
        lengths: tokens of every piece there is, by number.
    """
    shuffled = pieces[np.argsort(_bits(len(pieces), seed, epoch, _ORDER), kind="stable")]
    steps, left = _fill(shuffled.tolist(), lengths[shuffled].tolist(), batch_tokens)
    if left:
        rest = np.array(left)
        bins = [rest[items].tolist() for items in best_fit(lengths[rest], batch_tokens)]
        steps += sorted(bins, key=lambda items: -int(lengths[items].sum()))
    starts = np.cumsum([0, *map(len, steps)])
    return EpochPlan(np.array([piece for step in steps for piece in step], np.int64), starts)


def _fill(pieces: list[int], lengths: list[int], capacity: int) -> tuple[list[list[int]], list[int]]:
    """The steps that were closed, in that order, and the pieces of those still open at the end."""
    steps: list[list[int]] = []
    # Rising by what is free, so the first with room is the fullest.
    free: list[int] = []
    held: list[list[int]] = []
    for piece, length in zip(pieces, lengths, strict=True):
        place = bisect.bisect_left(free, length)
        if place < len(free):
            room, step = free.pop(place) - length, held.pop(place)
        else:
            if len(free) == OPEN_STEPS:
                free.pop(0)
                steps.append(held.pop(0))
            room, step = capacity - length, []
        step.append(piece)
        if room:
            place = bisect.bisect_left(free, room)
            free.insert(place, room)
            held.insert(place, step)
        else:
            steps.append(step)
    return steps, [piece for step in held for piece in step]


def _bits(count: int, *key: int) -> NDArray[np.uint64]:
    return np.random.Philox(np.random.SeedSequence(key)).random_raw(count)
