"""A model and its measurements as the store keeps them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..evaluate.influence import influences
from ..evaluate.measurement import Measurement
from ..evaluate.run import Ran, score_of
from ..evaluate.suites import tasks_of
from ..model.registry import find_model
from ..serve.release import release_of
from ..store import Evaluation, Store, StoredScore
from ..tokens.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Asked:
    """What is measured of a model, and how it is loaded.

    Attributes:
        model: by name, as ``load_model`` takes it.
        tasks, suites, shots, limit, data: as ``run_tasks`` has them.
        dtype, device, adapter: as ``load_model`` has them.
        name: what the model is called in the store; "" is as ``model``.
    """

    model: str
    tasks: Sequence[str] = ()
    suites: Sequence[str] = ()
    shots: Sequence[int] = (0,)
    limit: int | None = None
    data: Path | None = None
    dtype: str = "auto"
    device: str = "auto"
    adapter: str | None = None
    name: str = ""

    @property
    def called(self) -> str:
        """What the model is called in the store, by which its versions are one history."""
        return self.name or self.model

    @property
    def key(self) -> str:
        """The hash of what is measured: the same tasks, worked examples and number of items, however they were named."""
        names = [
            Path(name).name if name.endswith((".yaml", ".yml")) else name for name in tasks_of(self.tasks, self.suites)
        ]
        return _hash([sorted(names), sorted(set(self.shots)), self.limit, self.adapter])

    @property
    def conditions(self) -> dict[str, Any]:
        """The same for people to read."""
        found: dict[str, Any] = {"tasks": list(self.tasks), "suites": list(self.suites), "shots": list(self.shots)}
        found |= {
            "model": self.model,
            "limit": self.limit,
            "dtype": self.dtype,
            "device": self.device,
            "adapter": self.adapter,
        }
        return found | {"ownlm": __version__}


def release_now(asked: Asked) -> str:
    """The hash of the model as it lies on the disk just now: weights, settings, tokenizer, template.

    Raises:
        UserError: there is no such model.
    """
    folder = find_model(asked.model)
    return release_of(folder, load_tokenizer(folder), None if asked.adapter is None else Path(asked.adapter))


def record(store: Store, asked: Asked, release: str, ran: Sequence[Ran]) -> Evaluation:
    """Writes what a model was found to do."""
    scores = [stored(one, measurement) for one in ran for measurement in one.measured.measurements]
    # Items that did not fit the model's context are told, not passed over.
    long = {f"{one.task}, {one.shots} shots": one.measured.long for one in ran if one.measured.long}
    notes = {one.task: list(one.measured.notes) for one in ran if one.measured.notes}
    conditions = asked.conditions | ({"long": long} if long else {}) | ({"notes": notes} if notes else {})
    return store.evaluations.add(Evaluation(asked.called, release, scores, asked.key, conditions))


def keeping(url: str, asked: Asked) -> Callable[[Sequence[Ran]], Evaluation]:
    """What will record an evaluation that is about to be made; the store is tried at once.

    Raises:
        UserError: the URL is wrong, or there is no such model.
        StorageError: the store does not answer.
    """
    release = release_now(asked)
    Store.open(url).close()

    def keep(ran: Sequence[Ran]) -> Evaluation:
        with Store.open(url) as store:
            return record(store, asked, release, ran)

    return keep


def stored(ran: Ran, measurement: Measurement) -> StoredScore:
    """A measurement as the store keeps it."""
    score, kept = score_of(measurement), influences(measurement)
    content = _hash([_shown(ran), measurement.shots, sorted(measurement.keys)])
    return StoredScore(
        score.task,
        score.metric,
        score.shots,
        score.value,
        score.low,
        score.high,
        score.n,
        content,
        measurement.metric.higher_is_better,
        score.best,
        b"" if kept is None else kept.astype("<f4").tobytes(),
    )


def _shown(ran: Ran) -> dict[str, Any] | None:
    """Of a task's file, what decides its scores; None of a task of the harness."""
    if ran.config is None:
        return None
    return ran.config.model_dump(mode="json", exclude={"about", "source", "licence"})


def unpacked(score: StoredScore) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """A stored score's influences; None where they were not kept."""
    return np.frombuffer(score.influences, "<f4").astype(np.float64) if score.influences else None


def score_row(score: StoredScore) -> Mapping[str, Any]:
    """A stored score as commands print it."""
    names = ("task", "metric", "shots", "value", "low", "high", "n")
    return {name: getattr(score, name) for name in names}


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
