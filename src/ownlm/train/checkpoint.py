"""Training checkpoints: a model folder (or a PEFT adapter) plus everything that makes the next step the same step.

    checkpoints/step-N/
        model.safetensors, config.json, tokenizer...     or adapter_model.safetensors, adapter_config.json
        optimizer.safetensors                            the optimizer's state, by parameter name
        training.json                                    step, best, ledger, where metrics.jsonl stood
        checksums.json

No generator's state is among it: randomness is a function of (seed, step), so there is none to lose.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ..errors import DamagedError
from ..files import new_folder, read_json, remove_partial, verify_folder, write_json
from ..model.adapters import LoraConfig, load_peft_state, peft_state
from ..model.checkpoint import load_model_folder, save_tensors, write_model_files
from ..model.transformer import Transformer
from ..tokens.tokenizer import Tokenizer
from .optimizer import Named, load_optimizer_state, optimizer_state

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
OPTIMIZER = "optimizer.safetensors"
TRAINING = "training.json"


@dataclass
class TrainingState:
    """Where a run stands.

    Attributes:
        step: updates made.
        tokens: tokens read by the model, context included.
        trained_tokens: targets with a share in the loss.
        best_step: the step with the lowest validation loss, and that loss.
        since_best: validations since then.
        ledger: the ledger as it stood.
        metrics_bytes: the length of metrics.jsonl; what stands after it belongs to steps not saved.
        data: fingerprints of the data, so that a run never resumes on other data.
        stopped: why the run ended before its last step, if it did.
        seconds: time spent training so far.
    """

    step: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    since_best: int = 0
    ledger: dict[str, Any] = field(default_factory=dict)
    metrics_bytes: int = 0
    data: list[str] = field(default_factory=list)
    stopped: str | None = None
    seconds: float = 0.0


@dataclass
class Saved:
    """What a checkpoint is made of."""

    model: Transformer
    optimizer: torch.optim.Optimizer
    named: Named
    tokenizer: Tokenizer
    lora: LoraConfig | None
    base: str


def step_folder(run: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return run / "checkpoints" / f"step-{step}"


def write_checkpoint(run: Path, saved: Saved, state: TrainingState) -> Path:
    """Saves the run as it stands, whole or not at all.

    Raises:
        StorageError: the disk is full; earlier checkpoints stay.
    """
    folder = step_folder(run, state.step)
    with new_folder(folder) as new:
        if saved.lora is not None:
            write_adapter(new, saved)
        else:
            write_model_files(new, saved.model.state_dict(), saved.model.config, tokenizer=saved.tokenizer)
        save_tensors(optimizer_state(saved.optimizer, saved.named), new / OPTIMIZER)
        write_json(new / TRAINING, asdict(state))
    return folder


def write_adapter(folder: Path, saved: Saved) -> None:
    """Writes the adapter's two files as PEFT has them."""
    assert saved.lora is not None
    tensors, config = peft_state(saved.model, saved.lora, saved.base)
    save_tensors({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / ADAPTER_WEIGHTS)
    write_json(folder / ADAPTER_CONFIG, config)


def read_checkpoint(folder: Path, saved: Saved) -> TrainingState:
    """Puts the model and the optimizer back as they were and returns where the run stood."""
    read_weights(folder, saved)
    load_optimizer_state(saved.optimizer, saved.named, load_file(folder / OPTIMIZER), str(folder))
    return TrainingState(**read_json(folder / TRAINING))


def read_weights(folder: Path, saved: Saved) -> None:
    """Puts the weights back, bit for bit."""
    if saved.lora is not None:
        load_peft_state(saved.model, saved.lora, load_file(folder / ADAPTER_WEIGHTS), str(folder))
        return
    stored = load_model_folder(folder, verify=False).state_dict()
    with torch.no_grad():
        for name, tensor in saved.model.state_dict().items():
            tensor.copy_(stored.pop(name))


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


def forget_old(run: Path, keep: int, best: int | None) -> None:
    """Removes all but the newest ``keep`` checkpoints and the best one."""
    for step in steps_saved(run)[:-keep]:
        if step != best:
            shutil.rmtree(step_folder(run, step), ignore_errors=True)


def forget_after(run: Path, step: int) -> None:
    """Removes checkpoints beyond ``step``: the damaged ones that a resume went back behind."""
    for later in steps_saved(run):
        if later > step:
            shutil.rmtree(step_folder(run, later), ignore_errors=True)


def metrics_tail(path: Path, length: int) -> None:
    """Cuts metrics.jsonl to where the checkpoint saw it, so that no step stands in it twice."""
    if path.is_file() and path.stat().st_size > length:
        with path.open("rb+") as file:
            file.truncate(length)


def last_metrics(path: Path) -> list[dict[str, Any]]:
    """Every whole line of metrics.jsonl."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1] if line]
