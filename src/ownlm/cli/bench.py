"""``ownlm bench``: how fast this machine is with a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from .answer import Answer, columns
from .sampling import Adapter, Device, Dtype, ModelName, Weights, load_engine


def serve(
    model: ModelName,
    concurrency: Annotated[str, typer.Option(help="How many requests at once, one after another.", metavar="N,N")] = (
        "1,8,16"
    ),
    prompt_tokens: Annotated[int, typer.Option(help="The length of each prompt.", min=1, metavar="N")] = 128,
    tokens: Annotated[int, typer.Option(help="The length of each answer.", min=2, metavar="N")] = 64,
    weights: Weights = "auto",
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Measure the engine behind 'ownlm serve': throughput, the wait for a first token, the time for each.

    Prompts are random tokens, no two alike, and answers are greedy. Beside them stands the machine's own limit: a step
    reads every weight once, so one answer cannot be faster than memory.
    """
    from ..engine.measure import measure, read_rate
    from ..errors import UserError

    try:
        counts = [int(part) for part in concurrency.split(",")]
    except ValueError:
        counts = []
    if not counts or any(count < 1 for count in counts):
        raise UserError(f"'{concurrency}' is no list of counts", where="--concurrency", hint="such as 1,8,16")
    room = prompt_tokens + tokens
    engine = load_engine(model, dtype, device, adapter, weights=weights, requests=max(counts), tokens=room)
    if room > engine.context:
        message = f"{room:,} tokens of prompt and answer do not fit the model's context of {engine.context:,}"
        raise UserError(message, where="--prompt-tokens", hint="ask for fewer")
    bandwidth = read_rate(engine.device)
    speeds = measure(engine, counts, prompt_tokens=prompt_tokens, tokens=tokens, bandwidth=bandwidth)
    limit = bandwidth / engine.weight_bytes
    data = {
        "model": model,
        "weights": engine.weights,
        "weight_bytes": engine.weight_bytes,
        "bandwidth_bytes_per_second": bandwidth,
        "limit_tokens_per_second": limit,
        "speeds": [asdict(speed) for speed in speeds],
    }
    rows = [("requests", "tokens/s", "prompt tokens/s", "first token", "each token", "of bandwidth")]
    for speed in speeds:
        rows.append(
            (
                str(speed.requests),
                f"{speed.tokens_per_second:,.1f}",
                f"{speed.prompt_tokens_per_second:,.0f}",
                f"{1e3 * speed.first_token:,.0f} ms (slowest {1e3 * speed.first_token_slowest:,.0f})",
                f"{1e3 * speed.token:,.1f} ms",
                f"{speed.bandwidth_share:.0%}",
            )
        )
    text = (
        f"{model}: {engine.weight_bytes / 1e6:,.0f} MB of weights ({engine.weights}); "
        f"memory reads {bandwidth / 1e9:.1f} GB/s, so one answer gets at most {limit:,.0f} tokens/s\n\n{columns(rows)}"
    )
    return Answer(data, text)
