"""Two models on the same items: how far apart they are, how sure that is, and what to say of it.

Items are paired by their keys, and drawn together. A difference is always the first model's value less the second's.

Several runs of one recipe (other seeds, say) may stand for a model. Then the recipe is compared, not these runs: items and
runs are both drawn from many. The value is the mean over runs; the interval joins the one over items with the one over runs
(Zou and Donner 2008), and the test is Student's with both variances (Welch 1947). Of one run alone nothing is known about
others, and the verdict is about that very model. Bouthillier et al. 2021, "Accounting for Variance in Machine Learning
Benchmarks", and Dror et al. 2019, "Deep Dominance", show how much runs differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DataError
from . import student
from .correction import Method, corrected
from .measurement import Floats, Measurement, Metric
from .permutation import randomisation_test
from .sample import Sample, are_counts, grouped_rows, is_share
from .statistics import LEVEL, interval_of, standard_error
from .verdict import Evidence, Verdict, default_margin, enough_items, verdict_of, words_of


@dataclass(frozen=True)
class Difference:
    """One metric of one task, of two models.

    Attributes:
        task, metric, shots: what was measured.
        model, other: the models' names.
        value, other_value: their values over the items that both have.
        difference: the first less the second; where neither more nor less is better, and there is a best value, of how far
            they are from it.
        low, high: its 95% interval.
        p: how often chance alone would tell two equal models as far apart.
        p_corrected: the same, corrected for all comparisons of the report.
        n: items that both have.
        unpaired: items that only one has, which say nothing of a difference.
        runs: how many of each model.
        from_best: whether distances from the best value were compared.
        higher_is_better: which way is better; None where neither is.
        margin: a difference that matters.
        enough: items by which such a difference would be seen with a probability of 0.8; None where none are.
        verdict: better, worse, different, inside the noise, too little data.
        words: the verdict as a sentence.
    """

    task: str
    metric: str
    shots: int
    model: str
    other: str
    value: float
    other_value: float
    difference: float
    low: float
    high: float
    p: float
    p_corrected: float
    n: int
    unpaired: int
    runs: tuple[int, int]
    from_best: bool
    higher_is_better: bool | None
    margin: float
    enough: int | None
    verdict: Verdict
    words: str

    def not_worse_by(self, margin: float) -> bool:
        """Whether the interval says that the first is not worse by as much as a margin (non-inferiority, at 2.5%)."""
        if self.higher_is_better is None:
            return bool(self.low > -margin and self.high < margin)
        return bool(self.low > -margin if self.higher_is_better else self.high < margin)


Runs = Measurement | Sequence[Measurement]


def differences(
    first: Sequence[Runs], second: Sequence[Runs], *, method: Method = "holm", margin: float | None = None
) -> list[Difference]:
    """All differences of two models, each a list of measurements or of runs' measurements, corrected for their number.

    What only one of them has is left out.
    """
    others = {_name(one): one for one in second}
    found = [difference(one, others[_name(one)], margin=margin) for one in first if _name(one) in others]
    return correct(found, method)


def correct(found: Sequence[Difference], method: Method = "holm") -> list[Difference]:
    """The same differences with p-values corrected for all of them, and verdicts by these."""
    values = corrected([one.p for one in found], method)
    return [_judged(one, float(p)) for one, p in zip(found, values, strict=True)]


def difference(first: Runs, second: Runs, *, margin: float | None = None, seed: int = 0) -> Difference:
    """The difference of two models on one task and metric.

    Args:
        first, second: a measurement, or those of several runs.
        margin: a difference that matters, in the metric's unit; else ``default_margin``.
        seed: of the draws.

    Raises:
        DataError: they measure different things, or have no item in common.
    """
    runs = [_runs(first), _runs(second)]
    one, other = runs[0][0], runs[1][0]
    names = {(m.task, m.metric.name, m.shots) for side in runs for m in side}
    if len(names) > 1:
        what = " and ".join(f"{task} ({metric}, {shots} shots)" for task, metric, shots in sorted(names))
        raise DataError(f"different things cannot be compared: {what}", where=f"{one.model}, {other.model}")
    pairing = _Pairing([m for side in runs for m in side])
    count = (len(runs[0]), len(runs[1]))
    metric = one.metric
    from_best = metric.higher_is_better is None and metric.best is not None
    of = _distance(metric) if from_best else metric.of
    sample = pairing.sample(of, count, _width(runs))
    value, other_value = (
        float(np.mean([metric.of(rows.sum(0)) for rows in side])) for side in _sides(pairing.rows, count)
    )
    low, high = interval_of(sample, seed=seed)
    noise = [_variance_of_runs(of, side) for side in _sides(pairing.rows, count)]
    if any(noise):
        low, high, p = _with_runs(sample, low, high, noise, count)
    else:
        p = pairing.test(of, count, seed)
    same = count == (1, 1) and np.array_equal(pairing.rows[0], pairing.rows[1])
    if same and not np.isfinite(sample.bounds[1]):
        # Losses that agree to their last digit on every item are no accident; choices that agree may be.
        low = high = 0.0
    matters = default_margin(metric, other_value, _width(runs)) if margin is None else margin
    error = standard_error(sample)
    found = Difference(
        one.task,
        metric.name,
        one.shots,
        one.model,
        other.model,
        value,
        other_value,
        sample.value,
        low,
        high,
        p,
        p,
        sample.items,
        pairing.unpaired,
        count,
        from_best,
        False if from_best else metric.higher_is_better,
        matters,
        None if same else enough_items(error, float(np.sqrt(sum(noise))), sample.items, matters),
        "inside the noise",
        "",
    )
    return _judged(found, p)


class _Pairing:
    """The items that all measurements have, in one order."""

    def __init__(self, measurements: Sequence[Measurement]) -> None:
        numbered = [_numbered(m.keys) for m in measurements]
        shared = set(numbered[0]).intersection(*map(set, numbered[1:]))
        if not shared:
            one = measurements[0]
            models = ", ".join(dict.fromkeys(m.model for m in measurements))
            raise DataError(f"the models have no item of {one.task} in common", where=models)
        self.unpaired = len(set().union(*map(set, numbered))) - len(shared)
        order = sorted(shared)
        places = [{key: place for place, key in enumerate(keys)} for keys in numbered]
        picked = [np.array([place[key] for key in order]) for place in places]
        self.items = len(order)
        plain = [m.rows[pick] for m, pick in zip(measurements, picked, strict=True)]
        self.counts = all(map(are_counts, plain)) and all(map(is_share, measurements))
        clusters = measurements[0].clusters
        chosen = None if clusters is None else clusters[picked[0]]
        names = [f"{number:09}" for number in range(len(order))]
        self.rows = [grouped_rows(rows, names, chosen) for rows in plain]

    def sample(self, of: Callable[[Floats], Floats], count: tuple[int, int], width: float) -> Sample:
        """The difference of the runs' means, as a sample."""
        columns = self.rows[0].shape[1]

        def apart(sums: Floats) -> Floats:
            values = of(sums.reshape(*sums.shape[:-1], sum(count), columns))
            return values[..., : count[0]].mean(-1) - values[..., count[0] :].mean(-1)

        return Sample(
            np.concatenate(self.rows, -1), apart, self.items, (-width, width), counts=self.counts, signed=True
        )

    def test(self, of: Callable[[Floats], Floats], count: tuple[int, int], seed: int) -> float:
        """The p-value of one run each, or of runs that do not differ."""
        first, second = (np.mean(side, 0) for side in _sides(self.rows, count))
        return randomisation_test(first, second, lambda a, b: of(a) - of(b), seed)


