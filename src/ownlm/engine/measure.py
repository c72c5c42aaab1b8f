"""How fast an engine answers: tokens a second, the wait for the first, the time for each, and what the machine allows."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .engine import Engine
from .requests import SamplingOptions

# Far beyond any cache, so that it is memory that is read.
READ_BYTES = 1 << 29


@dataclass(frozen=True)
class Speed:
    """So many requests at once, all of the same size.

    Attributes:
        requests: how many.
        tokens_per_second: of all answers together, reading the prompts included.
        prompt_tokens_per_second: while prompts were read and no answer had more than its first token.
        first_token: seconds until an answer's first token: the median.
        first_token_slowest: the longest.
        token: seconds from one token of an answer to its next: of each answer the mean, of all the median.
        bandwidth_share: of what the machine reads a second, how much the weights alone took of it while all answered.
    """

    requests: int
    tokens_per_second: float
    prompt_tokens_per_second: float
    first_token: float
    first_token_slowest: float
    token: float
    bandwidth_share: float


def read_rate(device: torch.device, repeats: int = 5) -> float:
    """Bytes of memory that the device reads a second: the best of several sums of half a gigabyte."""
    values = torch.zeros(READ_BYTES // 4, device=device)
    best = float("inf")
    for _ in range(repeats):
        began = time.perf_counter()
        float(values.sum())
        best = min(best, time.perf_counter() - began)
    return READ_BYTES / best


def measure(
    engine: Engine,
    requests: Sequence[int],
    *,
    prompt_tokens: int,
    tokens: int,
    bandwidth: float,
    seed: int = 0,
) -> list[Speed]:
    """Measures each count of requests at once, after a round that nobody counts.

    Args:
        engine: that nobody else uses meanwhile; without drafts, since random text repeats as no other does.
        requests: the counts.
        prompt_tokens: the length of each prompt, of random tokens, no two alike.
        tokens: the length of each answer, at least 2.
        bandwidth: bytes that the machine reads a second (``read_rate``).
        seed: of the prompts.

    Raises:
        UserError: prompt and answer do not fit the model's context.
    """
    random_ids = random.Random(seed)
    vocab = engine.tokenizer.vocab_size

    def prompts(count: int) -> list[list[int]]:
        return [[random_ids.randrange(vocab) for _ in range(prompt_tokens)] for _ in range(count)]

    _round(engine, prompts(1), min(4, tokens))
    speeds = []
    for count in requests:
        asked = prompts(count)
        began = time.perf_counter()
        times = _round(engine, asked, tokens)
        first = [answer[0] - began for answer in times]
        step = statistics.median((answer[-1] - answer[0]) / (tokens - 1) for answer in times)
        whole = max(answer[-1] for answer in times) - began
        speeds.append(
            Speed(
                requests=count,
                tokens_per_second=count * tokens / whole,
                prompt_tokens_per_second=count * prompt_tokens / max(first),
                first_token=statistics.median(first),
                first_token_slowest=max(first),
                token=step,
                bandwidth_share=engine.weight_bytes / step / bandwidth,
            )
        )
    return speeds


def _round(engine: Engine, prompts: Sequence[Sequence[int]], tokens: int) -> list[list[float]]:
    """When each token of each answer came."""
    options = SamplingOptions(temperature=0, max_tokens=tokens, ignore_eos=True)
    times: dict[int, list[float]] = {engine.submit(prompt, options): [] for prompt in prompts}
    while engine.running or engine.waiting:
        events = engine.step()
        now = time.perf_counter()
        for event in events:
            if event.error is not None:
                raise event.error
            times[event.request].append(now)
    return list(times.values())
