"""SIGTERM under load loses nothing that was accepted; Ctrl-C likewise; a deadline for the stubborn."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownlm.cli.main import main

from .conftest import NAME, Start

LONG: dict[str, Any] = {
    "model": NAME,
    "messages": [{"role": "user", "content": "Hello"}],
    "ignore_eos": True,
    "max_tokens": 150,
    "temperature": 0,
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_no_accepted_request(start_server: Start, tiny: Path, number: signal.Signals):
    with start_server(tiny, "--max-sequences", "8") as server:
        url = f"{server.address}/v1/chat/completions"
        refused: Counter[str] = Counter()
        answered: list[str] = []

        async def one(client: httpx.AsyncClient, stream: bool) -> None:
            try:
                answer = await client.post(url, json=LONG | {"stream": stream})
            except httpx.ConnectError:
                # It was never accepted: nobody listens any more.
                refused["unreachable"] += 1
                return
            if answer.status_code == 503:
                assert answer.json()["error"]["code"] == "draining"
                assert int(answer.headers["retry-after"]) > 0
                assert answer.headers["connection"] == "close"
                refused["draining"] += 1
                return
            assert answer.status_code == 200
            if stream:
                chunks = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: {")]
                assert answer.text.endswith("data: [DONE]\n\n")
                answered.append("".join(c["choices"][0]["delta"].get("content") or "" for c in chunks))
            else:
                answered.append(answer.json()["choices"][0]["message"]["content"])

        async def load() -> None:
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            async with httpx.AsyncClient(timeout=60, limits=limits) as client:
                first = [asyncio.create_task(one(client, number % 2 == 0)) for number in range(30)]
                while (await client.get(f"{server.address}/metrics")).text.count("ownlm_requests_pending 30") == 0:
                    await asyncio.sleep(0.01)
                server.process.send_signal(number)
                while (await client.get(f"{server.address}/ready")).status_code != 503:
                    await asyncio.sleep(0.01)
                assert (await client.get(f"{server.address}/health")).json() == {"status": "draining"}
                await asyncio.gather(*first, *(one(client, False) for _ in range(10)))

        asyncio.run(load())
        assert len(answered) == 30 and len(set(answered)) == 1
        assert refused["draining"] + refused["unreachable"] == 10
        assert refused["draining"]
        assert server.process.wait(60) == (0 if number == signal.SIGTERM else 130)
        # The object was printed when it was ready, and there is one.
        assert server.process.stdout is not None and server.process.stdout.read() == ""
        assert "Traceback" not in server.log_path.read_text()


def test_what_does_not_finish_in_time_is_told_and_the_server_ends(start_server: Start, tiny: Path):
    with start_server(tiny, "--drain", "0.2") as server:
        many = {"model": NAME, "prompt": ["Hello"] * 64, "max_tokens": 2000, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{server.address}/v1/completions", json=many, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert json.loads(rest[-1][6:])["error"]["code"] == "draining"
        assert server.process.wait(60) == 0


def test_a_second_signal_ends_it_at_once(start_server: Start, tiny: Path):
    with start_server(tiny) as server:
        many = {"model": NAME, "prompt": ["Hello"] * 64, "max_tokens": 2000, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{server.address}/v1/completions", json=many, timeout=60) as answer:
            next(answer.iter_lines())
            server.process.send_signal(signal.SIGINT)
            server.until("ownlm_draining", 1)
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(60) == 130


def serve(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capfd.readouterr()
    code = main(["serve", *arguments, "--json"])
    return code, json.loads(capfd.readouterr().out)["error"]


def test_what_cannot_be_served_is_told_at_once(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    code, error = serve(capfd, str(tiny), "--host", "0.0.0.0")
    assert code == 2 and "no keys" in error["message"] and "--api-key" in error["hint"]
    code, error = serve(capfd, str(tmp_path / "missing"), "--port", "0")
    assert code == 2
    code, error = serve(capfd, str(tiny), "--host", "203.0.113.7", "--api-key", "k")
    assert code == 2 and error["where"].startswith("203.0.113.7")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, error = serve(capfd, str(tiny), "--port", str(port))
    assert code == 2 and error["where"] == f"127.0.0.1:{port}"


def test_the_line_for_people_is_on_stderr(tiny: Path, tmp_path: Path):
    command = [sys.executable, "-m", "ownlm", "serve", str(tiny), "--port", "0"]
    environment = {**os.environ, "OWNLM_HOME": str(tmp_path)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert child.stderr is not None
        line = child.stderr.readline()
        assert line.startswith(f"Serving {tiny} at http://127.0.0.1:")
        child.send_signal(signal.SIGTERM)
        out, _ = child.communicate(timeout=60)
        assert (child.returncode, out) == (0, "")
    finally:
        child.kill()
