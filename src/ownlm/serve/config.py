"""Where a server listens, and what it bears."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field

from ..config import Config


class ServeConfig(Config):
    """The settings of a server; frozen."""

    host: str = "127.0.0.1"
    """Which address to listen on; any but this machine's own needs keys."""
    port: int = Field(8000, ge=0, le=65535)
    """0 takes any free one."""
    name: str | None = Field(None, min_length=1, max_length=256)
    """What clients call the model; None is the name it was loaded by."""
    hosts: tuple[str, ...] = ()
    """Further names that a server without keys answers to, such as that of a proxy before it."""
    lora_folder: str | None = Field(None, min_length=1)
    """A folder whose adapters may be loaded while it runs, by keys of the role admin; None loads none."""
    max_sequences: int = Field(16, ge=1, le=4096)
    """How many answers are worked on at once."""
    weights: Literal["auto", "bf16", "int8", "int4"] = "auto"
    """How the model's weights are kept: as it computes, or in fewer bits on a CPU."""
    draft_model: str | None = Field(None, min_length=1)
    """A smaller model with the same tokenizer, as ``load_model`` takes it, which guesses ahead; answers stay the same."""
    cache_tokens: int | None = Field(None, ge=64)
    """How many tokens of prompts and answers the cache holds; its memory is taken at the start. None is enough for
    ``max_sequences`` of 2,048."""
    shared_prefill_tokens: int | None = Field(None, ge=1)
    """The most tokens of prompts that are read in a step in which answers go on; None is 64 on a CPU. Fewer keep a long
    prompt from being felt by others, and let it take longer."""
    max_pending: int = Field(256, ge=1)
    """How many answers may be accepted and unfinished; more are refused with 429."""
    timeout: float = Field(600, gt=0, le=86_400)
    """Seconds that a request may take, waiting included."""
    drain: float = Field(60, ge=0, le=86_400)
    """Seconds that accepted requests have to finish once the server is told to stop."""
    max_body: int = Field(4 * 2**20, ge=1024)
    """The most bytes of a request's body."""
    max_connections: int = Field(2048, ge=1)
    """How many connections may be open at once."""
    read_timeout: float = Field(30, gt=0)
    """Seconds within which a request's headers must have come, and its body."""
    log_messages: bool = False
    """Whether the log holds what was said; it otherwise holds counts and times alone."""
    keep_conversations: bool = False
    """Whether conversations are written to the store."""
    retention: float | None = Field(None, gt=0)
    """Days after which stored conversations are removed; None keeps them."""


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which nobody else can reach."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
