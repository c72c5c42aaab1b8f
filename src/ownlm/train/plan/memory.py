"""The most memory that a run holds at once, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...model.config import ModelConfig
from ...model.quantized import block_weights, quantized_bytes
from ..config import TrainConfig
from ..memory import activation_bytes_per_token
from .probe import Probe

# Bytes that a parameter's optimizer state takes.
STATES: Mapping[tuple[str, str], float] = {
    ("adamw", "float32"): 8.0,
    # Two bytes, and a float32 scale for each block of 256 of both moments.
    ("adamw", "eight_bit"): 2.0 + 8 / 256,
    ("muon", "float32"): 4.0,
    ("muon", "eight_bit"): 1.0 + 4 / 256,
}
# What a CPU's allocator holds beyond what is in use: freed blocks of other sizes than those asked for next.
CPU_SLACK = 1.06
# The same of CUDA's caching allocator, by its own figures for reserved and allocated memory.
CUDA_SLACK = 1.08


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for; the most at once is their sum, as ``step`` is what a step adds at its worst moment.

    Attributes:
        process: the program and its libraries, before there is a model.
        weights: all of them, trained or frozen, as this worker holds them.
        optimizer: its state.
        step: gradients and activations, at the worst moment of a step.
        slack: what the allocator holds beyond that.
    """

    process: int
    weights: int
    optimizer: int
    step: int
    slack: int

    @property
    def total(self) -> int:
        """The most at once."""
        return self.process + self.weights + self.optimizer + self.step + self.slack


def weight_bytes(config: TrainConfig, shape: ModelConfig, trained: int, compute: torch.dtype) -> int:
    """Trained weights are float32; a frozen base is what it computes in, or what it is quantized to."""
    if config.adapter is None:
        return 4 * shape.parameters()
    kind = config.adapter.quantizes
    if kind is None:
        return 4 * trained + compute.itemsize * shape.parameters()
    few = quantized_bytes(shape, kind, config.adapter.double_quantize)
    return 4 * trained + few + compute.itemsize * (shape.parameters() - block_weights(shape))


def optimizer_bytes(config: TrainConfig, trained: int) -> int:
    """The optimizer's state of the trained parameters."""
    return round(STATES[config.optimizer.kind, config.optimizer.states] * trained)


def step_bytes(probe: Probe, layers: int, gradients: int, micro_batches: int, recomputed: int, block_input: int) -> int:
    """What a step adds at its worst moment.

    The loss is there when every layer keeps its activations; from then on each layer that is done frees its own and
    leaves its gradient. With several micro-batches the gradients of those before are there all along.

    Args:
        probe: one and two of the layers, measured.
        layers: the model's.
        gradients: bytes of all gradients.
        micro_batches: in a step.
        recomputed: layers that keep only their input and are computed again.
        block_input: bytes of that input.
    """
    more, per_layer = layers - 1, probe.layer_kept
    spared = min(recomputed, layers) * max(0, per_layer - block_input)
    kept = probe.one.kept + more * per_layer - spared
    # A layer that is computed again keeps everything for that while.
    again = per_layer if recomputed else 0
    layer_gradient = 4 * (probe.trained[1] - probe.trained[0])
    at_loss = probe.one.loss_peak + more * per_layer - spared
    working = max(0, probe.one.backward_peak - probe.one.kept) + again
    in_backward = max(kept + working, kept + working + more * (layer_gradient - per_layer))
    before = gradients if micro_batches > 1 else 0
    return max(before + at_loss, before + in_backward, gradients)


def step_bytes_by_arithmetic(shape: ModelConfig, micro_batch_tokens: int, gradients: int, micro_batches: int) -> int:
    """The same where no layer can be measured: every kept tensor of a block, and a chunk of logits."""
    activations = activation_bytes_per_token(shape) * micro_batch_tokens
    head = 4 * shape.vocab_size * shape.width if shape.head in ("lm", "masked") else 0
    before = gradients if micro_batches > 1 else 0
    return max(before + activations + head, gradients + activations // max(1, shape.layers))


def with_slack(process: int, weights: int, optimizer: int, step: int, device: torch.device) -> Memory:
    """The whole, with what the device's allocator holds besides."""
    share = (CUDA_SLACK if device.type == "cuda" else CPU_SLACK) - 1
    # On a GPU the process itself is elsewhere.
    process = 0 if device.type == "cuda" else process
    return Memory(process, weights, optimizer, step, round(share * (weights + optimizer + step)))
