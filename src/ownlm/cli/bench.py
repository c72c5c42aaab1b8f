"""``ownlm bench``: how fast this machine is with a model, or a running server."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from .answer import Answer, columns
from .sampling import Adapter, Device, Dtype, Weights, load_engine

MaybeModel = Annotated[
    str | None,
    typer.Argument(
        help="A folder, hf:ORG/NAME, a .gguf file, or a name from 'ownlm models'; with --url what the server calls it, "
        "else the first that it lists.",
        metavar="[MODEL]",
        show_default=False,
    ),
]


def serve(
    model: MaybeModel = None,
    concurrency: Annotated[str, typer.Option(help="How many requests at once, one after another.", metavar="N,N")] = (
        "1,8,16"
    ),
    prompt_tokens: Annotated[int, typer.Option(help="The length of each prompt.", min=1, metavar="N")] = 128,
    tokens: Annotated[int, typer.Option(help="The length of each answer.", min=2, metavar="N")] = 64,
    url: Annotated[
        str | None,
        typer.Option(help="Measure this running server instead, by OpenAI's API.", metavar="http://HOST:PORT"),
    ] = None,
    key: Annotated[str | None, typer.Option(help="The server's key; else $OWNLM_API_KEY.", show_default=False)] = None,
    weights: Weights = "auto",
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Measure the engine behind 'ownlm serve': throughput, the wait for a first token, the time for each.

    Prompts are random, no two alike, and answers are greedy. Beside them stands the machine's own limit: a step reads
    every weight once, so one answer cannot be faster than memory. With --url, a running server is measured over HTTP: ours,
    or any other that speaks OpenAI's API and streams.
    """
    from ..errors import UserError

    try:
        counts = [int(part) for part in concurrency.split(",")]
    except ValueError:
        counts = []
    if not counts or any(count < 1 for count in counts):
        raise UserError(f"'{concurrency}' is no list of counts", where="--concurrency", hint="such as 1,8,16")
    if url is not None:
        local = {"--weights": weights != "auto", "--adapter": adapter is not None}
        local |= {"--dtype": dtype != "auto", "--device": device != "auto"}
        if wrong := [option for option, given in local.items() if given]:
            raise UserError(f"{wrong[0]} is the server's to choose", where="--url", hint="leave it out")
        return _remote(url, key, model, counts, prompt_tokens, tokens)
    if model is None:
        raise UserError("which model?", where="ownlm bench serve", hint="name one, or a running server with --url")
    if key is not None:
        raise UserError("a key is for a running server", where="--key", hint="name the server with --url")
    return _local(model, counts, prompt_tokens, tokens, load_options=(dtype, device, adapter, weights))


def _local(
    model: str, counts: list[int], prompt_tokens: int, tokens: int, load_options: tuple[str, str, str | None, str]
) -> Answer:
    from ..engine.measure import measure, read_rate
    from ..errors import UserError

    dtype, device, adapter, weights = load_options
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


def _remote(url: str, key: str | None, model: str | None, counts: list[int], prompt_tokens: int, tokens: int) -> Answer:
    from ..serve.speed import Remote, measure_remote

    remote = Remote(url, key or os.environ.get("OWNLM_API_KEY", "").strip() or None)
    name = model or remote.model()
    speeds = measure_remote(remote, name, counts, prompt_tokens=prompt_tokens, tokens=tokens)
    rows = [("requests", "tokens/s", "prompt tokens/s", "first token", "each token", "answer")]
    for speed in speeds:
        rows.append(
            (
                str(speed.requests),
                f"{speed.tokens_per_second:,.1f}",
                f"{speed.prompt_tokens_per_second:,.0f}",
                f"{1e3 * speed.first_token:,.0f} ms (p95 {1e3 * speed.first_token_p95:,.0f})",
                f"{1e3 * speed.token:,.1f} ms (p95 {1e3 * speed.token_p95:,.1f})",
                f"{speed.tokens:,.0f} tokens",
            )
        )
    text = f"{name} at {url}; prompts of {speeds[-1].prompt_tokens:,.0f} tokens\n\n{columns(rows)}"
    return Answer({"model": name, "url": url, "speeds": [asdict(speed) for speed in speeds]}, text)
