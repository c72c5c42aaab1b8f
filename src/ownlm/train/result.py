"""A run's result: the best weights, merged and saved, summed up and reported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..devices import machine, peak_memory_bytes
from ..errors import DamagedError, DataError
from ..files import new_folder, read_json, verify_folder, write_json
from ..model.adapters import merge
from ..model.checkpoint import save_state_folder
from ..model.quantized import quantized_layers
from ..model.transformer import Transformer
from ..report.memorisation import memorisation_verdict
from ..report.training import write_training_report
from ..tokens.content import content_hash
from . import checkpoint
from .assessment import assess_result, kept_with_model, write_assessment
from .best import in_words
from .canaries import measure_memorisation
from .config import TrainConfig, plain
from .folder import PLAN, REPORT, SUMMARY, Run, Say, asked
from .loop import Loop
from .memory import release_freed_pages
from .repeats import passes
from .sharding import gathered_all
from .whole import with_adapter

# Of a run's summary, what goes with its model wherever it is copied to; nothing that differs when the run is repeated here.
KEPT = (
    *("steps", "tokens", "trained_tokens", "loss", "val_loss", "val_loss_before", "best_step", "best_by"),
    *("device", "trained_parameters", "ledger"),
)


def finish(config: TrainConfig, folder: Path, loop: Loop, base: Path | None, say: Say) -> Run:
    """The result: the best weights where there was validation, else the last; merged, saved, summed up."""
    workers = loop.workers
    release_freed_pages(loop.device)
    _take_best(config, folder, loop, say)
    assessed, memorised = assess_result(config, loop), _memorised(config, loop, say)
    weights = gathered_all(checkpoint.trained_weights(loop.saved), workers)
    if workers.first:
        write_assessment(folder, assessed)
        _write_result(config, folder, loop, weights, base, memorised, assessed, say)
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
    assessed: Mapping[str, Any],
    say: Say,
) -> None:
    """Writes model, summary and report; weights: the trained ones, whole, by our names."""
    state, shape, dtype = loop.state, loop.model.config, None
    if config.adapter is not None and base is not None:
        model = with_adapter(config, shape, weights, base)
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
        "sources": {name: _content(name) for name in config.data.sources},
        "config": plain(config),
        "metrics": {key: summary[key] for key in KEPT},
        "held_out": kept_with_model(assessed),
    }
    tokenizer = loop.saved.tokenizer
    save_state_folder(weights, shape, folder / "model", tokenizer=tokenizer, dtype=dtype, lineage=lineage)
    write_json(folder / "ledger.json", summary["ledger"])
    write_json(folder / SUMMARY, summary)
    write_training_report(folder)
    say(f"done: {folder / 'model'}; report: {folder / REPORT}")


def _content(source: str) -> str | None:
    """A source's hash; a run is not lost because its data is no longer there at its end."""
    try:
        return content_hash(source)
    except (DataError, DamagedError):
        return None


def _take_best(config: TrainConfig, folder: Path, loop: Loop, say: Say) -> None:
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
        state.best_step, state.best_loss, state.best_value = state.step, losses[-1], None
        if loop.saved.ema is not None:
            loop.saved.ema.take()
        return
    if loop.saved.ema is None:
        checkpoint.read_weights(best, loop.saved)
    else:
        # What was validated were the averages.
        checkpoint.read_averages(best, loop.saved)
        loop.saved.ema.take()
    say(f"taking the weights of step {state.best_step}, the best by {in_words(config.validate_.best)}")


def _stored_dtype(base: Path | None) -> torch.dtype | None:
    if base is None:
        return None
    name = read_json(base / "config.json").get("dtype") or read_json(base / "config.json").get("torch_dtype")
    return getattr(torch, str(name), None)


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
        "asked": asked(config),
        "tokens": state.tokens,
        "trained_tokens": state.trained_tokens,
        "loss": steps[-1]["loss"] if steps else None,
        "val_loss": state.best_loss,
        "val_loss_before": validations[0] if validations else None,
        "best_step": state.best_step,
        "best_by": config.validate_.best,
        "stopped": state.stopped,
        "tokens_per_second": speeds[len(speeds) // 2] if speeds else None,
        "seconds": round(state.seconds, 1),
        "device": _device(loop.device, loop.workers.count),
        "peak_memory_bytes": peak_memory_bytes(loop.device),
        "planned": _planned(config, folder),
        "parameters": count_parameters(loop.model),
        "trained_parameters": sum(p.numel() for _, p in loop.saved.named),
        "passes": passes(loop.data, loop.steps),
        "ledger": loop.ledger.as_json(),
        "ownlm": __version__,
    }


def _device(device: torch.device, workers: int) -> str:
    """What it was trained on: the processor's name, and how many processes shared the work."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine().cpu
    return f"{workers} x {name}" if workers > 1 else name


def _planned(config: TrainConfig, folder: Path) -> dict[str, Any] | None:
    """What 'ownlm plan' said of this run, if it was asked; a plan of other settings is none of it."""
    path = folder / PLAN
    if not path.is_file():
        return None
    plan = read_json(path)
    if "config" in plan and _what_matters(plan["config"]) != _what_matters(plain(config)):
        return None
    return {key: plan.get(key) for key in ("memory_bytes", "tokens_per_second", "hours", "parameters")}


def _what_matters(config: dict[str, Any]) -> dict[str, Any]:
    """Of a config, what decides memory and speed."""
    return {
        key: value
        for key, value in config.items()
        if key not in ("out", "seed", "track", "validate", "evaluate", "checkpoint")
    }


def count_parameters(model: Transformer) -> int:
    """How many numbers the model has, those of quantized weights too."""
    few = sum(layer.outputs * layer.inputs for layer in quantized_layers(model).values())
    return few + sum(p.numel() for p in model.parameters())
