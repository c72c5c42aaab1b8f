"""Metrics in the experiment trackers that a team uses already; ``metrics.jsonl`` is always written besides.

Everything stays in the run's folder unless the user has named a server, in the way each tracker's own documents say:
``MLFLOW_TRACKING_URI`` for MLflow, ``WANDB_MODE=online`` for Weights & Biases. A run that goes on is the same run there.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import MissingExtra
from ..files import read_json, write_json
from .config import TrainConfig

PROJECT = "ownlm"
# MLflow takes no longer values of a parameter.
LONGEST = 500


class Tracker(Protocol):
    """Somewhere that metrics go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers by name, of a step."""
        ...

    def close(self, *, whole: bool) -> None:
        """Ends the run there; whole: it has come to its end, and does not go on later."""
        ...


class Trackers:
    """Several trackers as one. One that fails is left alone from then on: metrics.jsonl holds all that it misses.

    Args:
        made: the trackers by name.
        say: tells the user of one that failed.
    """

    def __init__(self, made: Mapping[str, Tracker], say: Callable[[str], None]) -> None:
        self._made, self._say = dict(made), say

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker.log."""
        self._each(lambda tracker: tracker.log(step, values))

    def close(self, *, whole: bool) -> None:
        """See Tracker.close; closed once, they take no more."""
        self._each(lambda tracker: tracker.close(whole=whole))
        self._made.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._made.items()):
            try:
                act(tracker)
            # Each raises classes of its own, for a server that is down or a disk that is full.
            except Exception as error:
                del self._made[name]
                told = " ".join(str(error).split())[:LONGEST] or type(error).__name__
                self._say(f"{name} takes no more metrics, and the run goes on without it: {told}")


def make_trackers(config: TrainConfig, run: Path, say: Callable[[str], None]) -> Trackers:
    """The trackers that a config names, beside metrics.jsonl.

    Raises:
        MissingExtra: one is not installed.
    """
    known: dict[str, Callable[[TrainConfig, Path], Tracker]] = {
        "tensorboard": _Tensorboard,
        "mlflow": _Mlflow,
        "wandb": _Wandb,
    }
    made: dict[str, Tracker] = {}
    for name in dict.fromkeys(config.track):
        if name != "jsonl":
            try:
                made[name] = known[name](config, run)
            except ImportError:
                raise MissingExtra(f"track: [{name}]", "track") from None
    return Trackers(made, say)


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """What can be drawn: finite numbers, without the step."""
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and key != "step"}
    return {key: float(value) for key, value in numbers.items() if math.isfinite(value)}


class _Tensorboard:
    def __init__(self, config: TrainConfig, run: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def close(self, *, whole: bool) -> None:
        self._writer.close()


class _Mlflow:
    def __init__(self, config: TrainConfig, run: Path) -> None:
        # It counts its users otherwise.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Metric, Param, RunStatus
        from mlflow.tracking import MlflowClient
        from sqlalchemy import URL

        self._metric, self._status = Metric, RunStatus
        uri, known_run = os.environ.get("MLFLOW_TRACKING_URI"), _known(run, "mlflow")
        if not uri:
            # A folder may have any name, and ? or % mean something in such an address.
            uri = str(URL.create("sqlite", database=str((run / "mlflow.db").resolve())))
            if known_run is None:
                # Of a start that was killed while it made the database: MLflow does not mend such a one.
                for left in run.glob("mlflow.db*"):
                    left.unlink()
        self._client = MlflowClient(tracking_uri=uri)
        if known_run is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
            known_run = self._client.create_run(experiment, run_name=run.name).info.run_id
            _remember(run, "mlflow", known_run)
            parameters = [Param(key, str(value)[:LONGEST]) for key, value in _flat(config.model_dump(mode="json"))]
            self._client.log_batch(known_run, params=parameters[:100])
        else:
            self._client.update_run(known_run, status=RunStatus.to_string(RunStatus.RUNNING))
        self._run = known_run

    def log(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self, *, whole: bool) -> None:
        status = self._status.FINISHED if whole else self._status.KILLED
        self._client.set_terminated(self._run, status=self._status.to_string(status))


class _Wandb:
    def __init__(self, config: TrainConfig, run: Path) -> None:
        import wandb

        known = _known(run, "wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=known,
            resume="allow",
            dir=str(run),
            config=config.model_dump(mode="json"),
            # Nothing leaves the machine unasked.
            mode=None if os.environ.get("WANDB_MODE") else "offline",
            settings=wandb.Settings(silent=True, console="off"),
        )
        if known is None:
            _remember(run, "wandb", self._run.id)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self, *, whole: bool) -> None:
        self._run.finish(exit_code=0 if whole else 1)


def _known(run: Path, tracker: str) -> str | None:
    """The run's name in a tracker, from when it began."""
    path = run / "tracking.json"
    return read_json(path).get(tracker) if path.is_file() else None


def _remember(run: Path, tracker: str, name: str) -> None:
    path = run / "tracking.json"
    write_json(path, (read_json(path) if path.is_file() else {}) | {tracker: name})


def _flat(values: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Nested keys as dotted ones."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        rows += _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else [(f"{before}{key}", value)]
    return rows
