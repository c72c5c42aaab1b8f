"""A training run from a config to a model folder: set up or resume, train, save, report.

out/
    config.yaml     complete: the same file repeats the run
    metrics.jsonl   one line a step and a validation
    ledger.json     what became of every token
    checkpoints/    step-N, the newest and the best
    model/          the result, a Hugging Face folder
    plan.json       what 'ownlm plan' said of it, if it was asked
    run.json        the summary, written last
    report.html     curves, ledger, configuration, lineage
    run.log         what was said
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from .. import __version__, progress
from ..config import flatten, read_yaml
from ..devices import choose_device, choose_dtype, peak_memory_bytes
from ..errors import ConfigError, DamagedError, UserError
from ..files import new_folder, read_json, storage_errors, verify_folder, write_json, write_text
from ..model.adapters import attach, merge
from ..model.checkpoint import load_model_folder, random_model, save_state_folder
from ..model.config import ModelConfig
from ..model.quantized import quantized_layers
from ..model.transformer import Transformer
from ..report.memorisation import memorisation_verdict
from ..report.training import write_training_report
from ..tokens.tokenizer import Tokenizer
from ..units import format_bytes, plural
from . import checkpoint
from .canaries import measure_memorisation
from .checkpoint import Saved, TrainingState
from .config import MAY_CHANGE, TrainConfig, plain, read_train_config
from .data import TrainingData, prepare_data
from .ema import Ema
from .loop import Loop
from .memory import auto_micro_batch_tokens, keep_freed_pages
from .optimizer import make_optimizer, trained_parameters
from .repeats import passes, repeats
from .schedule import Plan, continued, continues_from, first_plan
from .setup import Setup, set_up
from .sharding import gathered_all, shard_model
from .workers import Workers, joined_workers, own_device

CONFIG = "config.yaml"
REPORT = "report.html"
SUMMARY = "run.json"
PLAN = "plan.json"

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
    with joined_workers() as workers:
        return _run(config, Path(config.out), workers, say if workers.first else _nothing)


def _run(config: TrainConfig, folder: Path, workers: Workers, say: Say) -> Run:
    """One worker's part of the run."""
    with _locked(folder) if workers.first else contextlib.nullcontext():
        say = _logged(folder, say) if workers.first else say
        workers.wait()
        _check_config(config, folder)
        finished = _finished(config, folder, say, workers)
        # Nobody changes the folder before everybody has read it.
        workers.wait()
        if finished:
            return finished
        device = choose_device(own_device(config.device, workers))
        with workers.first_ahead():
            setup = set_up(config)
            data = prepare_data(config, setup, say)
        micro_batch_tokens = _micro_batch(config, setup.shape, device)
        recomputed = _recomputed(config, setup, data, micro_batch_tokens, device, workers, say)
        model = make_model(config, setup, device, workers)
        model.recomputed = recomputed
        setup.objective.begin(model, data, folder)
        saved = _saved(config, model, setup.tokenizer)
        steps = data.steps(config)
        state = _resumed(config, folder, saved, data, steps, say, workers) or _fresh(config, data, steps)
        workers.wait()
        if workers.first:
            checkpoint.forget_after(folder, state.step)
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
            # A resumed run cuts its steps as before, so that it ends with the same bits.
            micro_batch_tokens=state.micro_batch_tokens or micro_batch_tokens,
            say=say,
            workers=workers,
        )
        _announce(loop, say)
        keep_freed_pages()
        loop.train()
        return _finish(config, folder, loop, setup.base, say)


def _nothing(message: str) -> None:
    """What the other workers say."""


def make_model(config: TrainConfig, setup: Setup, device: torch.device, workers: Workers) -> Transformer:
    """The model in the dtypes of its run: trained weights in float32, a frozen base in what it computes in."""
    compute = choose_dtype(config.precision, device)
    if setup.base is None:
        model = random_model(setup.shape, config.seed).to(device)
    else:
        options: dict[str, Any] = {"dtype": torch.float32}
        if config.adapter is not None:
            options = {"dtype": compute, "quantize": config.adapter.quantizes}
            options["double_quantize"] = config.adapter.double_quantize
        model = load_model_folder(setup.base, config=setup.shape, seed=config.seed, device=device, **options)
    model.compute_dtype = compute
    model.set_dropout(config.dropout)
    if config.adapter is not None:
        attach(model, config.adapter, config.seed)
    if config.compile is True or (config.compile == "auto" and device.type == "cuda"):
        model.compile_parts()
    size = _shard_size(config, workers)
    if size > 1:
        shard_model(model, workers, size)
    return model


def _shard_size(config: TrainConfig, workers: Workers) -> int:
    """Over how many workers the weights are spread."""
    size = config.distributed.shard
    if size == "auto":
        # An adapter's weights and states are small; what is frozen is spread only where it must be.
        return 1 if config.adapter is not None else workers.count
    if workers.count > 1 and workers.count % size:
        raise ConfigError(
            f"{workers.count} workers do not divide into groups of {size}",
            where="distributed.shard",
            hint=f"choose a divisor of {workers.count}",
        )
    return size if workers.count > 1 else 1