def _with_runs(
    sample: Sample, low: float, high: float, noise: Sequence[float], count: tuple[int, int]
) -> tuple[float, float, float]:
    """Interval and p-value where runs vary as well; noise: the variances of both means over runs."""
    between = sum(noise)
    freedom = between**2 / sum(part**2 / (runs - 1) for part, runs in zip(noise, count, strict=True) if part)
    reach = student.quantile((1 + LEVEL) / 2, freedom) ** 2 * between
    middle = sample.value
    items = sample.variance
    whole = between + items
    total = whole**2 / (between**2 / freedom + items**2 / max(len(sample) - 1, 1))
    p = student.two_sided(middle / np.sqrt(whole), total)
    return middle - np.hypot(middle - low, np.sqrt(reach)), middle + np.hypot(high - middle, np.sqrt(reach)), p


def _variance_of_runs(of: Callable[[Floats], Floats], side: Sequence[Floats]) -> float:
    if len(side) < 2:
        return 0.0
    return float(np.var([of(rows.sum(0)) for rows in side], ddof=1) / len(side))


def _sides(rows: Sequence[Floats], count: tuple[int, int]) -> tuple[Sequence[Floats], Sequence[Floats]]:
    return rows[: count[0]], rows[count[0] :]


def _distance(metric: Metric) -> Callable[[Floats], Floats]:
    best = metric.best
    assert best is not None
    return lambda sums: np.abs(metric.of(sums) - best)


def _width(runs: Sequence[Sequence[Measurement]]) -> float:
    """How far apart two values can be at most."""
    if all(is_share(m) for side in runs for m in side):
        return 1.0
    low, high = runs[0][0].metric.bounds
    return high - low


def _numbered(keys: Sequence[str]) -> list[tuple[str, int]]:
    """Keys with a count, for items that stand twice in the data."""
    seen: Counter[str] = Counter()
    found = []
    for key in keys:
        found.append((key, seen[key]))
        seen[key] += 1
    return found


def _runs(given: Runs) -> list[Measurement]:
    return [given] if isinstance(given, Measurement) else list(given)


def _name(given: Runs) -> tuple[str, str, int]:
    one = _runs(given)[0]
    return one.task, one.metric.name, one.shots


def _judged(found: Difference, p: float) -> Difference:
    evidence = Evidence(
        found.difference, p, found.n, found.margin, found.enough, found.higher_is_better, max(found.runs) > 1
    )
    verdict = verdict_of(evidence)
    return replace(found, p_corrected=p, verdict=verdict, words=words_of(evidence, verdict))
