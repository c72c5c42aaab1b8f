"""What a server counts and times, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Seconds; from a token on a GPU to a long answer on a laptop.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)


class Metrics:
    """A server's own counters; every server has a registry to itself.

    Args:
        gauges: what is looked up whenever somebody asks, by name: what it is, and how it is had.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        registry = self._registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self.requests = Counter("ownlm_http_requests", "Answered requests", labels, registry=registry)
        self.seconds = Histogram(
            "ownlm_http_request_seconds", "How long requests took", ("route",), buckets=_SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "ownlm_first_token_seconds", "From a request to its first token", buckets=_SECONDS, registry=registry
        )
        self.token = Histogram(
            "ownlm_token_seconds", "From one token of an answer to the next", buckets=_SECONDS, registry=registry
        )
        self.prompt_tokens = Counter("ownlm_prompt_tokens", "Tokens of accepted prompts", registry=registry)
        self.completion_tokens = Counter("ownlm_completion_tokens", "Tokens written", registry=registry)
        self.answers = Counter("ownlm_answers", "Answers by how they ended", ("reason",), registry=registry)
        self.store_failures = Counter(
            "ownlm_store_failures", "Conversations that could not be stored", registry=registry
        )
        for name, (text, function) in gauges.items():
            Gauge(name, text, registry=registry).set_function(function)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)
