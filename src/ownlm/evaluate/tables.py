"""Metrics of classification as functions of sums: of a table of confusions, and of bins of confidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .measurement import Floats, Metric

# Bins of equal width (Guo et al. 2017, "On Calibration of Modern Neural Networks", section 3).
BINS = 10


def of_confusions(right: NDArray[np.int64], chosen: NDArray[np.int64], classes: int) -> Floats:
    """Rows of a confusion table: a 1 where the right class's row meets the chosen one's column: [items, classes^2]."""
    return np.eye(classes * classes)[right * classes + chosen] if len(right) else np.zeros((0, classes * classes))


def macro_f1(classes: int) -> Metric:
    """The mean of the classes' F1; a class that is neither right nor chosen anywhere does not count."""

    def of(sums: Floats) -> Floats:
        table = sums.reshape(*sums.shape[:-1], classes, classes)
        hits = np.diagonal(table, axis1=-2, axis2=-1)
        present = table.sum(-1) + table.sum(-2)
        with np.errstate(invalid="ignore"):
            scores = np.where(present > 0, 2 * hits / present, np.nan)
        counted = (~np.isnan(scores)).sum(-1)
        return np.where(counted > 0, np.nansum(scores, -1) / np.maximum(counted, 1), np.nan)

    return Metric("macro_f1", of, True, 1.0, bounds=(0.0, 1.0))


def matthews(classes: int) -> Metric:
    """Matthews's correlation for any number of classes (Gorodkin 2004); 0 where either side has one class only."""

    def of(sums: Floats) -> Floats:
        table = sums.reshape(*sums.shape[:-1], classes, classes)
        total, hits = table.sum((-1, -2)), np.trace(table, axis1=-2, axis2=-1)
        right, chosen = table.sum(-1), table.sum(-2)
        above = hits * total - (right * chosen).sum(-1)
        below = np.sqrt((total**2 - (right**2).sum(-1)) * (total**2 - (chosen**2).sum(-1)))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(below > 0, above / below, 0.0)

    return Metric("matthews", of, True, 1.0, bounds=(-1.0, 1.0))


def of_confidences(confidence: Floats, hit: NDArray[np.bool_]) -> Floats:
    """Rows of bins: the count, confidence and hits of each: [items, 3 x bins]."""
    rows = np.zeros((len(confidence), 3, BINS))
    # A bin holds its upper edge.
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    items = np.arange(len(confidence))
    rows[items, 0, place], rows[items, 1, place], rows[items, 2, place] = 1, confidence, hit
    return rows.reshape(len(confidence), 3 * BINS)


def calibration_error() -> Metric:
    """The expected calibration error: how far confidence is from being right, over bins of confidence."""

    def of(sums: Floats) -> Floats:
        count, confidence, hits = np.moveaxis(sums.reshape(*sums.shape[:-1], 3, BINS), -2, 0)
        total = count.sum(-1)
        with np.errstate(invalid="ignore"):
            return np.where(total > 0, np.abs(confidence - hits).sum(-1) / total, np.nan)

    return Metric("calibration_error", of, False, 0.0, bounds=(0.0, 1.0))


def of_ranks(score: Floats, positive: NDArray[np.bool_]) -> Floats:
    """Rows of ``auroc``: how many of the other class a text's score is on the right side of: [items, 5].

    They are the structural components of DeLong et al. (1988), so that intervals are theirs; a row depends on the other items.
    """
    rows = np.zeros((len(score), 5))
    ups, downs = np.sort(score[positive]), np.sort(score[~positive])
    with np.errstate(invalid="ignore", divide="ignore"):
        above = (np.searchsorted(downs, score, "left") + np.searchsorted(downs, score, "right")) / (2 * len(downs))
        below = 1 - (np.searchsorted(ups, score, "left") + np.searchsorted(ups, score, "right")) / (2 * len(ups))
    rows[:, 0], rows[:, 1] = np.where(positive, above, 0), positive
    rows[:, 2], rows[:, 3] = np.where(positive, 0, below), ~positive
    # The same in every row, and so without influence: it takes off what the two sums count twice.
    rows[:, 4] = above[positive].mean() if len(ups) and len(downs) else np.nan
    return rows


def auroc() -> Metric:
    """How often a text of the positive class scores above one of the other; NaN where there is only one class."""

    def of(sums: Floats) -> Floats:
        ups, up_count, downs, down_count, twice = np.moveaxis(sums, -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return ups / up_count + downs / down_count - twice / (up_count + down_count)

    return Metric("auroc", of, True, 1.0, bounds=(0.0, 1.0))
