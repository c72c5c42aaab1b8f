"""``ownlm serve``."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Annotated, Any

import typer

from .answer import Answer
from .keys import STORE
from .sampling import Adapter, Device, Dtype, ModelName, Weights

# The environment variable that holds a key, so that it stands in no list of processes.
KEY = "OWNLM_API_KEY"
INTERRUPTED = 130


def serve(
    context: typer.Context,
    model: ModelName,
    host: Annotated[str, typer.Option(help="The address to listen on; others than this machine's own need a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port; 0 takes any free one.", min=0, max=65535)] = 8000,
    store: Annotated[str | None, STORE] = None,
    api_key: Annotated[
        list[str] | None,
        typer.Option(help=f"A key that may do everything; may be repeated. Better put it into ${KEY}.", metavar="KEY"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="What clients call the model.")] = None,
    max_sequences: Annotated[int, typer.Option(help="Answers worked on at once.", min=1)] = 16,
    max_queue: Annotated[int, typer.Option(help="Answers accepted and unfinished; more get 429.", min=1)] = 256,
    timeout: Annotated[float, typer.Option(help="Seconds a request may take, waiting included.")] = 600,
    drain: Annotated[float, typer.Option(help="Seconds accepted requests have once it is told to stop.")] = 60,
    max_body: Annotated[int, typer.Option(help="The most bytes of a request.", min=1024)] = 4 * 2**20,
    max_connections: Annotated[int, typer.Option(help="Connections open at once; more get 503.", min=1)] = 2048,
    read_timeout: Annotated[
        float, typer.Option(help="Seconds within which a request's headers, and its body, must have come.")
    ] = 30,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name that a server without keys answers to.", metavar="NAME")
    ] = None,
    keep_conversations: Annotated[
        bool, typer.Option("--keep-conversations", help="Write conversations to the store, personal data masked.")
    ] = False,
    keep_personal_data: Annotated[
        bool, typer.Option("--keep-personal-data", help="Write them to the store as they are.")
    ] = False,
    retention: Annotated[float | None, typer.Option(help="Remove stored conversations after so many days.")] = None,
    log_messages: Annotated[
        bool, typer.Option("--log-messages", help="Let the log hold what was said, not counts alone.")
    ] = False,
    weights: Weights = "auto",
    adapter: Adapter = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Serve a model over HTTP, as clients of OpenAI's expect it.

    It prints one line with its address when it is ready. SIGTERM and Ctrl-C let accepted requests finish first.
    """
    from ..errors import MissingExtra, UserError

    try:
        from ..serve.config import ServeConfig
        from ..serve.start import serve as serve_model
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("fastapi", "starlette", "uvicorn", "h11", "prometheus_client"):
            raise
        raise MissingExtra("the server", "serve") from None
    from ..config import validate

    values = {"host": host, "port": port, "name": name, "hosts": tuple(allow_host or ())}
    values |= {"max_sequences": max_sequences, "max_pending": max_queue, "timeout": timeout, "drain": drain}
    values |= {"max_body": max_body, "max_connections": max_connections, "read_timeout": read_timeout}
    values |= {"log_messages": log_messages, "retention": retention, "weights": weights}
    config = validate(ServeConfig, values | {"keep_conversations": keep_conversations})
    keys = [key.strip() for key in (*(api_key or ()), os.environ.get(KEY, "")) if key.strip()]
    if len(keys) < len(api_key or ()):
        raise UserError("a key is empty", where="--api-key", hint=f"leave it out, or put one into ${KEY}")
    as_json = bool((context.obj or {}).get("--json"))

    def ready(address: str, served: Any) -> None:
        _say_ready(address, served, as_json)

    options: dict[str, Any] = {"adapter": adapter, "dtype": dtype, "device": device, "redact": not keep_personal_data}
    ended_by = serve_model(model, config, api_keys=keys, store=store, ready=ready, **options)
    code = INTERRUPTED if ended_by == signal.SIGINT else 0
    return Answer({}, "Stopped", printed=True, exit_code=code)


def _say_ready(address: str, served: Any, as_json: bool) -> None:
    """One line: on stderr for people, on stdout as the one object of --json, which nobody could wait for to the end."""
    if as_json:
        data = {"address": address, "model": served.name, "capabilities": served.capabilities}
        print(json.dumps({**data, "context": served.context, "pid": os.getpid()}), file=sys.__stdout__, flush=True)
    else:
        print(f"Serving {served.name} at {address} (Ctrl-C stops)", file=sys.stderr, flush=True)
