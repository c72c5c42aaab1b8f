"""From a model's name to a server that answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..api import load_draft_model, load_model, load_tokenizer
from ..engine.engine import Engine
from ..engine.worker import EngineWorker
from ..errors import UserError
from ..model.transformer import Transformer
from ..store.store import Store, default_url
from ..tokens.tokenizer import Tokenizer
from .config import ServeConfig
from .logs import log_to_stderr
from .security import Keys
from .served import Served
from .server import Server, address_of, listen
from .serving import Serving


def serve(
    model: str,
    config: ServeConfig,
    *,
    api_keys: Sequence[str] = (),
    store: str | None = None,
    redact: bool = True,
    dtype: str = "auto",
    device: str = "auto",
    adapter: str | None = None,
    adapters: Mapping[str, str] | None = None,
    ready: Callable[[str, Served], None] = lambda address, served: None,
) -> int | None:
    """Serves a model until SIGTERM or SIGINT; accepted requests are answered before it returns.

    Args:
        model: as ``load_model`` takes it; one without a language-model head only makes vectors.
        config: the server's settings.
        api_keys: keys that may do everything, besides those in the store.
        store: the URL of a store for keys, conversations and feedback. None is the usual one, if it is there already or
            conversations are to be kept.
        redact: whether personal data is masked in what is stored.
        dtype, device, adapter: as ``load_model``.
        adapters: folders of adapters that clients choose among by these names.
        ready: called with the address once requests are answered.

    Returns:
        The signal that ended it.

    Raises:
        UserError: the model, the address or the store is wrong; keys are missing where others could reach it.
    """
    if store is None and (config.keep_conversations or Path(default_url()).is_file()):
        # Where 'ownlm keys' puts its keys unless it is told otherwise: who made some means them to count.
        store = default_url()
    opened = None if store is None else Store.open(store, redact=redact)
    try:
        # A store whose keys were all revoked stays closed.
        keys = Keys(api_keys, opened) if api_keys or (opened and opened.keys.all()) else None
        if config.lora_folder is not None and not Path(config.lora_folder).is_dir():
            raise UserError("there is no such folder", where=f"--lora-folder {config.lora_folder}")
        # Before the model is loaded, so that a wrong address is told at once.
        with listen(config, keys is not None) as socket:
            network, tokenizer = load_model(model, dtype, device, adapter), load_tokenizer(model)
            name = config.name or (model if adapter is None else Path(adapter).name)
            if name in (adapters or {}):
                raise UserError(
                    f"the model itself is called '{name}'", where="--lora", hint="give the adapter another name"
                )
            drafter = None
            if config.draft_model is not None:
                drafter = load_draft_model(config.draft_model, tokenizer, dtype, device)
            engine = engine_of(network, tokenizer, config, drafter, adapters)
            worker = EngineWorker(engine, max_pending=config.max_pending)
            served = Served(name, network, tokenizer, worker, None if adapter is None else Path(adapter))
            serving = Serving(config, served, keys, opened)
            log_to_stderr()
            server = Server(serving, lambda: ready(address_of(socket, config.host), served))
            server.run_on(socket)
            return server.stopped_by
    finally:
        if opened is not None:
            opened.close()


def engine_of(
    model: Transformer,
    tokenizer: Tokenizer,
    config: ServeConfig,
    draft_model: Transformer | None = None,
    adapters: Mapping[str, str] | None = None,
) -> Engine | None:
    """What writes with a model; None for an encoder, which only makes vectors.

    Raises:
        ModelError: the model can do neither; an adapter is for another, or cannot run beside others.
        UserError: a draft model is to guess, or adapters to answer, for a model that writes nothing.
    """
    if not model.config.causal and model.config.head in ("none", "masked"):
        if draft_model is not None:
            raise UserError("the model writes nothing that a draft model could guess", where="draft_model")
        if adapters or config.lora_folder is not None:
            message = "this model only makes vectors, and adapters are for answers"
            raise UserError(message, where="--lora", hint="merge one when it is loaded: --adapter")
        return None
    options: dict[str, Any] = {"max_sequences": config.max_sequences, "weights": config.weights}
    options |= {"draft_model": draft_model, "adapters": adapters}
    options |= {"shared_prefill_tokens": config.shared_prefill_tokens}
    if config.cache_tokens is not None:
        options["cache_tokens"] = config.cache_tokens
    engine = Engine(model, tokenizer, **options)
    engine.reserve()
    return engine
