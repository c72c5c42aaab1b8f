"""The folder of a run: who may train in it, what it holds already, and what is said while it is trained."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import flatten, read_yaml
from ..errors import ConfigError, DamagedError, UserError
from ..files import read_json, storage_errors, verify_folder
from ..report.training import write_training_report
from ..tokens.dataset import is_dataset
from . import checkpoint
from .config import MAY_CHANGE, TrainConfig, plain, read_train_config
from .workers import Workers

CONFIG = "config.yaml"
REPORT = "report.html"
SUMMARY = "run.json"
PLAN = "plan.json"
LOCK = ".lock"
# What a run writes in its folder, whatever stood there before.
_WRITTEN = (CONFIG, "metrics.jsonl", "ledger.json", REPORT, "checkpoints", "model", "adapter", "reference")
# What a sweep's folder says of itself (sweep.py).
SWEEP = "sweep.yaml"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: the run's folder.
        model: the resulting model's folder.
        summary: what ``ownlm train --json`` prints.
    """

    folder: Path
    model: Path
    summary: dict[str, Any]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every line of metrics.jsonl."""
        return checkpoint.last_metrics(self.folder / "metrics.jsonl")


def asked(config: TrainConfig) -> dict[str, Any]:
    """What decides how long a run is; a finished run that is asked for more goes on."""
    return {"steps": config.steps, "epochs": config.epochs, "patience": config.validate_.patience}


def check_place(config: TrainConfig, folder: Path) -> None:
    """Holds the run's folder against the data: within a folder of texts its own files would be read as texts.

    Raises:
        ConfigError: it lies there.
    """
    for source in map(Path, [*config.data.sources, *config.data.validation]):
        if source.is_dir() and not is_dataset(source) and folder.resolve().is_relative_to(source.resolve()):
            message = f"this folder lies in '{source}', whose files are the data"
            raise ConfigError(message, where=f"out: {folder}", hint="set another out, beside the data")


def check_config(config: TrainConfig, folder: Path) -> None:
    """Holds the config against the one that began the run in this folder.

    A command that failed before its first checkpoint began nothing, so its mistakes may be mended.

    Raises:
        ConfigError: a key differs that would make it another run.
    """
    if (folder / SWEEP).is_file():
        hint = "set another out, or give --sweep to go on with it"
        raise ConfigError("this folder holds a sweep", where=f"out: {folder}", hint=hint)
    path = folder / CONFIG
    if path.is_file() and (checkpoint.steps_saved(folder) or (folder / SUMMARY).is_file()):
        old, new = dict(flatten(_filled(path))), dict(flatten(plain(config)))
        for key in sorted(set(old) | set(new)):
            if old.get(key) != new.get(key) and not {key, key.split(".")[0]} & {*MAY_CHANGE, "out"}:
                raise ConfigError(
                    f"this folder holds a run with {key}: {old.get(key)}, not {new.get(key)}",
                    where=f"{key} in {path}",
                    hint="set another out, or delete the folder to begin again",
                )


def _filled(path: Path) -> dict[str, Any]:
    """A run's saved config, with the defaults of what it does not say, as one from an earlier version."""
    values = read_yaml(path)
    try:
        return plain(read_train_config(values))
    except ConfigError:
        return values


def finished_run(config: TrainConfig, folder: Path, say: Say, workers: Workers) -> Run | None:
    """The run, if it was trained to its end and no more is asked for.

    Raises:
        DamagedError: its result is damaged, and there is no checkpoint to make it anew from.
    """
    if not (folder / SUMMARY).is_file() or not (folder / "model").is_dir():
        return None
    summary = read_json(folder / SUMMARY)
    if summary["asked"] != asked(config):
        return None
    try:
        verify_folder(folder / "model")
    except DamagedError as error:
        if not checkpoint.steps_saved(folder):
            raise
        say(f"{error.where}: {error.message}; the result is made again from the last checkpoint")
        return None
    if workers.first and not (folder / REPORT).is_file():
        # Killed after the summary and before the page.
        write_training_report(folder)
    say(f"{folder} is already trained; delete it or set another out to train anew")
    return Run(folder, folder / "model", summary)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process trains a folder at a time; the lock goes with the process, however it ends.

    Raises:
        ConfigError: there can be no such folder, or it holds what is of no run.
        UserError: another process trains it.
    """
    with storage_errors(folder):
        _make(folder)
        file = (folder / LOCK).open("w")
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            # Windows has no flock; there the user minds it.
            pass
        except BlockingIOError:
            raise UserError(
                "another process is training in this folder", where=str(folder), hint="wait for it"
            ) from None
        yield


def _make(folder: Path) -> None:
    """Makes a run's folder.

    Raises:
        ConfigError: there can be none of this name, or what would be written over is of no run.
    """
    hint = "set another out"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        begun = (folder / LOCK).exists() or (folder / SUMMARY).is_file() or checkpoint.steps_saved(folder)
        taken = [] if begun else [name for name in _WRITTEN if (folder / name).exists()]
    except (FileExistsError, NotADirectoryError):
        what = f"'{folder}' cannot be a folder: a file is in its place"
        raise ConfigError(what, where="out", hint=hint) from None
    except ValueError:
        raise ConfigError("the name of a folder holds no NUL character", where="out", hint=hint) from None
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ENOENT):
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(f"'{folder}' cannot be a folder: {reason}", where="out", hint=hint) from None
        raise
    if taken:
        what = f"'{folder / taken[0]}' is of no run, and would be written over"
        raise ConfigError(what, where="out", hint="set another out, or move it away")


def logged(folder: Path, say: Say) -> Say:
    """Says things to the user and into run.log."""
    path = folder / "run.log"

    def both(message: str) -> None:
        say(message)
        with storage_errors(path), path.open("a", encoding="utf-8") as log:
            log.write(message + "\n")

    return both
