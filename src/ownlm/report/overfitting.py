"""Whether a run learned or learned by heart: the gap between training and held-out loss, and one verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from .charts import LineChart, Points
from .page import Report

Verdict = Literal["falling", "flat", "overfitting", "unsteady", "not-finite", "unknown"]

# A change of the loss below this share of it is none.
NOTICEABLE = 0.01
# Validations from which on their curve is smoothed.
ENOUGH_TO_SMOOTH = 5
GAP = (
    "The held-out loss less the mean training loss since the validation before. Training is measured while it learns, "
    "with dropout where there is any, so the gap may begin below 0; what tells is that it grows."
)


@dataclass(frozen=True)
class Fit:
    """What a run's two losses say together.

    Attributes:
        verdict: falling, flat and overfitting are about the held-out loss; unsteady is both losses rising, not-finite a
            loss that is no number, unknown too little to say.
        since: the step from which on it overfits, or None.
        text: the verdict in a sentence or two.
        gap: (step, held-out less training loss) at each validation.
    """

    verdict: Verdict
    since: int | None
    text: str
    gap: Points

    @property
    def warns(self) -> bool:
        """Whether something should be done."""
        return self.verdict in ("overfitting", "unsteady", "not-finite")


def judge_fit(training: Points, validation: Points) -> Fit:
    """Judges a run by its losses.

    The training loss at a validation is its mean over the steps since the one before. The held-out loss, where it was
    measured five times or more, is the running median of three, so that one odd validation decides nothing.

    Args:
        training: (step, loss) of each step.
        validation: (step, loss) of each validation, the one before the first step included.
    """
    if not validation:
        text = "Nothing was held out, so nobody can tell whether it learned or learned by heart: set data.validation."
        return Fit("unknown", None, text, [])
    if not all(math.isfinite(loss) for _, loss in [*training, *validation]):
        return Fit("not-finite", None, "A loss is not a finite number: the training failed.", [])
    means = _window_means(training, [step for step, _ in validation])
    gap = [(step, loss - mean) for (step, loss), mean in zip(validation, means, strict=True) if mean is not None]
    if len(validation) < 2:
        text = "The held-out loss was measured once; how it moves cannot be told from that."
        return Fit("unknown", None, text, gap)
    losses = [loss for _, loss in validation]
    smooth = _smoothed(losses)
    low = min(range(len(smooth)), key=lambda place: (smooth[place], losses[place]))
    lowest, last = smooth[low], smooth[-1]
    if last > lowest * (1 + NOTICEABLE):
        since = int(validation[low][0])
        before, after = _training_after(training, means, low)
        if losses[-1] > losses[low]:
            # As they stand in the curve.
            lowest, last = losses[low], losses[-1]
        return _risen(since, lowest, last, before, after, gap)
    # How much of it came in the last third of the run.
    late = len(smooth) - max(2, -(-len(smooth) // 3))
    third, step = smooth[late], validation[late][0]
    # Smoothed it may fall where the curve itself was lower before: once above that is chance, twice is not.
    above = [loss for loss in losses[losses.index(min(losses)) + 1 :] if loss > min(losses) * (1 + NOTICEABLE)]
    if third - last > NOTICEABLE * abs(third) and len(above) < 2:
        # As they stand in the curve.
        begun, ended = (losses[late], losses[-1]) if losses[late] > losses[-1] else (third, last)
        text = f"The held-out loss was still falling at the end, from {begun:.3f} at step {step:,.0f} to {ended:.3f}"
        return Fit("falling", None, f"{text}: more steps would lower it further.", gap)
    before, after = _training_after(training, means, late)
    if third > last >= losses[0] - NOTICEABLE * abs(losses[0]) and after >= before * (1 - NOTICEABLE):
        text = f"The held-out loss hardly moved in the whole run, from {losses[0]:.3f} to {losses[-1]:.3f}"
        return Fit(
            "flat", None, f"{text}: it takes more steps or a higher learning rate, or there is little to learn.", gap
        )
    text = f"The held-out loss was flat from step {step:,.0f} on, at {last:.3f}"
    if after < before * (1 - NOTICEABLE):
        text += (
            f", while the training loss fell from {before:.3f} to {after:.3f}: more steps would teach it the examples"
        )
        return Fit("flat", None, f"{text} rather than what they have in common.", gap)
    return Fit("flat", None, f"{text}: more steps alone change little.", gap)


def add_gap(report: Report, fit: Fit) -> None:
    """Draws the gap under the section that is open; nothing where it was measured less than twice."""
    if len(fit.gap) > 1:
        report.chart(LineChart("Gap", {"gap": fit.gap}, caption=GAP, markers=("gap",)))


def add_measures(report: Report, metrics: Sequence[Mapping[str, float]], names: Mapping[str, str]) -> None:
    """A chart of every measure that validation took besides the loss (val_NAME in metrics.jsonl).

    Args:
        report: the page; the charts go under the section that is open.
        metrics: the lines of metrics.jsonl.
        names: what a measure is called; one that is not in it goes by its own name.
    """
    keys = {key: None for row in metrics for key in row if key.startswith("val_") and key != "val_loss"}
    for key in keys:
        name = names.get(key.removeprefix("val_"), key.removeprefix("val_").replace("_", " "))
        points = [(row["step"], row[key]) for row in metrics if row.get(key) is not None]
        if points:
            report.chart(
                LineChart(name[:1].upper() + name[1:], {name: points}, caption="On the held-out data.", markers=(name,))
            )


def _training_after(training: Points, means: Sequence[float | None], low: int) -> tuple[float, float]:
    """The training loss where the held-out loss was lowest, and at the end."""
    known = [mean for mean in means[low:] if mean is not None]
    if len(known) > 1:
        return known[0], known[-1]
    # Measured before the first step and after the last only.
    half = len(training) // 2
    losses = [loss for _, loss in training]
    return statistics.fmean(losses[:half] or losses or [0.0]), statistics.fmean(losses[half:] or [0.0])


def _risen(since: int, lowest: float, last: float, before: float, after: float, gap: Points) -> Fit:
    """The held-out loss rose: did the training loss fall meanwhile?"""
    rose = f"the held-out loss rose from {lowest:.3f} to {last:.3f}"
    if after < before:
        text = f"Overfitting from step {since:,} on: {rose} while the training loss fell from {before:.3f} to"
        text += f" {after:.3f}, which is learning the examples by heart. Fewer passes, more data, dropout or a lower"
        return Fit("overfitting", since, f"{text} learning rate help; validate.patience stops in time.", gap)
    text = f"From step {since:,} on {rose}, and the training loss did not fall either: no overfitting, but an unsteady"
    return Fit("unsteady", None, f"{text} run. A lower learning rate is the first thing to try.", gap)


def _window_means(training: Points, steps: Sequence[float]) -> list[float | None]:
    """The mean training loss of the steps since each validation's predecessor; None where there were none."""
    means: list[float | None] = []
    before = -math.inf
    place = 0
    for step in steps:
        window = []
        while place < len(training) and training[place][0] <= step:
            if training[place][0] > before:
                window.append(training[place][1])
            place += 1
        means.append(sum(window) / len(window) if window else None)
        before = step
    return means


def _smoothed(values: Sequence[float]) -> list[float]:
    """The running median of three."""
    if len(values) < ENOUGH_TO_SMOOTH:
        return list(values)
    inner = [statistics.median(values[i - 1 : i + 2]) for i in range(1, len(values) - 1)]
    # The first is before training, and no noise; the last might be.
    return [values[0], *inner, inner[-1]]