def _saved(config: TrainConfig, model: Transformer, tokenizer: Tokenizer) -> Saved:
    named = trained_parameters(model)
    optimizer = make_optimizer(model, config.optimizer)
    ema = None if config.ema is None else Ema(named, config.ema)
    return Saved(model, optimizer, named, tokenizer, config.adapter, config.base or "", ema)


def _micro_batch(config: TrainConfig, shape: ModelConfig, device: torch.device) -> int:
    if config.micro_batch_tokens == "auto":
        return auto_micro_batch_tokens(shape, config.batch_tokens, device)
    return config.micro_batch_tokens


def _recomputed(
    config: TrainConfig,
    setup: Setup,
    data: TrainingData,
    micro_batch_tokens: int,
    device: torch.device,
    workers: Workers,
    say: Say,
) -> int:
    """How many blocks are computed again: as many as asked for, or as the memory budget needs."""
    if config.recompute != "auto":
        return config.recompute
    if config.memory_budget is None:
        return 0
    from .plan.report import fitting_recompute

    budget = config.memory_budget * 1e9
    count, memory = fitting_recompute(config, setup, data, micro_batch_tokens, device, budget)
    # Measured on each, and the same for all.
    count = workers.agreed(count)
    if count:
        blocks = plural(count, "block")
        say(f"{blocks} of {setup.shape.layers} are computed again, to stay at about {format_bytes(memory.total)}")
    return count


def _fresh(config: TrainConfig, data: TrainingData, steps: int) -> TrainingState:
    plan = asdict(first_plan(config.schedule, steps))
    return TrainingState(data=data.fingerprints, ledger=data.ledger(steps).as_json(), plan=plan)


def _resumed(
    config: TrainConfig, folder: Path, saved: Saved, data: TrainingData, steps: int, say: Say, workers: Workers
) -> TrainingState | None:
    """The state of the last good checkpoint, with model and optimizer as they were; None where there is none."""
    with workers.first_ahead():
        found = checkpoint.last_good(folder, say)
    if found is None:
        return None
    found = _before_the_decay(config, folder, found, steps, say)
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
    say(f"resuming at step {state.step}")
    before = _plan_of(config, state.plan, steps)
    plan = continued(config.schedule, before, state.step, steps)
    if plan.begin > before.begin:
        say(f"the learning rate goes from where it stands to the new plan's in {plan.rewarm} steps")
    state.plan = asdict(plan)
    patience = config.validate_.patience
    if state.stopped is not None and (patience is None or state.since_best < patience):
        state.stopped = None
    if state.stopped is not None and state.step < steps:
        say(f"the run stopped early at step {state.step} ({state.stopped}); a higher validate.patience makes it go on")
    return state


def _plan_of(config: TrainConfig, saved: Mapping[str, Any] | None, steps: int) -> Plan:
    """The plan that a checkpoint holds; one from before plans were saved has that of its schedule."""
    return Plan(**saved) if saved else first_plan(config.schedule, steps)


def _before_the_decay(config: TrainConfig, folder: Path, newest: Path, steps: int, say: Say) -> Path:
    """Of a wsd run that is now asked for another number of steps, the newest checkpoint of both plans; or the newest.

    Raises:
        DamagedError: that checkpoint is damaged.
    """
    plan = _plan_of(config, read_json(newest / checkpoint.TRAINING).get("plan"), steps)
    made = int(newest.name[5:])
    agreed = continues_from(config.schedule, plan, steps)
    earlier = [step for step in checkpoint.steps_saved(folder) if step <= agreed]
    if config.schedule.kind != "wsd" or steps <= made or steps == plan.steps or made <= agreed:
        return newest
    if 2 * max(earlier, default=0) < made:
        # Going back that far would throw more away than a rewarm costs.
        return newest
    chosen = checkpoint.step_folder(folder, max(earlier))
    verify_folder(chosen)
    say(f"going back to step {max(earlier)}, before the learning rate began to fall, to go on to {steps} steps")
    return chosen


def _announce(loop: Loop, say: Say) -> None:
    model = loop.model
    total = _parameters(model)
    trained = sum(p.numel() for _, p in loop.saved.named)
    part = f", {trained:,} of them trained" if trained != total else ""
    precision = str(model.compute_dtype).removeprefix("torch.")
    say(f"{model.config.family} model with {total:,} parameters{part}, computing in {precision} on {model.device}")
    for line in loop.ledger.lines() + repeats(loop.data, loop.steps):
        say(line)


def _parameters(model: Transformer) -> int:
    """How many numbers the model has, those of quantized weights too."""
    few = sum(layer.outputs * layer.inputs for layer in quantized_layers(model).values())
    return few + sum(p.numel() for p in model.parameters())


