"""The description of the API, and requests drawn from it, valid and not: never a 5xx, never an answer not described."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .conftest import NAME, Running, Start

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


@pytest.fixture(scope="module")
def described(start_server: Start, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with every route at work; a request that means to take long is cut short."""
    store = f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"
    folder = str(tmp_path_factory.mktemp("adapters"))
    options = ["--store", store, "--keep-conversations", "--timeout", "20", "--lora-folder", folder]
    with start_server(tiny, *options) as running:
        yield running


@pytest.fixture(scope="module")
def description(described: Running) -> Any:
    return schemathesis.openapi.from_url(f"{described.address}/openapi.json")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/feedback",
        "/v1/chat/render",
        "/v1/load_lora_adapter",
        "others",
    ],
)
def test_no_request_is_a_5xx(described: Running, description: Any, path: str, mode: GenerationMode):
    operations = [found.ok() for found in description.get_all_operations()]
    chosen = [one for one in operations if one.path == path or (path == "others" and one.method == "get")]
    assert chosen
    for operation in chosen:

        @settings(max_examples=25 if path != "others" else 5, deadline=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
                # Few would name the model by chance.
                case.body["model"] = NAME
            case.call_and_validate(checks=CHECKS, timeout=60)

        # Nothing can be wrong with a request that has no parts.
        with contextlib.suppress(Unsatisfiable):
            ask()


def test_every_route_is_described(described: Running):
    paths = described.get("/openapi.json").json()["paths"]
    assert set(paths) == {
        "/v1/chat/completions",
        "/v1/chat/render",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/feedback",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/v1/lora_adapters",
        "/health",
        "/ready",
        "/metrics",
    }
    for path, item in paths.items():
        for operation in item.values():
            assert operation["summary"] and operation["description"], path


def test_the_server_is_well_after_all_this(described: Running):
    described.until("ownlm_requests_pending", 0)
    assert described.chat().status_code == 200
    assert described.get("/health").json() == {"status": "ok"}
