"""A training run from a config to a model folder: set up or resume, train, save, report.

out/
    config.yaml     complete: the same file repeats the run
    metrics.jsonl   one line a step and a validation
    ledger.json     what became of every token
    checkpoints/    step-N, the newest and the best
    model/          the result, a Hugging Face folder
    run.json        the summary, written last
    report.html     curves, ledger, configuration, lineage
    run.log         what was said
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from .. import __version__, progress
from ..config import flatten, read_yaml
from ..devices import choose_device, choose_dtype, peak_memory_bytes
from ..errors import ConfigError, DamagedError, UserError
from ..files import new_folder, read_json, storage_errors, verify_folder, write_json, write_text
from ..model.adapters import LoraConfig, adapter_layers, attach, merge
from ..model.checkpoint import load_model_folder, random_model, save_model_folder
from ..model.config import ModelConfig
from ..model.transformer import Transformer
from ..report.training import write_training_report
from ..tokens.tokenizer import Tokenizer
from . import checkpoint
from .checkpoint import Saved, TrainingState
from .config import MAY_CHANGE, TrainConfig, plain
from .data import TrainingData, prepare_data
from .loop import Loop
from .memory import auto_micro_batch_tokens, keep_freed_pages
from .optimizer import make_optimizer, trained_parameters
from .setup import Setup, set_up

CONFIG = "config.yaml"
REPORT = "report.html"

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


def run_training(config: TrainConfig, say: Say = progress.say) -> Run:
    """Trains, or goes on where an earlier call on the same folder stopped; a finished run is only read.

    Raises:
        UserError: config, data, model or tokenizer do not fit; the folder holds another run; another process trains it.
        StorageError: the disk is full; the last checkpoint stays.
        Interrupted: Ctrl-C; the run is saved.
    """
    folder = Path(config.out)
    with _locked(folder):
        say = _logged(folder, say)
        _check_config(config, folder)
        if finished := _finished(config, folder, say):
            return finished
        device = choose_device(config.device)
        setup = set_up(config)
        data = prepare_data(config, setup, say)
        model = _model(config, setup, device)
        setup.objective.begin(model, data, folder)
        saved = _saved(config, model, setup.tokenizer)
        steps = data.steps(config)
        state = _resumed(config, folder, saved, data, steps, say) or _fresh(data, steps)
        write_text(folder / CONFIG, yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True))
        loop = Loop(
            config=config,
            objective=setup.objective,
            run=folder,
            saved=saved,
            data=data,
            ledger=data.replanned(state.ledger, steps),
            state=state,
            steps=steps,
            micro_batch_tokens=_micro_batch(config, setup.shape, device),
            say=say,
        )
        _announce(loop, say)
        keep_freed_pages()
        loop.train()
        return _finish(config, folder, loop, setup.base, say)


def _model(config: TrainConfig, setup: Setup, device: torch.device) -> Transformer:
    """The model in the dtypes of its run: trained weights in float32, a frozen base in what it computes in."""
    compute = choose_dtype(config.precision, device)
    if setup.base is None:
        model = random_model(setup.shape, config.seed).to(device)
    else:
        dtype = compute if config.adapter else torch.float32
        model = load_model_folder(setup.base, config=setup.shape, seed=config.seed, dtype=dtype, device=device)
    model.compute_dtype = compute
    model.set_dropout(config.dropout)
    if config.adapter is not None:
        attach(model, config.adapter, config.seed)
    if config.compile is True or (config.compile == "auto" and device.type == "cuda"):
        model.compile_parts()
    return model


def _saved(config: TrainConfig, model: Transformer, tokenizer: Tokenizer) -> Saved:
    named = trained_parameters(model)
    return Saved(model, make_optimizer(named, config.optimizer), named, tokenizer, config.adapter, config.base or "")


def _micro_batch(config: TrainConfig, shape: ModelConfig, device: torch.device) -> int:
    if config.micro_batch_tokens == "auto":
        return auto_micro_batch_tokens(shape, config.batch_tokens, device)
    return config.micro_batch_tokens


def _fresh(data: TrainingData, steps: int) -> TrainingState:
    return TrainingState(data=data.fingerprints, ledger=data.ledger(steps).as_json())


def _resumed(
    config: TrainConfig, folder: Path, saved: Saved, data: TrainingData, steps: int, say: Say
) -> TrainingState | None:
    """The state of the last good checkpoint, with model and optimizer as they were; None where there is none."""
    found = checkpoint.last_good(folder, say)
    if found is None:
        checkpoint.metrics_tail(folder / "metrics.jsonl", 0)
        return None
    state = checkpoint.read_checkpoint(found, saved)
    if state.data != data.fingerprints:
        raise UserError(
            "the data is not what this run began with",
            where=str(folder),
            hint="train into another out, or undo the change",
        )
    if state.step > steps:
        raise ConfigError(
            f"the run has made {state.step} steps already, and {steps} are asked for",
            where="steps" if config.steps is not None else "epochs",
            hint="ask for more, or set another out",
        )
    checkpoint.forget_after(folder, state.step)
    say(f"resuming at step {state.step}")
    patience = config.validate_.patience
    if state.stopped is not None and (patience is None or state.since_best < patience):
        state.stopped = None
    if state.stopped is not None and state.step < steps:
        say(f"the run stopped early at step {state.step} ({state.stopped}); a higher validate.patience makes it go on")
    return state


def _announce(loop: Loop, say: Say) -> None:
    model = loop.model
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for _, p in loop.saved.named)
    part = f", {trained:,} of them trained" if trained != total else ""
    precision = str(model.compute_dtype).removeprefix("torch.")
    say(f"{model.config.family} model with {total:,} parameters{part}, computing in {precision} on {model.device}")
    for line in loop.ledger.lines():
        say(line)


def _finish(config: TrainConfig, folder: Path, loop: Loop, base: Path | None, say: Say) -> Run:
    """The result: the best weights where there was validation, else the last; merged, saved, summed up."""
    state = loop.state
    _take_best(folder, loop, say)
    model = loop.model
    if config.adapter is not None and base is not None:
        model = _merged(config.adapter, loop.saved, base)
        _save_adapter(folder, loop.saved)
    summary = _summary(config, folder, loop)
    before, after = summary["val_loss_before"], summary["val_loss"]
    if before is not None and after is not None and after > before:
        say(
            f"the held-out loss rose from {before:.4f} to {after:.4f}: the result is worse on it than what it began from"
        )
    lineage = {
        "parents": [config.base] if config.base else [],
        "data": state.data,
        "config": plain(config),
        "metrics": {key: summary[key] for key in ("steps", "tokens", "loss", "val_loss")},
    }
    dtype = None if config.base is None or config.adapter else _stored_dtype(base)
    save_model_folder(model, folder / "model", tokenizer=loop.saved.tokenizer, dtype=dtype, lineage=lineage)
    write_json(folder / "ledger.json", summary["ledger"])
    write_json(folder / "run.json", summary)
    write_training_report(folder)
    say(f"done: {folder / 'model'}; report: {folder / REPORT}")
    return Run(folder, folder / "model", summary)


def _take_best(folder: Path, loop: Loop, say: Say) -> None:
    """Puts the best weights into the model; where their checkpoint is gone or damaged, the last ones stay."""
    state = loop.state
    if state.best_step is None or state.best_step == state.step:
        return
    best = checkpoint.step_folder(folder, state.best_step)
    try:
        verify_folder(best)
    except DamagedError as error:
        say(f"{error}; the result is the last step's weights, not the best ones")
        losses = [line["val_loss"] for line in checkpoint.last_metrics(loop.metrics) if "val_loss" in line]
        state.best_step, state.best_loss = state.step, losses[-1]
        return
    checkpoint.read_weights(best, loop.saved)
    say(f"taking the weights of step {state.best_step}, the best by held-out loss")


def _stored_dtype(base: Path | None) -> torch.dtype | None:
    if base is None:
        return None
    name = read_json(base / "config.json").get("dtype") or read_json(base / "config.json").get("torch_dtype")
    return getattr(torch, str(name), None)


def _merged(lora: LoraConfig, saved: Saved, base: Path) -> Transformer:
    """The base as it is stored, with the trained adapter added into it in float32."""
    model = load_model_folder(base)
    attach(model, lora, 0)
    trained = adapter_layers(saved.model)
    with torch.no_grad():
        for name, layer in adapter_layers(model).items():
            layer.a.copy_(trained[name].a)
            layer.b.copy_(trained[name].b)
    merge(model)
    return model


def _save_adapter(folder: Path, saved: Saved) -> None:
    assert saved.lora is not None
    with new_folder(folder / "adapter") as new:
        checkpoint.write_adapter(new, saved)


def _summary(config: TrainConfig, folder: Path, loop: Loop) -> dict[str, Any]:
    metrics = checkpoint.last_metrics(folder / "metrics.jsonl")
    steps = [line for line in metrics if "loss" in line]
    validations = [line["val_loss"] for line in metrics if "val_loss" in line]
    state = loop.state
    speeds = sorted(line["tokens_per_second"] for line in steps)
    return {
        "run": str(folder),
        "model": str(folder / "model"),
        "steps": state.step,
        "asked": _asked(config),
        "tokens": state.tokens,
        "trained_tokens": state.trained_tokens,
        "loss": steps[-1]["loss"] if steps else None,
        "val_loss": state.best_loss,
        "val_loss_before": validations[0] if validations else None,
        "best_step": state.best_step,
        "stopped": state.stopped,
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "seconds": round(state.seconds, 1),
        "peak_memory_bytes": peak_memory_bytes(loop.device),
        "parameters": sum(p.numel() for p in loop.model.parameters()),
        "trained_parameters": sum(p.numel() for _, p in loop.saved.named),
        "ledger": loop.ledger.as_json(),
        "ownlm": __version__,
    }


def _asked(config: TrainConfig) -> dict[str, Any]:
    """What decides how long a run is; a finished run that is asked for more goes on."""
    return {"steps": config.steps, "epochs": config.epochs, "patience": config.validate_.patience}


def _check_config(config: TrainConfig, folder: Path) -> None:
    """Holds the config against the one that began the run in this folder.

    A command that failed before its first checkpoint began nothing, so its mistakes may be mended.

    Raises:
        ConfigError: a key differs that would make it another run.
    """
    path = folder / CONFIG
    if path.is_file() and (checkpoint.steps_saved(folder) or (folder / "run.json").is_file()):
        old, new = dict(flatten(read_yaml(path))), dict(flatten(plain(config)))
        for key in sorted(set(old) | set(new)):
            if old.get(key) != new.get(key) and key.split(".")[0] not in MAY_CHANGE and key != "out":
                raise ConfigError(
                    f"this folder holds a run with {key}: {old.get(key)}, not {new.get(key)}",
                    where=f"{key} in {path}",
                    hint="set another out, or delete the folder to begin again",
                )


def _finished(config: TrainConfig, folder: Path, say: Say) -> Run | None:
    """The run, if it was trained to its end and no more is asked for."""
    if not (folder / "run.json").is_file() or not (folder / "model").is_dir():
        return None
    summary = read_json(folder / "run.json")
    if summary["asked"] != _asked(config):
        return None
    if not (folder / REPORT).is_file():
        # Killed after the summary and before the page.
        write_training_report(folder)
    say(f"{folder} is already trained; delete it or set another out to train anew")
    return Run(folder, folder / "model", summary)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process trains a folder at a time; the lock goes with the process, however it ends."""
    with storage_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ConfigError(f"'{folder}' cannot be a folder: a file is in its place", where="out") from None
        file = (folder / ".lock").open("w")
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


def _logged(folder: Path, say: Say) -> Say:
    """Says things to the user and into run.log."""
    path = folder / "run.log"

    def both(message: str) -> None:
        say(message)
        with storage_errors(path), path.open("a", encoding="utf-8") as log:
            log.write(message + "\n")

    return both
