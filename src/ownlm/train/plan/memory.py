"""The most memory that a run holds at once, part by part."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...model.config import ModelConfig
from ...model.quantized import block_weights, quantized_bytes
from ..allocator import allocator_library
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
# What is held beyond the tensors in use, as a share of a step's: with the allocator of our own (allocator.py) what fits into no
# hole; without it holes in glibc's heap; on a GPU what CUDA's caching allocator keeps, by its own figures.
OWN_SLACK, SYSTEM_SLACK, CUDA_SLACK = 0.03, 0.40, 0.08
# And besides, on a CPU: libraries that are loaded in the first step, and what kernels work in.
LIBRARIES = 85_000_000


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

    The loss is there when every layer keeps its activations; from then on each layer, from the last to the first, has all
    of them while it works, then frees them and leaves its gradient. With several micro-batches the gradients of those
    before are there all along, and new ones are added to them.

    Args:
        probe: one and two of the layers, measured.
        layers: the model's.
        gradients: bytes of all gradients.
        micro_batches: in a step.
        recomputed: layers, from the first, that keep only their input and are computed again.
        block_input: bytes of that input.
    """
    per_layer = probe.layer_kept
    kept = [min(block_input, per_layer) if layer < recomputed else per_layer for layer in range(layers)]
    layer_gradient = 4 * (probe.trained[1] - probe.trained[0])
    at_loss = probe.one.loss_peak - per_layer + sum(kept)
    # One layer alone, and beside it what those below keep and those above have left.
    in_backward = [
        probe.one.backward_peak + below + above * layer_gradient
        for below, above in zip(itertools.accumulate(kept[:-1], initial=0), range(layers - 1, -1, -1), strict=True)
    ]
    if micro_batches > 1:
        # What one layer leaves is added, and gone again.
        first = at_loss, *in_backward
        return max(*first, gradients + at_loss, gradients + probe.one.backward_peak + sum(kept[:-1]))
    return max(at_loss, *in_backward, gradients)


def step_bytes_by_arithmetic(shape: ModelConfig, micro_batch_tokens: int, gradients: int, micro_batches: int) -> int:
    """The same where no layer can be measured: every kept tensor of a block, and a chunk of logits."""
    activations = activation_bytes_per_token(shape) * micro_batch_tokens
    head = 4 * shape.vocab_size * shape.width if shape.head in ("lm", "masked") else 0
    before = gradients if micro_batches > 1 else 0
    return max(before + activations + head, gradients + activations // max(1, shape.layers))


def with_slack(process: int, weights: int, optimizer: int, step: int, device: torch.device) -> Memory:
    """The whole, with what the device's allocator holds besides."""
    if device.type == "cuda":
        # The process itself is elsewhere.
        return Memory(0, weights, optimizer, step, round(CUDA_SLACK * (weights + optimizer + step)))
    share = SYSTEM_SLACK if allocator_library() is None else OWN_SLACK
    return Memory(process, weights, optimizer, step, LIBRARIES + round(share * step))
