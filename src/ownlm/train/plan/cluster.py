"""What a model would need on machines that are not here, with the arithmetic shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...errors import UserError, nearest
from ...model.config import ModelConfig
from ...units import format_bytes, format_count, format_seconds
from ..memory import activation_bytes_per_token


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes:
        name: as people call it.
        memory: bytes.
        flops: dense bfloat16 operations a second, by its maker's data sheet.
    """

    name: str
    memory: int
    flops: float


GPUS = {
    "a100": Gpu("A100 80 GB", 80 * 10**9, 312e12),
    "h100": Gpu("H100 80 GB", 80 * 10**9, 989e12),
    "h200": Gpu("H200 141 GB", 141 * 10**9, 989e12),
    "b200": Gpu("B200 180 GB", 180 * 10**9, 2250e12),
    "l40s": Gpu("L40S 48 GB", 48 * 10**9, 362e12),
    "rtx4090": Gpu("RTX 4090 24 GB", 24 * 10**9, 165e12),
}
# The share of the peak that large public runs reached (PaLM 46%, Chowdhery et al. 2022; Llama 3 38 to 43%, 2024).
UTILISATION = 0.40
# Of a GPU's memory, what weights, states and activations may take; the rest is for exchanges and the allocator.
USABLE = 0.85
PER_MACHINE = 8


@dataclass(frozen=True)
class Cluster:
    """The machines that a run needs, and how that was worked out.

    Attributes:
        gpus: how many; none where no number of them holds it.
        fewest: the fewest that hold it, in whole machines of eight.
        seconds: what the run takes on them.
        bytes_per_gpu: what each holds; fits is whether it can.
        arithmetic: a line for each step of the sum.
    """

    gpus: int
    fewest: int
    seconds: float
    bytes_per_gpu: int
    fits: bool
    arithmetic: tuple[str, ...]


def find_gpu(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        UserError: unknown; names the nearest.
    """
    if name.lower() not in GPUS:
        raise UserError(f"unknown GPU '{name}'", where="--gpu", hint=nearest(name, GPUS))
    return GPUS[name.lower()]


@dataclass(frozen=True)
class Held:
    """What the GPUs hold between them, in bytes, and how many parameters are trained."""

    weights: int
    gradients: int
    optimizer: int
    trained: int

    @classmethod
    def of_all(cls, parameters: int) -> Held:
        """Every parameter trained by AdamW in float32."""
        return cls(4 * parameters, 4 * parameters, 8 * parameters, parameters)

    def sum(self, parameters: int) -> str:
        """The sum as a line."""
        whole = format_bytes(self.weights + self.gradients + self.optimizer)
        if self == Held.of_all(parameters):
            each = f"16 bytes x {format_count(parameters)}"
            return f"weights, gradients and Adam's two moments in float32: {each} = {whole}, spread over all GPUs"
        parts = f"{format_bytes(self.weights)} + {format_bytes(self.gradients)} + {format_bytes(self.optimizer)}"
        what = f"of {format_count(self.trained)} trained parameters" if self.trained < parameters else "in all"
        return f"weights, and gradients and optimizer states {what}: {parts} = {whole}, spread over all GPUs"


def size_cluster(
    shape: ModelConfig,
    tokens: float,
    micro_batch_tokens: int,
    length: int,
    gpu: Gpu,
    gpus: int | None = None,
    held: Held | None = None,
) -> Cluster:
    """What training a model would need: weights and states spread over all GPUs (FSDP2).

    Args:
        shape: the model's.
        tokens: of the whole run.
        micro_batch_tokens: on each GPU at once.
        length: of a document, for attention's share.
        gpu: the kind.
        gpus: how many there are; None is the fewest that hold it.
        held: what is kept of weights and states; None is what AdamW keeps of all parameters.
    """
    parameters = shape.parameters()
    held = held or Held.of_all(parameters)
    states = held.weights + held.gradients + held.optimizer
    largest = held.weights // max(1, shape.layers)
    kept = 2 * shape.width * shape.layers * micro_batch_tokens
    one_block = activation_bytes_per_token(shape) // max(1, shape.layers) * micro_batch_tokens
    working = largest + kept + one_block
    usable = USABLE * gpu.memory
    room = usable - working
    fewest = math.ceil(states / room) if room > 0 else 0
    whole = fewest if fewest <= PER_MACHINE else -(-fewest // PER_MACHINE) * PER_MACHINE
    count = gpus or max(1, whole)
    # Two thirds are the forward pass and the gradients of what it read; the last third are those of the weights.
    operations = shape.flops_per_token(length) * (2 + held.trained / max(parameters, held.trained)) / 3
    fewer = "" if held.trained >= parameters else " (frozen weights have no gradients)"
    rate = count * gpu.flops * UTILISATION
    seconds = tokens * operations / rate
    lines = [
        f"parameters: {parameters:,}",
        held.sum(parameters),
        f"on each GPU besides: one block gathered {format_bytes(largest)}, every block's input of "
        f"{micro_batch_tokens:,} tokens {format_bytes(kept)} (the rest is computed again), one block at work "
        f"{format_bytes(one_block)}",
        f"of {gpu.name}, {USABLE:.0%} is usable: {format_bytes(round(usable))}; left for the spread part: "
        f"{format_bytes(round(max(room, 0)))}",
    ]
    if room <= 0:
        lines.append("nothing is left for it: smaller micro-batches, or a split of single blocks, would be needed")
        return Cluster(0, 0, math.inf, round(working), False, tuple(lines))
    machines = f", {whole} = {whole // PER_MACHINE} machines of {PER_MACHINE}" if whole > PER_MACHINE else ""
    power = f"{rate / 1e15:,.1f} PFLOP/s" if rate >= 1e15 else f"{rate / 1e12:,.0f} TFLOP/s"
    lines += [
        f"{format_bytes(states)} / {format_bytes(round(room))} = {gpus_of(fewest)} at least{machines}",
        f"{format_count(tokens)} tokens x {operations:.3g} operations a token{fewer} = {tokens * operations:.3g} operations",
        f"{gpus_of(count)} x {gpu.flops / 1e12:,.0f} TFLOP/s x {UTILISATION:.0%} = {power}: {format_seconds(seconds)}",
    ]
    each = round(states / count + working)
    return Cluster(count, whole, seconds, each, each <= usable, tuple(lines))


def gpus_of(count: int) -> str:
    """1 GPU, 2 GPUs."""
    return f"{count:,} GPU{'' if count == 1 else 's'}"
