"""Whether two models differ: the randomisation test, which asks how often chance alone would tell them as far apart.

If the two are as good as each other, then whose answers to an item are called whose is arbitrary. All items of a cluster
change hands together (Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses"; Yeh 2000, for metrics such as F1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .measurement import Floats
from .sample import BLOCK

# As many ways to change hands are all tried; of more, so many are drawn.
MOST_EXACT = 1 << 14
DRAWS = 9999


def randomisation_test(
    first: Floats, second: Floats, apart: Callable[[Floats, Floats], Floats], seed: int = 0
) -> float:
    """The two-sided p-value, exact for few units.

    Args:
        first, second: the rows of the same units of both: [units, columns].
        apart: sums of either [draws, columns] -> how far they are apart, negative the other way: [draws].
        seed: of the draws.
    """
    halves = (first - second) / 2
    moving = np.any(halves != 0, 1)
    halves = halves[moving]
    middle = (first.sum(0) + second.sum(0)) / 2
    units = len(halves)

    def distance(signs: Floats) -> Floats:
        moved = signs @ halves
        found = np.abs(apart(middle + moved, middle - moved))
        # What says nothing is no evidence of a difference.
        return np.where(np.isnan(found), np.inf, found)

    if not units:
        return 1.0
    seen = float(distance(np.ones((1, units)))[0])
    if not np.isfinite(seen):
        return np.nan
    # Sums in another order differ in their last digits.
    enough = seen - 1e-12 * max(1.0, seen)
    size = max(1, BLOCK // units)
    if 2**units <= MOST_EXACT:
        ways = np.arange(2**units)
        at_least = 0
        for start in range(0, len(ways), size):
            bits = (ways[start : start + size, None] >> np.arange(units)) & 1
            at_least += int((distance(_signs(bits)) >= enough).sum())
        return at_least / len(ways)
    random = np.random.default_rng(seed)
    at_least = 0
    for start in range(0, DRAWS, size):
        bits = random.integers(0, 2, (min(size, DRAWS - start), units), dtype=np.int8)
        at_least += int((distance(_signs(bits)) >= enough).sum())
    # The one that was seen is one of them (Phipson and Smyth 2010).
    return (at_least + 1) / (DRAWS + 1)


def _signs(bits: NDArray[np.integer]) -> Floats:
    """1 for what stays, -1 for what changes hands."""
    return 1.0 - 2.0 * bits.astype(np.float64)
