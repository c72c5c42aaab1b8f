"""One look at a model: evaluated where it is another than last time, written to the store, held against its bands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from .. import api
from ..errors import OwnlmError
from ..evaluate.bands import BandsConfig
from ..evaluate.run import Ready, read_tasks, run_ready
from ..evaluate.scorers import choose_scorers
from ..evaluate.subject import Subject
from ..store import Evaluation, Store
from .history import Asked, record, release_now, score_row
from .trends import Alert, trends
from .webhook import post

Say = Callable[[str], None]


@dataclass(frozen=True)
class Watched:
    """What is watched, and how.

    Attributes:
        asked: what is measured of which model.
        bands: where its scores should lie.
        store: the store's URL; None for the usual one.
        every: seconds between looks.
        always: evaluates the same weights again.
        webhook: the address that alerts are posted to.
    """

    asked: Asked
    bands: BandsConfig = field(default_factory=BandsConfig)
    store: str | None = None
    every: float = 0.0
    always: bool = False
    webhook: str | None = None


@dataclass(frozen=True)
class Look:
    """What came of a look.

    Attributes:
        evaluated: whether the model was measured.
        why: why, or why not.
        release: the model as it was found.
        evaluation: what was written; None where nothing was.
        alerts: scores of it outside their bands.
    """

    evaluated: bool
    why: str
    release: str
    evaluation: Evaluation | None = None
    alerts: tuple[Alert, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As commands print it."""
        scores = self.evaluation.scores if self.evaluation is not None else ()
        return {
            "evaluated": self.evaluated,
            "why": self.why,
            "release": self.release,
            "scores": [score_row(score) for score in scores],
            "long": dict(self.evaluation.conditions.get("long", {})) if self.evaluation is not None else {},
            "alerts": [alert_json(alert) for alert in self.alerts],
        }


def alert_json(alert: Alert) -> dict[str, Any]:
    """An alert as commands print it, with null for no end of a band."""
    values = {name: value for name, value in asdict(alert).items() if name != "time"}
    values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    return {"time": alert.time.isoformat(), **values}


def tasks_ready(asked: Asked) -> Ready:
    """Reads the tasks, so that a wrong name is told before anything waits.

    Raises:
        UserError: there is no such task or suite, or its file or data is wrong.
    """
    return read_tasks(asked.tasks, suites=asked.suites, data=asked.data, shots=asked.shots, limit=asked.limit)


def last_made(watched: Watched) -> datetime | None:
    """When the same was measured of the model last, as the store has it."""
    with Store.open(watched.store) as store:
        last = store.evaluations.last(watched.asked.called, watched.asked.key)
    return None if last is None else last.created


def look(watched: Watched, say: Say) -> Look:
    """Looks once, whenever it is.

    An evaluation is written whole at its end, so that one that is interrupted is simply due again.

    Raises:
        UserError: no such model, task or data.
        ModelError: the model cannot do a task.
        StorageError: the store does not answer.
    """
    asked = watched.asked
    ready, release = tasks_ready(asked), release_now(asked)
    with Store.open(watched.store) as store:
        last = store.evaluations.last(asked.called, asked.key)
        if last is not None and last.release == release and not watched.always:
            return Look(False, "the model is the same as last time", release)
        why = "first evaluation" if last is None else "another version" if last.release != release else "asked for"
        say(f"{asked.model}: evaluating ({why})")
        loaded = api.load_model(asked.model, asked.dtype, asked.device, asked.adapter)
        ran = list(
            run_ready(Subject(loaded, api.load_tokenizer(asked.model), asked.model, scorers=choose_scorers(())), ready)
        )
        evaluation = record(store, asked, release, ran)
        history = store.evaluations.all(model=asked.called)
    found = [series.current for series in trends(history, watched.bands)]
    raised = tuple(alert for alert in found if alert is not None and alert.evaluation == evaluation.id)
    if raised and watched.webhook is not None:
        try:
            post(watched.webhook, {"model": asked.called, "alerts": [alert_json(alert) for alert in raised]})
        except OwnlmError as error:
            # Whoever cannot be told by post is told here all the same.
            say(str(error))
    return Look(True, why, release, evaluation, raised)
