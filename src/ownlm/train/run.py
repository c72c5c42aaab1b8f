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
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml

from .. import progress
from ..devices import choose_device, choose_dtype
from ..errors import ConfigError, UserError
from ..files import read_json, remove_partial, verify_folder, write_text
from ..model.adapters import attach
from ..model.checkpoint import load_model_folder, random_model
from ..model.config import ModelConfig
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from ..units import format_bytes, plural
from . import checkpoint
from .best import check_best
from .checkpoint import Saved, TrainingState
from .config import TrainConfig, plain
from .data import TrainingData, prepare_data
from .ema import Ema
from .evaluation import Evaluations, Prepare, prepared
from .folder import CONFIG, Run, Say, check_config, check_place, finished_run, locked, logged
from .loop import Loop
from .memory import auto_micro_batch_tokens, prepare_memory
from .optimizer import make_optimizer, trained_parameters
from .repeats import repeats
from .result import count_parameters, finish
from .schedule import Plan, continued, continues_from, first_plan
from .setup import Setup, set_up
from .sharding import shard_model
from .signals import leaving_at_once
from .whole import whole_copy
from .workers import Workers, joined_workers, own_device


def run_training(config: TrainConfig, say: Say = progress.say, prepare: Prepare | None = None) -> Run:
    """Trains, or goes on where an earlier call on the same folder stopped; a finished run is only read.

    Args:
        config: the run's.
        say: tells the user something.
        prepare: reads the tasks of ``config.evaluate``.

    Raises:
        UserError: config, data, model or tokenizer do not fit; the folder holds another run; another process trains it.
        StorageError: the disk is full; the last checkpoint stays.
        Interrupted: Ctrl-C; the run is saved.
        Terminated: SIGTERM; the run is saved.
    """
    with leaving_at_once(), joined_workers() as workers:
        return _run(config, Path(config.out), workers, say if workers.first else _nothing, prepare)


def _run(config: TrainConfig, folder: Path, workers: Workers, say: Say, prepare: Prepare | None) -> Run:
    """One worker's part of the run."""
    check_place(config, folder)
    with locked(folder) if workers.first else contextlib.nullcontext():
        if workers.first:
            remove_partial(folder)
            say = logged(folder, say)
        workers.wait()
        check_config(config, folder)
        finished = finished_run(config, folder, say, workers)
        # Nobody changes the folder before everybody has read it.
        workers.wait()
        if finished:
            return finished
        device = choose_device(own_device(config.device, workers))
        with workers.first_ahead():
            setup = set_up(config)
            for note in setup.objective.notes:
                say(note)
            measure = prepared(config.evaluate, prepare, setup.tokenizer, say)
            data = prepare_data(config, setup, say)
            check_best(config.validate_.best, setup.objective, data.validation is not None)
        micro_batch_tokens = _micro_batch(config, setup.shape, device)
        recomputed = _recomputed(config, setup, data, micro_batch_tokens, device, workers, say)
        prepare_memory(device)
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
            evaluations=None
            if measure is None
            else Evaluations(measure, saved, workers, lambda: whole_copy(config, saved, setup.base, workers)),
        )
        _announce(loop, say)
        loop.train()
        return finish(config, folder, loop, setup.base, say)


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
        say(f"the learning rate goes from where it stands to the new plan's in {plural(plan.rewarm, 'step')}")
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
    total = count_parameters(model)
    trained = sum(p.numel() for _, p in loop.saved.named)
    part = f", {trained:,} of them trained" if trained != total else ""
    precision = str(model.compute_dtype).removeprefix("torch.")
    say(f"{model.config.family} model with {total:,} parameters{part}, computing in {precision} on {model.device}")
    for line in loop.ledger.lines() + repeats(loop.data, loop.steps):
        say(line)
