"""``ownlm train CONFIG --sweep SWEEP.yaml``: many runs of one config, to find its best settings.

The sweep's folder is the config's ``out``:

    sweep.yaml      what is swept, with the config; the same command goes on
    journal.log     optuna's record of every trial
    trial-000/ ...  the runs, each a run's folder like any other
    sweep.json      the table, best first
    sweep.html      the same as a page, with the curves over one another

Each of a trial's settings is drawn from the seed, the trial's number, its own place and the trials before it. So a sweep
that was killed goes on as if it had not been: an unfinished trial resumes in its own folder, and the next ones are those
that would have come.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, model_validator

from ..config import Config, flatten, merge, read_yaml, validate
from ..errors import ConfigError, MissingExtra, OwnlmError, UserError, nearest
from ..files import remove_partial, storage_errors, write_json, write_text
from ..report.runs import comparison_report
from ..tokens.dataset import is_dataset
from .config import TrainConfig, plain, read_train_config
from .evaluation import Prepare
from .folder import SWEEP, locked
from .objectives import make_objective
from .run import run_training
from .signals import leaving_at_once

if TYPE_CHECKING:
    import optuna

SETTINGS, JOURNAL, TABLE, PAGE = SWEEP, "journal.log", "sweep.json", "sweep.html"

# What may decide besides a measure of the validation.
NUMBERS = ("loss", "tokens_per_second", "seconds", "peak_memory_bytes")

Say = Callable[[str], None]
Choice = bool | int | float | str | None


class RangeConfig(Config):
    """A range of numbers."""

    low: int | float
    """The lowest; where both ends are whole numbers, so is all between."""
    high: int | float
    """The highest."""
    log: bool = False
    """Draw evenly on a logarithmic scale, as is right for learning rates."""

    @model_validator(mode="after")
    def _sound(self) -> RangeConfig:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("a logarithmic range begins above 0")
        return self


class SweepConfig(Config):
    """What a sweep tries."""

    trials: int = Field(default=20, ge=1)
    """How many runs to make; more of them may be asked for later."""
    parameters: dict[str, RangeConfig | Annotated[list[Choice], Field(min_length=1)]] = Field(min_length=1)
    """Dotted keys of the training config, each with a range {low, high, log} or a list of choices."""
    metric: str = "val_loss"
    """What decides: val_loss, loss, or another measure of the validation, such as val_accuracy."""
    direction: Literal["minimize", "maximize"] = "minimize"
    """Which way is better."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Decides what is tried."""


@dataclass(frozen=True)
class Sweep:
    """A finished sweep.

    Attributes:
        folder: its folder.
        summary: the content of sweep.json.
    """

    folder: Path
    summary: dict[str, Any]


def read_sweep_config(source: str | Path | dict[str, Any]) -> SweepConfig:
    """A sweep from a YAML file or a mapping.

    Raises:
        ConfigError: names the wrong key.
    """
    values = source if isinstance(source, dict) else read_yaml(Path(source))
    return validate(SweepConfig, values, source=None if isinstance(source, dict) else str(source))


def run_sweep(config: TrainConfig, sweep: SweepConfig, say: Say, prepare: Prepare | None = None) -> Sweep:
    """Makes the trials that are not made yet, and writes the table and the page after each.

    A trial whose loss is no finite number has failed, and the sweep goes on.

    Args:
        config: what all trials have.
        sweep: what they differ in.
        say: tells the user something.
        prepare: reads the tasks of ``config.evaluate``.

    Raises:
        MissingExtra: optuna is not installed.
        ConfigError: a parameter is no setting, nothing is held out to decide by, or the folder holds another sweep.
        UserError: what a run would refuse.
        Interrupted: Ctrl-C; the run is saved, and the same command goes on.
    """
    folder = Path(config.out)
    _check(config, sweep, folder)
    _optuna()
    with leaving_at_once(), locked(folder), storage_errors(folder):
        _clear(folder)
        study = _study(folder, sweep)
        write_text(folder / SETTINGS, _settings(config, sweep))
        while (trial := _next_trial(study, sweep)) is not None:
            values = {key: _suggested(trial, key, sweep) for key in sweep.parameters}
            say(
                f"trial {trial.number + 1} of {sweep.trials}: "
                + ", ".join(f"{key}={_shown(values[key])}" for key in values)
            )
            value = _run_trial(config, sweep, folder, trial.number, values, say, prepare)
            if value is None:
                study.tell(trial, state=_states().FAIL)
            else:
                study.tell(trial, value)
            _write(folder, sweep, study)
        summary = _write(folder, sweep, study)
    say(f"done: {folder / TABLE}; page: {folder / PAGE}")
    return Sweep(folder, summary)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtra("a sweep", "sweep") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _states() -> Any:
    return _optuna().trial.TrialState


def _clear(folder: Path) -> None:
    """Removes what a killed sweep, or a full disk, left half written."""
    remove_partial(folder)
    journal = folder / JOURNAL
    # Optuna would wait for it half a minute, and nobody else may be at work here.
    journal.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)
    if journal.is_file():
        # It reads no journal that has half a line.
        os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)


def _study(folder: Path, sweep: SweepConfig) -> optuna.Study:
    optuna = _optuna()
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL))
    storage = optuna.storages.JournalStorage(backend)
    return optuna.create_study(storage=storage, study_name="sweep", direction=sweep.direction, load_if_exists=True)


