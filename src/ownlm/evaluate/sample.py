"""What intervals and tests are computed from: independent units of evidence, and a function of their rows' sum.

A unit is an item or, where items share a source, all items of that source together. One measurement is a sample, and so is
the difference of two on the same items, whose rows then stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .measurement import Floats, Measurement

# Numbers that are held at a time: 32 MiB of them.
BLOCK = 1 << 22
# Columns of rows beyond which the gradient by each is too dear.
MOST_COLUMNS = 128
# Steps of a gradient, in shares of what a column holds.
STEP = 1e-5


@dataclass(frozen=True, eq=False)
class Sample:
    """Units of evidence.

    Attributes:
        rows: what each contributes: float64[units, columns].
        of: sums of rows [..., columns] -> values [...].
        items: how many items the units hold.
        bounds: what values lie between.
        binary: each unit is one item that is right or wrong, and the value their share.
        counts: each item is right or wrong, or such a pair's difference, so no item tells more than one bit.
        signed: values around 0 are the common ones, as those of differences.
        table: each item is a 1 in one of the columns, as in a table of which class was taken for which.
    """

    rows: Floats
    of: Callable[[Floats], Floats]
    items: int
    bounds: tuple[float, float] = (-np.inf, np.inf)
    binary: bool = False
    counts: bool = False
    signed: bool = False
    table: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def sums(self) -> Floats:
        """Of all rows: [columns]."""
        return self.rows.sum(0)

    @cached_property
    def value(self) -> float:
        """The function of all rows' sum."""
        return float(self.of(self.sums))

    @cached_property
    def variance(self) -> float:
        """Of the value, by the jackknife: each unit is left out once (Miller 1974); NaN for fewer than two.

        The square of the jackknife's estimate of bias is added: it is nothing for means and little for many units, but what is
        computed from few items of a class is off by about as much as it varies. And of a table it is never less than after two
        more items, spread over all cells: a class all of whose few items went wrong would else seem sure to go wrong.
        """
        if len(self) < 2:
            return np.nan
        parts = [self.of(self.sums - rows) for rows in blocks(self.rows)]
        away = np.concatenate(parts) - self.value
        # What only rounding tells apart is the same.
        away[np.abs(away) <= 1e-13 * max(1.0, abs(self.value))] = 0
        units = len(self)
        bias = (units - 1) * away.mean()
        found = float((away**2).sum() * (units - 1) / units + bias**2)
        return max(found, self._variance_of_table()) if self.table and np.isfinite(found) else found

    def _variance_of_table(self) -> float:
        """By the delta method, after two more items."""
        cells = self.sums + 2 / len(self.sums)
        total = cells.sum()
        (influence,) = self.gradients(cells[None], np.minimum(STEP * total, cells / 2))
        return float((cells * influence**2).sum() - (cells * influence).sum() ** 2 / total)

    def gradients(self, sums: Floats, steps: Floats | None = None) -> Floats:
        """Of the function by each column, at some sums [draws, columns]: [draws, columns]; steps: [columns]."""
        if steps is None:
            steps = STEP * np.maximum(np.abs(self.rows).sum(0), 1e-300)
        found = np.empty_like(sums)
        for column, step in enumerate(steps):
            above, below = sums.copy(), sums.copy()
            above[:, column] += step
            below[:, column] -= step
            # Of a draw whose logarithm is infinite there is none: NaN, which says so.
            with np.errstate(invalid="ignore"):
                found[:, column] = (self.of(above) - self.of(below)) / (2 * step)
        return found


def blocks(rows: Floats) -> Iterator[Floats]:
    """Rows in parts that fit memory several times over."""
    size = max(1, BLOCK // max(1, rows.shape[1]))
    yield from (rows[start : start + size] for start in range(0, len(rows), size))


def sample_of(measurement: Measurement) -> Sample:
    """One measurement as a sample."""
    rows = measurement.rows
    share = is_share(measurement)
    bounds = (0.0, 1.0) if share else measurement.metric.bounds
    counts = share and are_counts(rows)
    grouped = grouped_rows(rows, measurement.keys, measurement.clusters)
    single = len(grouped) == len(rows)
    found = not share and bounds == (-np.inf, np.inf) and _is_signed_share(measurement)
    return Sample(
        grouped,
        measurement.metric.of,
        len(rows),
        (-1.0, 1.0) if found else bounds,
        binary=counts and single,
        counts=counts,
        signed=found or measurement.metric.signed,
        table=_is_table(rows),
    )


def is_share(measurement: Measurement) -> bool:
    """Whether it is a quotient of sums of which every row has its part of a whole."""
    rows = measurement.rows
    return bool(_is_quotient(measurement) and (rows[:, 0] >= 0).all() and (rows[:, 0] <= rows[:, 1]).all())


def are_counts(rows: Floats) -> bool:
    """Whether each row is an item that is right or wrong."""
    return bool(((rows[:, 0] == 0) | (rows[:, 0] == 1)).all() and (rows[:, 1] == 1).all())


def grouped_rows(rows: Floats, keys: Sequence[str], clusters: NDArray[np.int64] | None) -> Floats:
    """The sums of each cluster's rows, in an order that only the keys decide, so that draws fall on the same units."""
    order = np.argsort(np.asarray(keys, dtype=str), kind="stable") if len(rows) else np.zeros(0, np.int64)
    ordered = rows[order]
    if clusters is None:
        return ordered
    names, first, place = np.unique(clusters[order], return_index=True, return_inverse=True)
    # Numbered by the first key that each holds.
    number = np.empty(len(names), np.int64)
    number[np.argsort(first)] = np.arange(len(names))
    grouped = np.zeros((len(names), rows.shape[1]))
    np.add.at(grouped, number[place.reshape(-1)], ordered)
    return grouped


def _is_table(rows: Floats) -> bool:
    """Whether each row is a 1 in one of several columns."""
    if not 4 <= rows.shape[1] <= MOST_COLUMNS:
        return False
    return bool(((rows == 0) | (rows == 1)).all() and (rows.sum(1) == 1).all())


def _is_signed_share(measurement: Measurement) -> bool:
    rows = measurement.rows
    return bool(_is_quotient(measurement) and (np.abs(rows[:, 0]) <= rows[:, 1]).all())


def _is_quotient(measurement: Measurement) -> bool:
    """Whether the value is the quotient of two columns' sums, which the function itself is asked."""
    rows = measurement.rows
    if rows.shape[1] != 2 or not len(rows) or not np.isfinite(rows).all():
        return False
    probes = np.array([[0.25, 1.0], [3.0, 4.0], [0.0, 2.0]])
    return bool(np.array_equal(measurement.metric.of(probes), probes[:, 0] / probes[:, 1]))
