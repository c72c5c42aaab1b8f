"""What a running server consists of; every route finds it at ``request.app.state.serving``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request

from ..store.records import ApiKey
from ..store.store import Store
from .config import ServeConfig
from .edge import Notes, Traffic
from .errors import ApiError
from .lora import AdapterFolder
from .metrics import Metrics
from .quota import Quota, Quotas
from .security import Keys
from .served import Capability, Served

# Models that an error names.
MOST_LISTED = 8


@dataclass
class Serving:
    """A server's parts.

    Attributes:
        config: its settings.
        served: the model.
        keys: who may; None where everybody may do everything.
        store: None without one.
        traffic: the requests under way.
        metrics: its counters.
        quotas: what keys may use.
        adapter_folder: where adapters are loaded from while it runs; None loads none.
    """

    config: ServeConfig
    served: Served
    keys: Keys | None = None
    store: Store | None = None
    traffic: Traffic = field(default_factory=Traffic)
    metrics: Metrics = field(init=False)
    quotas: Quotas = field(init=False)
    adapter_folder: AdapterFolder | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.quotas = Quotas(self.store)
        if self.config.lora_folder is not None:
            self.adapter_folder = AdapterFolder(Path(self.config.lora_folder), self.served)
        worker, traffic, engine = self.served.worker, self.traffic, self.served.engine
        self.metrics = Metrics(
            {
                "ownlm_requests_running": ("Answers that are being worked on", lambda: worker.running),
                "ownlm_requests_waiting": ("Answers that wait for a place", lambda: worker.waiting),
                "ownlm_requests_pending": ("Answers that were accepted and have not ended", lambda: worker.pending),
                "ownlm_http_in_flight": ("HTTP requests under way", lambda: traffic.in_flight),
                "ownlm_cached_tokens": ("Tokens in the cache", lambda: engine.cached_tokens if engine else 0),
                "ownlm_reused_tokens": (
                    "Prompt tokens found in the cache",
                    lambda: engine.reused_tokens if engine else 0,
                ),
                "ownlm_preemptions": ("Answers that gave their room up", lambda: engine.preemptions if engine else 0),
                "ownlm_guessed_tokens": ("Tokens guessed ahead", lambda: engine.guessed_tokens if engine else 0),
                "ownlm_right_tokens": ("Of those, the right ones", lambda: engine.right_tokens if engine else 0),
                "ownlm_draining": ("1 while the server stops", lambda: traffic.draining),
            }
        )

    def drain(self) -> None:
        """Takes no new work from now on."""
        self.traffic.draining = True

    def find(self, name: str, capability: Capability | None = None) -> Served:
        """The model of a name, or the model with the adapter of a name.

        Raises:
            ApiError: 404, there is none; 400, it cannot do what is asked of it.
        """
        known = {self.served.name: self.served, **self.served.adapted}
        served = known.get(name)
        if served is None:
            message = f"there is no model '{name[:200]}' here, only {_listed(list(known))}"
            raise ApiError(404, message, param="model", code="model_not_found")
        if capability is not None and capability not in served.capabilities:
            can = ", ".join(served.capabilities)
            raise ApiError(400, f"the model '{name}' cannot do {capability}, but {can}", param="model")
        return served

    def quota(self, request: Request) -> Quota:
        """What the request takes of what its key may use."""
        return self.quotas.of(key_of(request))


def _listed(names: Sequence[str]) -> str:
    """The first few of these."""
    more = [f"{len(names) - MOST_LISTED} more"] if len(names) > MOST_LISTED else []
    return ", ".join([*(f"'{name}'" for name in names[:MOST_LISTED]), *more])


def serving_of(request: Request) -> Serving:
    """The server's parts, in a route."""
    serving: Serving = request.app.state.serving
    return serving


def key_of(request: Request) -> ApiKey | None:
    """The key that a request came with; None where keys are off."""
    key: ApiKey | None = request.scope["state"].get("key")
    return key


def notes_of(request: Request) -> Notes:
    """What is noted of a request for its line in the log."""
    notes: Notes = request.scope["state"]["notes"]
    return notes
