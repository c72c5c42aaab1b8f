"""Where a score should lie: a band that is given, or one that earlier versions of the model have shown.

    bands:
      - {task: boolq, metric: accuracy, low: 0.60}
      - {task: crows_pairs/overall, metric: preference, low: 45, high: 55}
    false_alarms: 0.01
    history: 5
    since: 2027-01-31

A learned band asks two things of a score before it alarms. It must be farther from the mean of the earlier versions than a further
version of their kind would be (a prediction interval: with k earlier values of spread s, Student's t with k - 1 degrees of freedom
times s * sqrt(1 + 1/k)); and farther than the choice of items explains (the normal quantile times the standard error of the
difference, item by item where that is kept). The first keeps the rate of false alarms whatever versions differ by; the second
stands in where earlier versions happen to agree, as versions that answer few items do. Each alone has the stated rate, so both
together have at most that. Of all scores of one evaluation, each gets its part of the rate (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..config import Config, read_yaml, validate
from .student import quantile

Number = Annotated[float, Field(allow_inf_nan=False)]
# Standard errors that a 95% interval reaches to either side.
_REACH = NormalDist().inv_cdf(0.975)


class BandConfig(Config):
    """Where a score should lie."""

    task: str
    """The task, with the part of it after a slash, such as bbq/age."""
    metric: str
    """The metric."""
    shots: int = Field(0, ge=0)
    """Worked examples."""
    low: Number | None = None
    """The lowest value inside."""
    high: Number | None = None
    """The highest value inside."""
    by: Literal["interval", "value"] = "interval"
    """Whether it is outside once its whole interval is, or once its value is."""

    @model_validator(mode="after")
    def _limits(self) -> BandConfig:
        if self.low is None and self.high is None:
            raise ValueError("a band needs low, high, or both")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class BandsConfig(Config):
    """Bands, given and learned."""

    bands: tuple[BandConfig, ...] = ()
    """Given ones; what has one has no learned band."""
    learned: bool = True
    """Whether scores without a given band have one learned from earlier versions."""
    false_alarms: float = Field(0.01, gt=0, le=0.5)
    """How many evaluations of a new version may alarm though it is like those before: 0.01 is one of a hundred."""
    history: int = Field(5, ge=3)
    """Versions that must be known before a band is learned."""
    window: int = Field(30, ge=3)
    """Versions that a band is learned from: the newest."""
    since: date | None = None
    """The day (UTC) from which on versions count, where a new level was accepted."""

    @model_validator(mode="after")
    def _sound(self) -> BandsConfig:
        if self.window < self.history:
            raise ValueError("window must be at least history")
        keys = [(one.task, one.metric, one.shots) for one in self.bands]
        if len(set(keys)) < len(keys):
            raise ValueError("bands: two are for the same task, metric and shots")
        return self

    @property
    def from_moment(self) -> datetime | None:
        """The moment from which on versions count."""
        return None if self.since is None else datetime(self.since.year, self.since.month, self.since.day, tzinfo=UTC)

    def given(self, task: str, metric: str, shots: int) -> BandConfig | None:
        """The band given for a score."""
        return next((b for b in self.bands if (b.task, b.metric, b.shots) == (task, metric, shots)), None)


def read_bands(path: Path) -> BandsConfig:
    """A file of bands.

    Raises:
        ConfigError: it is wrong, with the key.
    """
    return validate(BandsConfig, read_yaml(path), source=str(path))


@dataclass(frozen=True)
class Band:
    """Where a score should lie.

    Attributes:
        low, high: its ends; infinite where it has none.
        versions: how many it was learned from; 0 of a given one.
        centre: their mean; NaN of a given one.
        by: as in BandConfig.
    """

    low: float
    high: float
    versions: int = 0
    centre: float = math.nan
    by: Literal["interval", "value"] = "value"

    @property
    def learned(self) -> bool:
        """Whether it was learned."""
        return self.versions > 0

    def side(self, value: float, low: float, high: float) -> Literal["above", "below"] | None:
        """On which side a score with its interval lies outside; None inside, and of what is no number."""
        least, most = (low, high) if self.by == "interval" else (value, value)
        if most < self.low:
            return "below"
        return "above" if least > self.high else None


def given_band(config: BandConfig) -> Band:
    """The band that a file gives."""
    low = -math.inf if config.low is None else config.low
    return Band(low, math.inf if config.high is None else config.high, by=config.by)


def learned_band(values: Sequence[float], error: float, rate: float) -> Band:
    """The band that earlier versions show.

    Args:
        values: theirs, at least two.
        error: the standard error, by measurement alone, of the new value less their mean.
        rate: how often a value of the same kind may fall outside.
    """
    k, centre, tail = len(values), fmean(values), 1 - rate / 2
    between = quantile(tail, k - 1) * stdev(values) * math.sqrt(1 + 1 / k)
    within = NormalDist().inv_cdf(tail) * error
    # Unknown errors know no bounds.
    half = math.inf if math.isnan(within) else max(between, within)
    return Band(centre - half, centre + half, k, centre)


def error_by_interval(low: float, high: float) -> float:
    """A standard error by a 95% interval."""
    return (high - low) / 2 / _REACH
