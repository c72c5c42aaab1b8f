"""Conversations and feedback in the store: what was acknowledged outlives a killed server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ownlm.store import Store

from .conftest import NAME, Running, Start


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"


@pytest.fixture(scope="module")
def keeping(start_server: Start, tiny: Path, url: str) -> Iterator[Running]:
    with start_server(tiny, "--store", url, "--keep-conversations", "--retention", "30") as running:
        yield running


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url) as opened:
        yield opened


def test_a_conversation_is_kept_whole_with_its_release(keeping: Running, store: Store):
    messages = [{"role": "user", "content": "Write to ada@example.com, please."}]
    answer = keeping.post(
        "/v1/chat/completions", {"model": NAME, "messages": messages, "max_tokens": 5, "n": 2, "seed": 4}
    ).json()
    kept = store.conversations.get(answer["id"])
    assert kept is not None
    assert (
        kept.model == NAME
        and kept.release == answer["system_fingerprint"] == keeping.get(f"/v1/models/{NAME}").json()["release"]
    )
    assert len(kept.release) == 32
    assert "ada@example.com" not in json.dumps(list(map(dict, kept.messages)))
    assert [one.message["content"] for one in kept.answers] == [one["message"]["content"] for one in answer["choices"]]
    assert [one.finish_reason for one in kept.answers] == [one["finish_reason"] for one in answer["choices"]]
    usage = answer["usage"]
    assert (kept.prompt_tokens, kept.completion_tokens) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert kept.options["seed"] == 4 and kept.options["n"] == 2 and "messages" not in kept.options
    assert 0 < kept.timings["first_token"] <= kept.timings["total"]


def test_a_client_may_ask_that_nothing_is_kept(keeping: Running, store: Store):
    before = store.conversations.count()
    assert keeping.chat(store=False).status_code == 200
    assert store.conversations.count() == before


def test_feedback_on_an_answer(keeping: Running, store: Store):
    answer = keeping.chat().json()
    said = {"id": answer["id"], "rating": "down", "reason": "Wrong", "correction": "Better"}
    kept = keeping.post("/v1/feedback", said)
    assert kept.status_code == 200
    assert {key: kept.json()[key] for key in said} == said
    assert keeping.post("/v1/feedback", said | {"rating": "up", "reason": ""}).json()["rating"] == "up"
    (entry,) = store.feedback.of(answer["id"])
    assert (entry.rating, entry.correction) == ("up", "Better")
    assert keeping.post("/v1/feedback", said | {"index": 1}).status_code == 404
    assert keeping.post("/v1/feedback", said | {"id": "chatcmpl-unknown"}).json()["error"]["code"] == "unknown_answer"


def test_completions_are_kept_as_texts(keeping: Running, store: Store):
    answer = keeping.post("/v1/completions", {"model": NAME, "prompt": "Once", "max_tokens": 3}).json()
    kept = store.conversations.get(answer["id"])
    assert kept is not None
    assert [dict(message) for message in kept.messages] == [{"role": "text", "content": "Once"}]
    assert kept.answers[0].message["content"] == answer["choices"][0]["text"]


def test_a_killed_server_loses_nothing_it_acknowledged(start_server: Start, tiny: Path, tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'store.db'}"
    finished = []
    with start_server(tiny, "--store", url, "--keep-conversations") as server:
        for _ in range(10):
            body = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3, "stream": True}
            with httpx.stream("POST", f"{server.address}/v1/chat/completions", json=body, timeout=60) as answer:
                for line in answer.iter_lines():
                    if not line.startswith("data: {"):
                        continue
                    chunk = json.loads(line[6:])
                    if chunk["choices"][0]["finish_reason"]:
                        # From the finishing chunk on it is there, before the connection's end.
                        finished.append(chunk["id"])
                        break
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    with Store.open(url) as store:
        assert all(store.conversations.get(one) is not None for one in finished) and len(finished) == 10
