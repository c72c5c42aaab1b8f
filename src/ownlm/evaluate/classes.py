"""Metrics of a model that gives texts a class, by the probabilities that it gives each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .measurement import Floats, Measurement, Metric, mean, of_values
from .tables import auroc, calibration_error, macro_f1, matthews, of_confidences, of_confusions, of_ranks

MetricName = Literal["accuracy", "macro_f1", "matthews", "calibration_error", "auroc"]


def class_measurements(
    task: str,
    probabilities: Floats,
    right: NDArray[np.int64],
    metrics: Sequence[MetricName],
    keys: Sequence[str],
    *,
    positive: int = 1,
    clusters: NDArray[np.int64] | None = None,
    model: str = "",
) -> list[Measurement]:
    """A measurement for each metric.

    Args:
        task: the task's name.
        probabilities: of each class: [items, classes].
        right: the right class: [items].
        metrics: which.
        keys: what each item is: [items].
        positive: the class whose probability is the score of ``auroc``.
        clusters: as in Measurement.
        model: its name.
    """
    classes = probabilities.shape[1]
    chosen = probabilities.argmax(1) if len(right) else np.zeros(0, np.int64)

    def rows(name: MetricName) -> tuple[Metric, Floats]:
        if name == "accuracy":
            return mean(name, best=1.0), of_values(chosen == right)
        if name == "calibration_error":
            return calibration_error(), of_confidences(probabilities.max(1, initial=0), chosen == right)
        if name == "auroc":
            return auroc(), of_ranks(probabilities[:, positive], right == positive)
        metric = macro_f1(classes) if name == "macro_f1" else matthews(classes)
        return metric, of_confusions(right, chosen, classes)

    return [Measurement(task, *rows(name), keys, clusters, model=model) for name in metrics]
