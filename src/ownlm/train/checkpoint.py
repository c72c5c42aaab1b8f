"""Training checkpoints: a model folder (or a PEFT adapter) plus everything that makes the next step the same step.

    checkpoints/step-N/
        model.safetensors, config.json, tokenizer...     or adapter_model.safetensors, adapter_config.json
        optimizer.safetensors                            the optimizer's state, by parameter name
        ema.safetensors                                  the averaged weights, where the run keeps them
        training.json                                    step, best, ledger, where metrics.jsonl stood
        checksums.json

Of a run whose weights are spread over workers, parts.json and a file of each worker stand for the weights and the
optimizer's state. Either is read by any number of workers.

No generator's state is among it: randomness is a function of (seed, step), so there is none to lose.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import DamagedError
from ..files import new_folder, read_json, remove_partial, verify_folder, write_json
from ..model.adapters import LoraConfig, load_peft_state, peft_state
from ..model.checkpoint import load_model_folder, save_tensors, write_model_files
from ..model.config import ModelConfig
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from .ema import Ema
from .optimizer import Named, load_optimizer_state, named_states
from .parts import INDEX as PARTS
from .parts import read_parts, write_parts
from .sharding import fill, is_spread
from .workers import ALONE, Workers

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER = "optimizer.safetensors"
EMA = "ema.safetensors"
TRAINING = "training.json"


@dataclass
class TrainingState:
    """Where a run stands.

    Attributes:
        step: updates made.
        tokens: tokens read by the model, context included.
        trained_tokens: targets with a share in the loss.
        best_step: the step with the best validation, its loss, and what else decided, if anything did (validate.best).
        since_best: validations since then.
        ledger: the ledger as it stood.
        metrics_bytes: the length of metrics.jsonl; what stands after it belongs to steps not saved.
        data: fingerprints of the data, so that a run never resumes on other data.
        stopped: why the run ended before its last step, if it did.
        seconds: time spent training so far.
        skipped: steps whose loss or gradient was no finite number, and those in a row.
        micro_batch_tokens: tokens in memory at once.
        plan: what decides the learning rates besides the schedule (schedule.Plan).
    """

    step: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    best_value: float | None = None
    since_best: int = 0
    ledger: dict[str, Any] = field(default_factory=dict)
    metrics_bytes: int = 0
    data: list[str] = field(default_factory=list)
    stopped: str | None = None
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    micro_batch_tokens: int | None = None
    plan: dict[str, Any] = field(default_factory=dict)


@dataclass
class Saved:
    """What a checkpoint is made of."""

    model: Transformer
    optimizer: torch.optim.Optimizer
    named: Named
    tokenizer: Tokenizer
    lora: LoraConfig | None
    base: str
    ema: Ema | None = None


def step_folder(run: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return run / "checkpoints" / f"step-{step}"


def write_checkpoint(run: Path, saved: Saved, state: TrainingState, workers: Workers = ALONE) -> Path:
    """Saves the run as it stands, whole or not at all.

    Where the weights are spread over workers, each writes its own part (see parts.py).

    Raises:
        StorageError: the disk is full; earlier checkpoints stay.
    """
    folder = step_folder(run, state.step)
    if not is_spread(saved.named[0][1]):
        if workers.first:
            write_snapshot(folder, take_snapshot(saved, state))
        workers.wait()
        return folder
    with contextlib.ExitStack() as stack:
        # The first worker's folder; it gets its name when all have written what is theirs.
        new = workers.agreed(stack.enter_context(new_folder(folder)) if workers.first else None)
        write_parts(
            new, trained_weights(saved) | named_states(saved.optimizer, saved.named) | _averages(saved), workers
        )
        if workers.first:
            write_json(new / TRAINING, asdict(state))
        workers.wait()
    workers.wait()
    return folder


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment, to be written while it goes on.

    Attributes:
        weights: a model's by our names, or an adapter's by PEFT's.
        adapter: the content of adapter_config.json, or None for a whole model.
        optimizer: its state.
        averages: the averaged weights by our names; empty where none are kept.
        training: the content of training.json.
        config, tokenizer: the model's.
    """

    weights: dict[str, Tensor]
    adapter: dict[str, Any] | None
    optimizer: dict[str, Tensor]
    averages: dict[str, Tensor]
    training: dict[str, Any]
    config: ModelConfig
    tokenizer: Tokenizer