def _finish(config: TrainConfig, folder: Path, loop: Loop, base: Path | None, say: Say) -> Run:
    """The result: the best weights where there was validation, else the last; merged, saved, summed up."""
    workers = loop.workers
    _take_best(folder, loop, say)
    memorised = _memorised(config, loop, say)
    weights = gathered_all(checkpoint.trained_weights(loop.saved), workers)
    if workers.first:
        _write_result(config, folder, loop, weights, base, memorised, say)
    workers.wait()
    return Run(folder, folder / "model", read_json(folder / SUMMARY))


def _memorised(config: TrainConfig, loop: Loop, say: Say) -> dict[str, Any] | None:
    """What the result knows by heart of the run's canaries, where it has some; every worker reads them."""
    if config.canaries is None:
        return None
    objective, size = loop.objective, loop.gradients.micro_batch_tokens
    measured = measure_memorisation(
        loop.model, loop.saved.tokenizer, config.canaries, config.seed, objective.kind, size
    )
    say(f"canaries: {memorisation_verdict(measured)}")
    return measured


def _write_result(
    config: TrainConfig,
    folder: Path,
    loop: Loop,
    weights: dict[str, Tensor],
    base: Path | None,
    memorised: dict[str, Any] | None,
    say: Say,
) -> None:
    """Writes model, summary and report; weights: the trained ones, whole, by our names."""
    state, shape, dtype = loop.state, loop.model.config, None
    if config.adapter is not None and base is not None:
        model = _with_adapter(config, shape, weights, base)
        with new_folder(folder / "adapter") as new:
            checkpoint.write_adapter(new, model, config.adapter, config.base or "")
        merge(model)
        weights = dict(model.state_dict())
    elif base is not None:
        dtype = _stored_dtype(base)
    summary = _summary(config, folder, loop) | {"memorisation": memorised}
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
    tokenizer = loop.saved.tokenizer
    save_state_folder(weights, shape, folder / "model", tokenizer=tokenizer, dtype=dtype, lineage=lineage)
    write_json(folder / "ledger.json", summary["ledger"])
    write_json(folder / SUMMARY, summary)
    write_training_report(folder)
    say(f"done: {folder / 'model'}; report: {folder / REPORT}")


def _take_best(folder: Path, loop: Loop, say: Say) -> None:
    """Puts the best weights into the model; where their checkpoint is gone or damaged, the last ones stay."""
    state = loop.state
    if state.best_step is None or state.best_step == state.step:
        if loop.saved.ema is not None:
            loop.saved.ema.take()
        return
    best = checkpoint.step_folder(folder, state.best_step)
    try:
        verify_folder(best)
    except DamagedError as error:
        say(f"{error}; the result is the last step's weights, not the best ones")
        losses = [line["val_loss"] for line in checkpoint.last_metrics(loop.metrics) if "val_loss" in line]
        state.best_step, state.best_loss = state.step, losses[-1]
        if loop.saved.ema is not None:
            loop.saved.ema.take()
        return
    if loop.saved.ema is None:
        checkpoint.read_weights(best, loop.saved)
    else:
        # What was validated were the averages.
        checkpoint.read_averages(best, loop.saved)
        loop.saved.ema.take()
    say(f"taking the weights of step {state.best_step}, the best by held-out loss")


def _stored_dtype(base: Path | None) -> torch.dtype | None:
    if base is None:
        return None
    name = read_json(base / "config.json").get("dtype") or read_json(base / "config.json").get("torch_dtype")
    return getattr(torch, str(name), None)


@torch.no_grad()
def _with_adapter(config: TrainConfig, shape: ModelConfig, weights: Mapping[str, Tensor], base: Path) -> Transformer:
    """The base as it is stored, with the trained adapter, and what else was trained, beside it."""
    assert config.adapter is not None
    model = load_model_folder(base, config=shape, seed=config.seed)
    attach(model, config.adapter, config.seed)
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])
    return model


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
        "planned": _planned(folder),
        "parameters": _parameters(loop.model),
        "trained_parameters": sum(p.numel() for _, p in loop.saved.named),
        "passes": passes(loop.data, loop.steps),
        "ledger": loop.ledger.as_json(),
        "ownlm": __version__,
    }


def _planned(folder: Path) -> dict[str, Any] | None:
    """What 'ownlm plan' said of this run, if it was asked."""
    path = folder / PLAN
    if not path.is_file():
        return None
    plan = read_json(path)
    return {key: plan.get(key) for key in ("memory_bytes", "tokens_per_second", "hours", "parameters")}


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


def _finished(config: TrainConfig, folder: Path, say: Say, workers: Workers) -> Run | None:
    """The run, if it was trained to its end and no more is asked for."""
    if not (folder / SUMMARY).is_file() or not (folder / "model").is_dir():
        return None
    summary = read_json(folder / SUMMARY)
    if summary["asked"] != _asked(config):
        return None
    if workers.first and not (folder / REPORT).is_file():
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
