"""Intervals of what was measured."""

from __future__ import annotations

import numpy as np

from .measurement import Measurement

DRAWS = 2000


def interval(measurement: Measurement, *, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the bootstrap, over items or over clusters where there are some (Efron 1979)."""
    rows = measurement.rows
    if measurement.clusters is not None:
        grouped = np.zeros((int(measurement.clusters.max()) + 1, rows.shape[1]))
        np.add.at(grouped, measurement.clusters, rows)
        rows = grouped
    random = np.random.default_rng(seed)
    values = [
        measurement.metric.of(random.multinomial(len(rows), np.full(len(rows), 1 / len(rows))) @ rows)
        for _ in range(DRAWS)
    ]
    low, high = np.nanquantile(values, (0.025, 0.975))
    return float(low), float(high)
