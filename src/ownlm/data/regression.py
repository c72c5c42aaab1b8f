"""Logistic regression over many features of which each document has few, in numpy: for the quality model.

The minimum is found with L-BFGS (Nocedal and Wright 2006, "Numerical Optimization", algorithms 7.4 and 7.5); every sum
runs over the examples in their order, so the same examples give the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_MEMORY = 10
_STEPS = 200
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Examples:
    """Documents as the features each has, and how much of it: the cells of a matrix that are not zero.

    Attributes:
        rows: int32[k], the document, rising.
        columns: int32[k], the feature.
        values: float32[k].
        count: how many documents there are.
    """

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    count: int

    @staticmethod
    def join(parts: Sequence[Examples]) -> Examples:
        """The documents of several one after another."""
        firsts = np.cumsum([0, *(part.count for part in parts)])
        rows = [part.rows + np.int32(first) for part, first in zip(parts, firsts[:-1], strict=True)]
        columns, values = [part.columns for part in parts], [part.values for part in parts]
        return Examples(np.concatenate(rows), np.concatenate(columns), np.concatenate(values), int(firsts[-1]))


def fit(examples: Examples, labels: Mask, features: int, penalty: float) -> tuple[Floats, float]:
    """The weights and the bias with the least loss and penalty, each kind of example weighing half.

    Args:
        examples: the documents.
        labels: bool[documents], of both kinds.
        features: how many there are.
        penalty: what half the sum of the squared weights costs, beside the sum of the losses.

    Returns:
        float64[features], and the bias.
    """
    rows, columns, values = examples.rows, examples.columns, examples.values
    signs = np.where(labels, 1.0, -1.0)
    weight = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    penalty = penalty / len(labels)

    def loss(point: Floats) -> tuple[float, Floats]:
        margins = signs * (np.bincount(rows, point[columns] * values, len(signs)) + point[-1])
        value = _dot(weight, np.logaddexp(0, -margins)) + 0.5 * penalty * _dot(point[:-1], point[:-1])
        pull = -signs * weight / (1 + np.exp(np.clip(margins, -60, 60)))
        gradient = np.append(np.bincount(columns, pull[rows] * values, features), pull.sum())
        gradient[:-1] += penalty * point[:-1]
        return value, gradient

    point = minimize(loss, np.zeros(features + 1))
    return point[:-1], float(point[-1])


def minimize(loss: Callable[[Floats], tuple[float, Floats]], point: Floats) -> Floats:
    """Where a smooth convex function is least, by L-BFGS with a line search that halves the step.

    Args:
        loss: the value and the gradient at a point.
        point: where to begin.
    """
    value, gradient = loss(point)
    first = _dot(gradient, gradient)
    moves: list[tuple[Floats, Floats]] = []
    for _ in range(_STEPS):
        if _dot(gradient, gradient) <= _TOLERANCE**2 * first:
            break
        direction = -_two_loops(gradient, moves)
        slope = _dot(direction, gradient)
        # At first nothing is known of the curvature: a step of length one.
        step = 1.0 if moves else first**-0.5
        while True:
            there = point + step * direction
            new_value, new_gradient = loss(there)
            if new_value <= value + 1e-4 * step * slope or step < 1e-12:
                break
            step /= 2
        move, change = there - point, new_gradient - gradient
        if _dot(move, change) > 1e-12 * _dot(change, change):
            moves = [*moves[1 - _MEMORY :], (move, change)]
        stuck = value - new_value <= 1e-12 * abs(value)
        point, value, gradient = there, new_value, new_gradient
        if stuck:
            break
    return point


def _two_loops(gradient: Floats, moves: list[tuple[Floats, Floats]]) -> Floats:
    """The gradient times the estimated inverse of the second derivatives."""
    result = gradient.copy()
    factors = []
    for move, change in reversed(moves):
        factor = _dot(move, result) / _dot(move, change)
        factors.append(factor)
        result -= factor * change
    if moves:
        move, change = moves[-1]
        result *= _dot(move, change) / _dot(change, change)
    for (move, change), factor in zip(moves, reversed(factors), strict=True):
        result += (factor - _dot(change, result) / _dot(move, change)) * move
    return result


def _dot(a: Floats, b: Floats) -> float:
    """The product of two vectors; a library's may sum in another order on another number of cores."""
    return float((a * b).sum())


def roc_area(scores: NDArray[np.floating], labels: Mask) -> tuple[float, float, float]:
    """The area under the ROC curve with its 95% interval (DeLong, DeLong and Clarke-Pearson 1988).

    Args:
        scores: float[documents].
        labels: bool[documents], with both kinds.

    Returns:
        The chance that a good one is above a bad one, ties counting half, and the interval's ends.
    """
    good, bad = np.sort(scores[labels]), np.sort(scores[~labels])
    above = (np.searchsorted(bad, good, "left") + np.searchsorted(bad, good, "right")) / (2 * len(bad))
    below = 1 - (np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")) / (2 * len(good))
    area = float(above.mean())
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (above, below) if len(part) > 1)
    # Where all are told apart there is no variance to go by: the rule of three (Hanley and Lippman-Hand 1983).
    reach = 1.96 * variance**0.5 if variance > 0 else 3 / min(len(good), len(bad))
    return area, max(0.0, area - reach), min(1.0, area + reach)
