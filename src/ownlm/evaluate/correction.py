"""Many comparisons at once: of twenty where nothing differs, one looks as if it did at 5%.

NaN stands for a comparison that has no p-value, and does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from .measurement import Floats

Method = Literal["holm", "benjamini-hochberg", "none"]


def corrected(p: Sequence[float], method: Method = "holm") -> Floats:
    """P-values that can be held against the level itself.

    Args:
        p: of all comparisons of one report.
        method: ``holm`` keeps the chance of any wrong verdict at the level (Holm 1979), whatever depends on what;
            ``benjamini-hochberg`` the expected share of wrong ones among verdicts (Benjamini and Hochberg 1995), for
            comparisons that are independent or alike; ``none`` leaves them as they are.
    """
    values = np.array(p, np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    count = len(order)
    if method == "holm":
        values[order] = np.maximum.accumulate(np.minimum(values[order] * np.arange(count, 0, -1), 1.0))
    elif method == "benjamini-hochberg":
        scaled = values[order] * count / np.arange(1, count + 1)
        values[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return values
