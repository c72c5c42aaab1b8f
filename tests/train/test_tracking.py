"""Metrics in real trackers: what each holds of a run, and of one that goes on."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from ownlm.errors import MissingExtra, OwnlmError
from ownlm.train.objectives.language import Causal
from ownlm.train.tracking import Trackers, finite

Train = Callable[..., Any]


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def written(run: Path) -> dict[str, dict[int, float]]:
    """What metrics.jsonl says: each number by its name and step."""
    result: dict[str, dict[int, float]] = {}
    for row in map(json.loads, (run / "metrics.jsonl").read_text().split("\n")[:-1]):
        for name, value in finite(row).items():
            result.setdefault(name, {})[row["step"]] = value
    return result


@pytest.mark.usefixtures("undrawn")
def test_tensorboard_holds_every_number(train: Train, settings: dict[str, Any]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(settings, track=["jsonl", "tensorboard"]).run
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    for name, values in written(run.folder).items():
        held = {event.step: event.value for event in events.Scalars(name)}
        assert held == pytest.approx(values, rel=1e-6)


@pytest.mark.usefixtures("undrawn")
def test_mlflow_holds_every_number_and_goes_on_with_the_same_run(train: Train, settings: dict[str, Any]) -> None:
    from mlflow.tracking import MlflowClient

    run = train(settings, track=["mlflow"], steps=4).run
    run = train(settings, track=["mlflow"], steps=6).run
    client = MlflowClient(tracking_uri=f"sqlite:///{run.folder / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "ownlm"]
    (held,) = client.search_runs([experiment.experiment_id])
    assert held.info.status == "FINISHED" and held.data.params["optimizer.kind"] == "adamw"
    for name, values in written(run.folder).items():
        history = {metric.step: metric.value for metric in client.get_metric_history(held.info.run_id, name)}
        assert history == pytest.approx(values)


@pytest.mark.usefixtures("undrawn")
def test_a_start_that_was_killed_while_mlflow_made_its_database_is_begun_again(
    train: Train, settings: dict[str, Any]
) -> None:
    from mlflow.tracking import MlflowClient

    # A question mark and a percent sign mean something in a database's address.
    folder = Path(settings["out"]).with_name("what? 41%41")
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("CREATE TABLE experiments (experiment_id INTEGER)")
    run = train(settings, out=str(folder), track=["mlflow"], steps=2).run
    address = str(URL.create("sqlite", database=str(run.folder / "mlflow.db")))
    held = MlflowClient(tracking_uri=address).get_run(json.loads((run.folder / "tracking.json").read_text())["mlflow"])
    assert held.info.status == "FINISHED" and held.data.metrics["loss"] == run.metrics[-2]["loss"]


@pytest.mark.usefixtures("undrawn")
def test_a_run_that_fails_has_ended_in_its_trackers_too(
    train: Train, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    honest = Causal.loss
    monkeypatch.setattr(Causal, "loss", lambda *a: honest(*a) * (math.nan if a[1].training else 1))
    with pytest.raises(OwnlmError, match="not a finite number"):
        train(settings, track=["mlflow"])
    client = MlflowClient(tracking_uri=f"sqlite:///{Path(settings['out']) / 'mlflow.db'}")
    (experiment,) = [one for one in client.search_experiments() if one.name == "ownlm"]
    (held,) = client.search_runs([experiment.experiment_id])
    assert held.info.status == "KILLED"


@pytest.mark.parametrize("fails", ["log", "close"])
def test_a_tracker_that_fails_is_named_once_and_does_not_end_the_run(fails: str) -> None:
    said: list[str] = []
    held: list[tuple[int, dict[str, float]]] = []

    class Kept:
        def log(self, step: int, values: Mapping[str, float]) -> None:
            held.append((step, dict(values)))

        def close(self, *, whole: bool) -> None:
            held.append((-1, {"whole": float(whole)}))

    class Broken(Kept):
        def log(self, step: int, values: Mapping[str, float]) -> None:
            if fails == "log":
                raise ConnectionError("the server is\ndown")

        def close(self, *, whole: bool) -> None:
            raise ConnectionError("the server is\ndown")

    trackers = Trackers({"broken": Broken(), "kept": Kept()}, said.append)
    for step in (1, 2):
        trackers.log(step, {"loss": 0.5})
    trackers.close(whole=True)
    trackers.close(whole=False)
    assert held == [(1, {"loss": 0.5}), (2, {"loss": 0.5}), (-1, {"whole": 1.0})]
    assert said == ["broken takes no more metrics, and the run goes on without it: the server is down"]


def records(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: in blocks, each part with a checksum, a length and its kind."""
    whole = b""
    place = 7
    while place < len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


@pytest.mark.usefixtures("undrawn")
def test_wandb_stays_in_the_folder(train: Train, settings: dict[str, Any]) -> None:
    from wandb.proto import wandb_internal_pb2

    run = train(settings, track=["wandb"]).run
    (file,) = (run.folder / "wandb").glob("offline-run-*/run-*.wandb")
    losses = {}
    for content in records(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(content)
        items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        if "loss" in items:
            losses[record.history.step.num] = float(items["loss"])
    assert losses == pytest.approx(written(run.folder)["loss"])


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_one_that_is_not_installed_is_said_before_the_first_step(
    name: str, train: Train, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("torch.utils.tensorboard", "mlflow", "mlflow.entities", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match="extra 'track'"):
        train(settings, track=[name])
    assert not (Path(settings["out"]) / "metrics.jsonl").exists()


def test_only_finite_numbers_are_drawn() -> None:
    values = {"step": 3, "loss": math.nan, "lr": 1, "grad_norm": math.inf, "note": "x", "none": None}
    assert finite(values) == {"lr": 1.0}
