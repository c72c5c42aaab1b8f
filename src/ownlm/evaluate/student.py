"""Student's distribution, by the incomplete beta function: what intervals and tests need of it."""

from __future__ import annotations

import math

# Steps of the continued fraction; it has settled long before.
_MOST_STEPS = 500


def two_sided(t: float, freedom: float) -> float:
    """How likely a value at least as far from 0 as ``t`` is.

    Args:
        t: a value of Student's distribution.
        freedom: its degrees of freedom, above 0; infinite is the normal distribution.
    """
    if math.isnan(t) or math.isnan(freedom):
        return math.nan
    if math.isinf(t):
        return 0.0
    if math.isinf(freedom):
        return math.erfc(abs(t) / math.sqrt(2))
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def quantile(level: float, freedom: float) -> float:
    """The value that ``level`` of the distribution, at least a half, lies below; infinite for no degrees of freedom."""
    if freedom <= 0:
        return math.inf
    low, high = 0.0, 1.0
    outside = 2 * (1 - level)
    while two_sided(high, freedom) > outside:
        low, high = high, 2 * high
    # Halved until two neighbouring numbers are left.
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if two_sided(middle, freedom) > outside else (low, middle)
    return high


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22), after Lentz."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for step in range(_MOST_STEPS):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 + term * d
        d = 1 / (d if abs(d) > tiny else tiny)
        c = 1 + term / (c if abs(c) > tiny else tiny)
        value *= c * d
        if step and abs(c * d - 1) < 1e-15:
            break
    return front * (value - 1)
