"""Memory of a training process: how much a micro-batch takes, and keeping pages that will be needed again."""

from __future__ import annotations

import ctypes
from contextlib import suppress

import torch

from ..model.config import ModelConfig
from .allocator import allocator

# On a CPU more tokens at once only cost memory: the matrix units are full well before this.
CPU_MICRO_BATCH_TOKENS = 2048


def prepare_memory(device: torch.device) -> None:
    """What a training process does once, before there is a model.

    A step frees and takes the same gigabyte again, and each time the kernel would hand out zeroed pages one fault at a
    time: a quarter of a GPT-2 step on two cores. On a CPU tensors go into memory of our own, which keeps them (see
    allocator.py); glibc is asked to keep what else is freed. Elsewhere than on glibc that does nothing.
    """
    if device.type == "cpu":
        allocator()
    # The two options' numbers are mallopt's own (malloc.h): M_MMAP_MAX and M_TRIM_THRESHOLD.
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)
        mallopt(-1, -1)


def release_freed_pages(device: torch.device) -> None:
    """Gives freed memory back to the system: a run's result is made in what is left."""
    if device.type == "cpu" and (own := allocator()) is not None:
        own.release()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def auto_micro_batch_tokens(config: ModelConfig, batch_tokens: int, device: torch.device) -> int:
    """Tokens to hold at once: what fills the device, at most a whole batch."""
    if device.type != "cuda":
        return min(batch_tokens, CPU_MICRO_BATCH_TOKENS)
    free, _ = torch.cuda.mem_get_info(device)
    fits = int(0.5 * free / activation_bytes_per_token(config))
    return max(1024, min(batch_tokens, fits // 1024 * 1024))


def activation_bytes_per_token(config: ModelConfig) -> int:
    """About what the backward pass keeps of one token, in bfloat16: inputs of every product, norms and activations."""
    inner = config.feedforward_width * (4 if config.gated else 2)
    per_layer = 8 * config.width + 2 * sum(config.qkv_widths) + inner
    return 2 * (config.layers * per_layer + 4 * config.width)