def _next_trial(study: optuna.Study, sweep: SweepConfig) -> optuna.Trial | None:
    """The one that was under way when the sweep was stopped, else a new one; None when all are made."""
    optuna = _optuna()
    trials = study.get_trials(deepcopy=False)
    begun = [trial for trial in trials if trial.state == optuna.trial.TrialState.RUNNING]
    number = begun[0].number if begun else len(trials)
    if number >= sweep.trials:
        return None
    return optuna.Trial(study, begun[0]._trial_id) if begun else study.ask()


def _suggested(trial: optuna.Trial, key: str, sweep: SweepConfig) -> Any:
    """A parameter's value; what the trial had drawn before it was stopped stays."""
    space, place = sweep.parameters[key], list(sweep.parameters).index(key)
    # A sampler of its own for each draw: what it draws does not depend on how often the sweep was begun again.
    seed = int(np.random.SeedSequence([sweep.seed, trial.number, place]).generate_state(1)[0])
    trial.study.sampler = _optuna().samplers.TPESampler(seed=seed)
    if isinstance(space, list):
        return trial.suggest_categorical(key, space)
    if isinstance(space.low, int) and isinstance(space.high, int):
        return trial.suggest_int(key, space.low, space.high, log=space.log)
    return trial.suggest_float(key, space.low, space.high, log=space.log)


def _run_trial(
    config: TrainConfig,
    sweep: SweepConfig,
    folder: Path,
    number: int,
    values: dict[str, Any],
    say: Say,
    prepare: Prepare | None,
) -> float | None:
    """The trial's measure, or None where its loss came to be no number."""
    run = folder / f"trial-{number:03}"
    try:
        done = run_training(read_train_config(merge(plain(config), values | {"out": str(run)})), say, prepare)
    except OwnlmError as error:
        # The subclasses are a user's mistake, a full disk, Ctrl-C: no other trial would do better.
        if type(error) is not OwnlmError:
            raise
        say(f"trial {number + 1} failed: {error}")
        return None
    value = done.summary.get(sweep.metric)
    if value is None:
        # A measure of the validation: that of the weights which are the result.
        best = done.summary["best_step"]
        value = next((row[sweep.metric] for row in done.metrics if row["step"] == best and sweep.metric in row), None)
    if not isinstance(value, int | float):
        raise ConfigError(f"a run has no measure '{sweep.metric}'", where="metric", hint="use val_loss or loss")
    return float(value)


def _check(config: TrainConfig, sweep: SweepConfig, folder: Path) -> None:
    """Checks before the first trial that each parameter is a setting, and that the folder is this sweep's."""
    for key, space in sweep.parameters.items():
        if key.split(".")[0] == "out":
            raise ConfigError("each trial has a folder of its own", where=f"parameters.{key}", hint="leave it out")
        for value in space if isinstance(space, list) else (space.low, space.high):
            read_train_config(merge(plain(config), {key: value}))
    held_out = config.data.validation or any(map(is_dataset, config.data.sources))
    if sweep.metric.startswith("val_") and not held_out:
        raise ConfigError(
            f"nothing is held out to measure {sweep.metric} on", where="metric", hint="set data.validation"
        )
    known = [f"val_{name}" for name in ("loss", *make_objective(config.objective, config.seed).measures)]
    if sweep.metric not in (*known, *NUMBERS):
        what = f"the objective '{config.objective.kind}' has no measure '{sweep.metric.removeprefix('val_')}'"
        raise ConfigError(what, where="metric", hint=nearest(sweep.metric, [*known, *NUMBERS]))
    if not (folder / SETTINGS).is_file():
        if (folder / "config.yaml").is_file():
            raise UserError("this folder holds a run", where=str(folder), hint="set another out for the sweep")
        return
    old = dict(flatten(read_yaml(folder / SETTINGS)))
    new = dict(flatten(yaml.safe_load(_settings(config, sweep))))
    for key in sorted(set(old) | set(new)):
        if old.get(key) != new.get(key) and key not in ("sweep.trials", "config.out"):
            what = f"this folder holds a sweep with {key}: {old.get(key)}, not {new.get(key)}"
            raise ConfigError(what, where=str(folder / SETTINGS), hint="set another out, or delete the folder")


def _settings(config: TrainConfig, sweep: SweepConfig) -> str:
    both = {"sweep": sweep.model_dump(mode="json"), "config": plain(config)}
    return yaml.safe_dump(both, sort_keys=False, allow_unicode=True)


def _write(folder: Path, sweep: SweepConfig, study: optuna.Study) -> dict[str, Any]:
    """The table and the page of the trials that have ended; returns the table."""
    states = _states()
    sign = 1 if sweep.direction == "minimize" else -1
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state in (states.COMPLETE, states.FAIL)]
    ended.sort(key=lambda t: (t.value is None, sign * (t.value or 0.0), t.number))
    rows = [
        {
            "trial": trial.number,
            "run": str(folder / f"trial-{trial.number:03}"),
            sweep.metric: trial.value,
            "failed": trial.state == states.FAIL,
            "parameters": {key: trial.params[key] for key in sweep.parameters},
        }
        for trial in ended
    ]
    best = rows[0] if rows and not rows[0]["failed"] else None
    summary = {
        "sweep": str(folder),
        "metric": sweep.metric,
        "direction": sweep.direction,
        "best": best,
        "trials": rows,
    }
    write_json(folder / TABLE, summary)
    runs = [Path(row["run"]) for row in rows]
    decided = sweep.metric if best is not None else None
    comparison_report(runs, "Sweep", best=decided, lowest=sign > 0).write(folder / PAGE)
    return summary


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