def take_snapshot(saved: Saved, state: TrainingState, *, copied: bool = False) -> Snapshot:
    """The run as it stands; ``copied`` into memory of its own, on the CPU, so that training may go on at once."""
    adapter = None
    weights = dict(saved.model.state_dict())
    if saved.lora is not None:
        weights, adapter = peft_state(saved.model, saved.lora, saved.base)
    optimizer = named_states(saved.optimizer, saved.named)
    averages = {} if saved.ema is None else saved.ema.state()
    if copied:
        weights, optimizer, averages = _copied(weights), _copied(optimizer), _copied(averages)
    config = saved.model.config
    return Snapshot(weights, adapter, optimizer, averages, copy.deepcopy(asdict(state)), config, saved.tokenizer)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Writes a checkpoint folder, whole or not at all.

    Raises:
        StorageError: the disk is full; earlier checkpoints stay.
    """
    with new_folder(folder) as new:
        if snapshot.adapter is None:
            write_model_files(new, snapshot.weights, snapshot.config, tokenizer=snapshot.tokenizer)
        else:
            _write_adapter(new, snapshot.weights, snapshot.adapter)
        optimizer = {name: tensor.detach().cpu() for name, tensor in snapshot.optimizer.items()}
        save_tensors(optimizer, new / OPTIMIZER)
        if snapshot.averages:
            save_tensors({name: tensor.detach().cpu() for name, tensor in snapshot.averages.items()}, new / EMA)
        write_json(new / TRAINING, snapshot.training)


def _write_adapter(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    save_tensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / ADAPTER_WEIGHTS)
    write_json(folder / ADAPTER_CONFIG, config)


def trained_weights(saved: Saved) -> dict[str, Tensor]:
    """The weights that a checkpoint holds, by our names: all of them, or the adapter's."""
    return dict(saved.named) if saved.lora is not None else dict(saved.model.state_dict())


def write_adapter(folder: Path, model: Transformer, lora: LoraConfig, base: str) -> None:
    """Writes an adapter's two files as PEFT has them."""
    _write_adapter(folder, *peft_state(model, lora, base))


def read_checkpoint(folder: Path, saved: Saved) -> TrainingState:
    """Puts the model and the optimizer back as they were and returns where the run stood.

    The checkpoint may come from any number of workers.
    """
    read_weights(folder, saved)
    if (folder / PARTS).is_file():
        read_parts(folder, named_states(saved.optimizer, saved.named))
    else:
        load_optimizer_state(saved.optimizer, saved.named, load_file(folder / OPTIMIZER), str(folder))
    read_averages(folder, saved)
    return TrainingState(**read_json(folder / TRAINING))


def read_averages(folder: Path, saved: Saved) -> None:
    """Puts the averaged weights back, where the run keeps them."""
    if saved.ema is None:
        return
    if (folder / PARTS).is_file():
        read_parts(folder, _averages(saved))
    else:
        saved.ema.load(load_file(folder / EMA), str(folder))


def _averages(saved: Saved) -> dict[str, Tensor]:
    return {} if saved.ema is None else {f"ema:{name}": tensor for name, tensor in saved.ema.state().items()}


def read_weights(folder: Path, saved: Saved) -> None:
    """Puts the weights back, bit for bit."""
    if (folder / PARTS).is_file():
        read_parts(folder, trained_weights(saved))
    elif saved.lora is not None:
        load_peft_state(saved.model, saved.lora, load_file(folder / ADAPTER_WEIGHTS), str(folder))
    else:
        stored = load_model_folder(folder, verify=False).state_dict()
        for name, tensor in saved.model.state_dict().items():
            fill(tensor, stored.pop(name))


def steps_saved(run: Path) -> list[int]:
    """The steps that have a checkpoint, rising."""
    folders = (run / "checkpoints").glob("step-*")
    return sorted(int(f.name[5:]) for f in folders if f.name[5:].isdigit())


def last_good(run: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose every file is as it was saved; a damaged one is named and passed over.

    Raises:
        DamagedError: there are checkpoints, and every one is damaged.
    """
    remove_partial(run / "checkpoints")
    damage: DamagedError | None = None
    for step in reversed(steps_saved(run)):
        folder = step_folder(run, step)
        try:
            verify_folder(folder)
        except DamagedError as error:
            say(f"{error}; going back to the checkpoint before it")
            damage = error
            continue
        return folder
    if damage:
        raise DamagedError("every checkpoint of the run is damaged", where=str(run), hint="begin again in another out")
    return None


def forget_old(run: Path, keep: int, best: int | None, stable: int = 0) -> None:
    """Removes all but the newest ``keep`` checkpoints, the best one, and the newest of the first ``stable`` steps.

    From that last one a run may go on to more steps as if it had been planned so from the start.
    """
    steps = steps_saved(run)
    held = {best, max((step for step in steps if step <= stable), default=None)}
    for step in steps[:-keep]:
        if step not in held:
            shutil.rmtree(step_folder(run, step), ignore_errors=True)


def forget_after(run: Path, step: int) -> None:
    """Removes checkpoints beyond ``step``: the damaged ones that a resume went back behind."""
    for later in steps_saved(run):
        if later > step:
            shutil.rmtree(step_folder(run, later), ignore_errors=True)


def metrics_tail(path: Path, length: int) -> None:
    """Cuts metrics.jsonl to where the checkpoint saw it, so that no step stands in it twice, and half a line off its end."""
    if path.is_file():
        os.truncate(path, path.read_bytes()[:length].rfind(b"\n") + 1)


def last_metrics(path: Path) -> list[dict[str, Any]]:
    """Every whole line of metrics.jsonl.

    Raises:
        DamagedError: a line is not what was written.
    """
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows += [json.loads(line)] if line else []
        except ValueError:
            hint = "remove the line, and run the same command again"
            raise DamagedError("this line is damaged", where=f"{path}:{number}", hint=hint) from None
    return rows
