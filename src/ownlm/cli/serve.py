"""``ownlm serve``."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ..errors import MissingExtra, UserError
from .answer import Answer
from .sampling import Adapter, Device, DraftModel, Dtype, ModelName, Weights

# The environment variable that holds a key, so that it stands in no list of processes.
KEY = "OWNLM_API_KEY"
INTERRUPTED = 130

Host = Annotated[str, typer.Option(help="The address to listen on; others than this machine's own need a key.")]
Port = Annotated[int, typer.Option(help="The port; 0 takes any free one.", min=0, max=65535)]
GivenKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key", help=f"A key that may do everything; may be repeated. Better put it into ${KEY}.", metavar="KEY"
    ),
]
StoreURL = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="The store of keys, conversations and feedback: sqlite:///FILE or postgresql://...; else store.db in "
        "$OWNLM_HOME, where there is one.",
        metavar="URL",
    ),
]
Name = Annotated[str | None, typer.Option(help="What clients call the model.")]
Lora = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        help="A LoRA adapter that clients choose as the model NAME; may be repeated, all share one base.",
        metavar="NAME=DIR",
    ),
]
LoraFolder = Annotated[
    str | None,
    typer.Option(
        "--lora-folder",
        help="A folder whose adapters may be loaded over HTTP while it runs, with a key of the role admin.",
        metavar="DIR",
    ),
]
MaxSequences = Annotated[int, typer.Option(help="Answers worked on at once.", min=1)]
CacheTokens = Annotated[
    int | None, typer.Option(help="Tokens that the cache holds; its memory is taken at the start.", metavar="N")
]
SharedPrefill = Annotated[
    int | None,
    typer.Option(
        "--shared-prefill-tokens",
        help="Tokens of prompts read in a step in which answers go on; 64 on a CPU. Fewer disturb others less.",
        min=1,
        metavar="N",
    ),
]
MaxQueue = Annotated[int, typer.Option(help="Answers accepted and unfinished; more get 429.", min=1)]
Timeout = Annotated[float, typer.Option(help="Seconds a request may take, waiting included.")]
Drain = Annotated[float, typer.Option(help="Seconds accepted requests have once it is told to stop.")]
MaxBody = Annotated[int, typer.Option(help="The most bytes of a request.", min=1024)]
MaxConnections = Annotated[int, typer.Option(help="Connections open at once; more get 503.", min=1)]
ReadTimeout = Annotated[
    float, typer.Option(help="Seconds within which a request's headers, and its body, must have come.")
]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--allow-host", help="A further name that a server without keys answers to.", metavar="NAME"),
]
Keep = Annotated[
    bool, typer.Option("--keep-conversations", help="Write conversations to the store, personal data masked.")
]
KeepAll = Annotated[bool, typer.Option("--keep-personal-data", help="Write them to the store as they are.")]
Retention = Annotated[float | None, typer.Option(help="Remove stored conversations after so many days.")]
LogMessages = Annotated[bool, typer.Option("--log-messages", help="Let the log hold what was said, not counts alone.")]


def serve(
    context: typer.Context,
    model: ModelName,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    store: StoreURL = None,
    api_key: GivenKeys = None,
    name: Name = None,
    max_sequences: MaxSequences = 16,
    cache_tokens: CacheTokens = None,
    shared_prefill_tokens: SharedPrefill = None,
    max_queue: MaxQueue = 256,
    timeout: Timeout = 600,
    drain: Drain = 60,
    max_body: MaxBody = 4 * 2**20,
    max_connections: MaxConnections = 2048,
    read_timeout: ReadTimeout = 30,
    allow_host: Hosts = None,
    keep_conversations: Keep = False,
    keep_personal_data: KeepAll = False,
    retention: Retention = None,
    log_messages: LogMessages = False,
    weights: Weights = "auto",
    draft_model: DraftModel = None,
    adapter: Adapter = None,
    lora: Lora = None,
    lora_folder: LoraFolder = None,
    dtype: Dtype = "auto",
    device: Device = "auto",
) -> Answer:
    """Serve a model over HTTP, as clients of OpenAI's expect it.

    It prints one line with its address when it is ready. SIGTERM and Ctrl-C let accepted requests finish first.
    """
    run = _library()
    keys = _keys(api_key)
    settings = {"host": host, "port": port, "name": name, "hosts": tuple(allow_host or ())}
    settings |= {"max_sequences": max_sequences, "max_pending": max_queue, "timeout": timeout, "drain": drain}
    settings |= {"max_body": max_body, "max_connections": max_connections, "read_timeout": read_timeout}
    settings |= {"log_messages": log_messages, "retention": retention, "keep_conversations": keep_conversations}
    settings |= {"weights": weights, "cache_tokens": cache_tokens, "draft_model": draft_model}
    settings |= {"shared_prefill_tokens": shared_prefill_tokens, "lora_folder": lora_folder}
    as_json = bool((context.obj or {}).get("--json"))

    def ready(address: str, served: Any) -> None:
        _say_ready(address, served, as_json)

    options = {
        "adapter": adapter,
        "adapters": _adapters(lora),
        "dtype": dtype,
        "device": device,
        "redact": not keep_personal_data,
    }
    ended_by = run(model, settings, api_keys=keys, store=store, ready=ready, **options)
    return Answer({}, "Stopped", printed=True, exit_code=INTERRUPTED if ended_by == signal.SIGINT else 0)


def _library() -> Callable[..., int | None]:
    """What serves, with its settings as a mapping.

    Raises:
        MissingExtra: a library that it needs is not installed.
    """
    try:
        from ..config import validate
        from ..serve.config import ServeConfig
        from ..serve.start import serve as serve_model
    except MissingExtra:
        # Whoever asked for a server should not be told that a part of it needs the same.
        raise MissingExtra("the server", "serve") from None
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("fastapi", "starlette", "uvicorn", "h11", "prometheus_client"):
            raise
        raise MissingExtra("the server", "serve") from None

    def run(model: str, settings: dict[str, Any], **options: Any) -> int | None:
        return serve_model(model, validate(ServeConfig, settings), **options)

    return run


def _keys(given: list[str] | None) -> list[str]:
    """The keys of the command line and of the environment."""
    keys = [key.strip() for key in given or ()]
    if not all(keys):
        raise UserError("a key is empty", where="--api-key", hint=f"leave it out, or put one into ${KEY}")
    given_by = [("--api-key", key) for key in keys] + [(f"${KEY}", os.environ.get(KEY, "").strip())]
    for where, key in given_by:
        if not (key.isascii() and key.isprintable()):
            # Others do not get through a header or a cookie as they are.
            raise UserError("a key has visible ASCII characters only", where=where, hint="make one: ownlm keys create")
    return [key for _, key in given_by if key]


def _adapters(given: list[str] | None) -> dict[str, str]:
    """The folders of adapters by name."""
    folders: dict[str, str] = {}
    for one in given or ():
        name, _, folder = one.partition("=")
        if not (name and folder):
            raise UserError(f"a name and a folder were expected (got '{one}')", where="--lora", hint="write NAME=DIR")
        if name in folders:
            raise UserError(f"two adapters are called '{name}'", where="--lora", hint="give one another name")
        folders[name] = folder
    return folders


def _say_ready(address: str, served: Any, as_json: bool) -> None:
    """One line: on stderr for people, on stdout as the one object of --json, which nobody could wait for to the end."""
    if as_json:
        data = {"address": address, "model": served.name, "capabilities": served.capabilities}
        print(json.dumps({**data, "context": served.context, "pid": os.getpid()}), file=sys.__stdout__, flush=True)
    else:
        print(f"Serving {served.name} at {address} (Ctrl-C stops)", file=sys.stderr, flush=True)
