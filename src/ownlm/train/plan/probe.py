"""One and two layers of a model, trained for a step on this machine: what a layer keeps, and how long it takes.

The code that trains is the code that is measured, so a faster kernel or a leaner one needs no formula changed here.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...model.adapters import attach
from ...model.checkpoint import random_model
from ...model.config import ModelConfig
from ...model.transformer import Transformer
from ...tokens.batch import Batch
from ..config import TrainConfig
from ..objectives import Objective
from ..optimizer import clip_gradients, make_optimizer, trained_parameters

# Larger layers are not run to be measured: making them takes longer than the answer is worth.
MOST_PROBED_PARAMETERS = 300_000_000
TIMES = 3
_SECOND = "ownlm: the second part"


@dataclass(frozen=True)
class Measured:
    """One step of a small model.

    Attributes:
        kept: bytes that wait for the backward pass once the loss is there.
        loss_peak: the most beyond what was there before the step, until the loss was there.
        backward_peak: the same for the backward pass.
        seconds: of forward and backward.
        update_seconds: of clipping and the optimizer.
    """

    kept: int
    loss_peak: int
    backward_peak: int
    seconds: float
    update_seconds: float


@dataclass(frozen=True)
class Probe:
    """Steps of one and of two layers on the same micro-batch."""

    one: Measured
    two: Measured
    tokens: int
    trained: tuple[int, int]

    @property
    def layer_kept(self) -> int:
        """Bytes that one more layer keeps for the backward pass."""
        return max(0, self.two.kept - self.one.kept)

    def seconds(self, layers: int, recomputed: int = 0) -> float:
        """Forward and backward of one micro-batch through so many layers, some of them forward twice."""
        layer = max(self.two.seconds - self.one.seconds, 0.1 * self.one.seconds)
        # Forward is a third of it: one product of three.
        return max(self.one.seconds - layer, 0.0) + (layers + recomputed / 3) * layer


def probe(
    config: TrainConfig, shape: ModelConfig, objective: Objective[Any], batch: Batch, device: torch.device
) -> Probe | None:
    """Measures a micro-batch of the run; None where a layer is too large to be made for it."""
    per_layer = (shape.parameters() - shape.model_copy(update={"layers": 0}).parameters()) // max(1, shape.layers)
    if per_layer + shape.vocab_size * shape.width > MOST_PROBED_PARAMETERS:
        return None
    results, trained = [], []
    for layers in (1, 2):
        model = _small_model(config, shape, layers, device)
        trained.append(sum(p.numel() for _, p in trained_parameters(model)))
        results.append(_measure(config, model, objective, batch))
        del model
        gc.collect()
    return Probe(results[0], results[1], len(batch), (trained[0], trained[1]))


def _small_model(config: TrainConfig, shape: ModelConfig, layers: int, device: torch.device) -> Transformer:
    from ...devices import choose_dtype

    windowed = None if shape.windowed_layers is None else tuple(n for n in shape.windowed_layers if n < layers)
    model = random_model(shape.model_copy(update={"layers": layers, "windowed_layers": windowed}), 0)
    compute = choose_dtype(config.precision, device)
    model = model.to(device=device, dtype=compute if config.adapter else None)
    model.compute_dtype = compute
    if config.adapter is not None:
        attach(model, config.adapter, 0)
    if config.compile is True or (config.compile == "auto" and device.type == "cuda"):
        model.compile_parts()
    return model


def _measure(config: TrainConfig, model: Transformer, objective: Objective[Any], batch: Batch) -> Measured:
    optimizer = make_optimizer(model, config.optimizer)
    parameters = [parameter for _, parameter in trained_parameters(model)]
    batch = batch.to(model.device)
    units = max(objective.units(batch), 1.0)
    model.train()
    kept, loss_peak, backward_peak = _memory(model, parameters, objective, batch, units)
    seconds, updates = [], []
    for _ in range(TIMES):
        began = _now(model.device)
        objective.loss(model, batch, 1.0 / units).backward()
        middle = _now(model.device)
        clip_gradients(parameters, config.optimizer.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(middle - began)
        updates.append(_now(model.device) - middle)
    return Measured(kept, loss_peak, backward_peak, min(seconds), min(updates))


def _memory(
    model: Transformer, parameters: list[Any], objective: Objective[Any], batch: Batch, units: float
) -> tuple[int, int, int]:
    def forward() -> torch.Tensor:
        return objective.loss(model, batch, 1.0 / units)

    # Once before, for what is made only once: compiled parts, kernels, the library's buffers.
    forward().backward()
    for parameter in parameters:
        parameter.grad = None
    gc.collect()
    result = allocations(forward, lambda loss: loss.backward(), model.device)
    for parameter in parameters:
        parameter.grad = None
    return result


def allocations(first: Callable[[], Any], second: Callable[[Any], Any], device: torch.device) -> tuple[int, int, int]:
    """Bytes that ``first`` leaves allocated, the most until then, and the most while ``second`` works on its result.

    All of them beyond what was there before.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        result = first()
        torch.cuda.synchronize(device)
        kept, peak = torch.cuda.memory_allocated(device) - before, torch.cuda.max_memory_allocated(device) - before
        torch.cuda.reset_peak_memory_stats(device)
        second(result)
        torch.cuda.synchronize(device)
        return kept, peak, torch.cuda.max_memory_allocated(device) - before
    # The profiler's library talks on stderr otherwise.
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        result = first()
        with torch.profiler.record_function(_SECOND):
            second(result)
    found = profiler.profiler.kineto_results.events()
    border = next(event.start_ns() for event in found if event.name() == _SECOND)
    held = kept = 0
    peaks = [0, 0]
    for event in sorted((e for e in found if e.name() == "[memory]"), key=lambda event: event.start_ns()):
        held += event.nbytes()
        after = event.start_ns() >= border
        kept = kept if after else held
        peaks[after] = max(peaks[after], held)
    return kept, peaks[0], peaks[1]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
