"""How good predicted classes and numbers are, each measure as its usual definition has it.

Arrays are numpy's; what a measure is not defined for (a class nobody has, numbers that never change) counts as 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


def class_measures(given: Integers, predicted: Integers, classes: int) -> dict[str, float]:
    """What is usual where a text has one class; given, predicted: [texts]."""
    table = confusion_table(given, predicted, classes)
    return {"accuracy": accuracy(table), "macro_f1": macro_f1(table), "matthews": matthews(table)}


def multi_measures(given: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> dict[str, float]:
    """What is usual where a text may have several classes; given, predicted: [texts, classes]."""
    micro, macro = multi_f1(given, predicted)
    return {"micro_f1": micro, "macro_f1": macro}


def number_measures(given: Floats, predicted: Floats) -> dict[str, float]:
    """What is usual for numbers, the mean over those of a text; given, predicted: [texts, numbers]."""
    pairs = list(zip(given.T, predicted.T, strict=True))
    return {
        "mean_squared_error": float(((predicted - given) ** 2).mean()),
        "pearson": float(np.mean([pearson(*pair) for pair in pairs])),
        "spearman": float(np.mean([spearman(*pair) for pair in pairs])),
    }


def confusion_table(given: Integers, predicted: Integers, classes: int) -> Integers:
    """How many of each class (rows) were taken for each (columns): [classes, classes]."""
    return np.bincount(given * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(table: Integers) -> float:
    """The share that is right; table: as ``confusion_table`` gives it."""
    return float(np.trace(table) / table.sum())


def class_f1(table: Integers) -> Floats:
    """The harmonic mean of precision and recall of each class: [classes]."""
    return _f1(np.diag(table), table.sum(0), table.sum(1))


def macro_f1(table: Integers) -> float:
    """The mean of the F1 of every class that is given or predicted at all."""
    there = (table.sum(0) + table.sum(1)) > 0
    return float(class_f1(table)[there].mean())


def matthews(table: Integers) -> float:
    """Matthews' correlation, for any number of classes (Gorodkin 2004)."""
    counts = table.astype(np.float64)
    given, predicted, total = counts.sum(1), counts.sum(0), counts.sum()
    covariance = np.trace(counts) * total - given @ predicted
    spread = np.sqrt(total**2 - predicted @ predicted) * np.sqrt(total**2 - given @ given)
    return float(covariance / spread) if spread else 0.0


def multi_f1(given: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> tuple[float, float]:
    """F1 over all decisions (micro), and its mean over the classes (macro); given, predicted: [texts, classes]."""
    right, chosen, there = (given & predicted).sum(0), predicted.sum(0), given.sum(0)
    micro = _f1(right.sum(keepdims=True), chosen.sum(keepdims=True), there.sum(keepdims=True))
    return float(micro[0]), float(_f1(right, chosen, there).mean())


def pearson(given: Floats, predicted: Floats) -> float:
    """The linear correlation."""
    a, b = given - given.mean(), predicted - predicted.mean()
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread else 0.0


def spearman(given: Floats, predicted: Floats) -> float:
    """The correlation of the ranks; equal values share the mean of theirs."""
    return pearson(_ranks(given), _ranks(predicted))


def _f1(right: NDArray[np.int64], chosen: NDArray[np.int64], there: NDArray[np.int64]) -> Floats:
    return 2 * right / np.maximum(chosen + there, 1)


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[place]
