"""Clients that leave, and many at once: what nobody waits for is not generated."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from .conftest import NAME, Running, Start

LONG: dict[str, Any] = {
    "model": NAME,
    "messages": [{"role": "user", "content": "Hello"}],
    "ignore_eos": True,
    "max_tokens": 2000,
}


async def leave_early(server: Running, count: int, seconds: float, **options: Any) -> None:
    """So many clients ask for long answers at once, and each goes after a while."""
    limits = httpx.Limits(max_connections=None)

    async def one(client: httpx.AsyncClient) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await client.post(f"{server.address}/v1/chat/completions", json=LONG | options)

    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        await asyncio.gather(*(one(client) for _ in range(count)))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_client_that_leaves_ends_its_answers_at_once(server: Running, streaming: bool):
    aborted = server.metric("ownlm_answers_total")
    asyncio.run(leave_early(server, 6, 0.5, stream=streaming, n=2))
    server.until("ownlm_requests_pending", 0)
    assert server.metric("ownlm_requests_running") == server.metric("ownlm_requests_waiting") == 0
    assert server.metric("ownlm_answers_total") == aborted + 12
    lines = [line for line in server.log() if line.get("path") == "/v1/chat/completions"]
    assert lines[-1]["finish"] == ["aborted"] * 2 and lines[-1]["completion_tokens"] < 4000
    assert lines[-1]["status"] == (200 if streaming else 499)
    assert server.chat().status_code == 200


def test_whoever_leaves_within_a_request_or_before_it_is_whole_leaves_nothing(server: Running):
    host, _, port = server.address.removeprefix("http://").partition(":")
    body = json.dumps(LONG).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    for data in (b"", b"POST", head.encode(), head.encode() + body[:20], head.encode() + body):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(data)
    server.until("ownlm_requests_pending", 0)
    assert server.chat().status_code == 200


def test_many_that_leave_while_they_wait(server: Running):
    asyncio.run(leave_early(server, 60, 0.5))
    assert server.chat().status_code == 200
    server.until("ownlm_requests_pending", 0)
    assert server.metric("ownlm_requests_running") == 0


def test_embeddings_end_with_their_client_too(server: Running):
    with pytest.raises(httpx.TimeoutException):
        httpx.post(f"{server.address}/v1/embeddings", json={"model": NAME, "input": ["word " * 380] * 140}, timeout=0.5)
    server.until("ownlm_requests_pending", 0)


def test_a_full_queue_is_a_429_with_retry_after_and_a_deadline_a_504(start_server: Start, tiny: Any):
    with start_server(tiny, "--max-queue", "4", "--max-sequences", "2", "--timeout", "1.5") as server:

        async def flood() -> list[httpx.Response]:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(timeout=60, limits=limits) as client:
                url = f"{server.address}/v1/chat/completions"
                return await asyncio.gather(*(client.post(url, json=LONG) for _ in range(12)))

        answers = asyncio.run(flood())
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) <= {200, 429, 504} and statuses.count(429) >= 1
        for answer in answers:
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= 60
                assert answer.json()["error"]["code"] == "queue_full"
            if answer.status_code == 504:
                assert answer.json()["error"]["code"] == "deadline_exceeded"
                assert answer.headers["x-should-retry"] == "false"
        # One answer to many prompts takes longer than a second and a half, streamed or not.
        many = {"model": NAME, "prompt": ["Hello"] * 64, "max_tokens": 2000, "ignore_eos": True}
        assert server.post("/v1/completions", many).status_code == 504
        text = server.post("/v1/completions", many | {"stream": True}).text
        assert "deadline_exceeded" in text and "[DONE]" not in text
        server.until("ownlm_requests_pending", 0)
        assert server.chat().status_code == 200


def test_the_slow_and_the_many_are_cut_off(start_server: Start, tiny: Any):
    with start_server(tiny, "--read-timeout", "0.5", "--max-connections", "8", "--timeout", "1") as server:
        host, _, port = server.address.removeprefix("http://").partition(":")
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

        def cut_off(*parts: bytes) -> bytes:
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                for part in parts:
                    connection.sendall(part)
                return b"".join(iter(lambda: connection.recv(65536), b""))

        assert b" 408 " in cut_off(b"").split(b"\r\n")[0]
        assert b" 408 " in cut_off(b"GET /health HTT").split(b"\r\n")[0]
        assert b" 408 " in cut_off(head, b"Content-Length: 100\r\n\r\n", b"{").split(b"\r\n")[0]
        crowd = [socket.create_connection((host, int(port))) for _ in range(8)]
        assert b" 503 " in cut_off(b"").split(b"\r\n")[0]
        for connection in crowd:
            connection.close()
        assert server.chat().status_code == 200


@pytest.mark.slow
def test_two_hundred_that_leave_and_ten_thousand_that_stay(start_server: Start, tiny: Any):
    with start_server(tiny, "--max-queue", "512") as server:
        asyncio.run(leave_early(server, 200, 0.5, stream=True))
        assert server.chat().status_code == 200
        server.until("ownlm_requests_pending", 0)

        async def ask(count: int) -> None:
            gate = asyncio.Semaphore(32)
            body = LONG | {"max_tokens": 4}

            async def one(client: httpx.AsyncClient) -> None:
                async with gate:
                    answer = await client.post(f"{server.address}/v1/chat/completions", json=body)
                    assert answer.status_code == 200

            async with httpx.AsyncClient(timeout=60) as client:
                await asyncio.gather(*(one(client) for _ in range(count)))

        process = psutil.Process(server.process.pid)
        # What is made once, such as kernels and pools, is there after the first thousand.
        asyncio.run(ask(1000))
        before = process.memory_info().rss
        for _ in range(10):
            asyncio.run(ask(1000))
        assert process.memory_info().rss < 1.02 * before
        assert server.metric("ownlm_requests_pending") == 0


def test_what_is_compiled_is_a_part_of_the_time(start_server: Start, tiny: Path):
    # A grammar that takes seconds to compile, in a process that must first be started.
    rules = " | ".join(f'"{number:05d}" /[a-z]{{1,{number % 90 + 2}}}/' for number in range(3000))
    grammar = {"type": "grammar", "grammar": f"start: {rules}"}
    with start_server(tiny, "--timeout", "0.05") as running:
        answer = running.chat(response_format=grammar)
        assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline_exceeded"
        running.until("ownlm_requests_pending", 0)
