"""``ownlm bench serve --url`` against real servers: ours, one that counts nothing, and some that fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ownlm.engine.measure import Speed
from ownlm.errors import UserError
from ownlm.serve.speed import Remote, RemoteError, _p95, measure_remote

from .conftest import NAME, Running, Start


def bench(*arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "ownlm", "bench", "serve", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)
    return done.returncode, json.loads(done.stdout)


def test_our_own_server_is_measured(server: Running):
    code, data = bench("--url", server.address, "--concurrency", "1,3", "--prompt-tokens", "50", "--tokens", "12")
    assert code == 0 and data["model"] == NAME
    assert [speed["requests"] for speed in data["speeds"]] == [1, 3]
    for speed in data["speeds"]:
        assert speed["tokens"] == 12 and 35 <= speed["prompt_tokens"] <= 65
        assert 0 < speed["first_token"] <= speed["first_token_p95"] <= speed["first_token_slowest"]
        assert speed["tokens_per_second"] > 0 and speed["prompt_tokens_per_second"] > 0
        # The keys of a local measurement, but for the bandwidth, which nobody outside knows.
        assert set(Speed.__dataclass_fields__) - {"bandwidth_share"} <= set(speed)


def test_a_server_with_keys(start_server: Start, tiny: Path):
    options = ("--concurrency", "1", "--tokens", "3", "--prompt-tokens", "9")
    with start_server(tiny, key="secret") as running:
        assert bench("--url", f"{running.address}/v1/", "--key", "secret", *options)[0] == 0
        assert bench("--url", running.address, *options, OWNLM_API_KEY="secret")[0] == 0
        code, data = bench("--url", running.address, "--key", "wrong", *options)
        assert code == 1 and "401" in data["error"]["message"] and "--key" in data["error"]["hint"]


class Slow(BaseHTTPRequestHandler):
    """Waits, then writes five words with waits that are known; knows no ``ignore_eos`` and counts nothing."""

    first, each = 0.2, 0.05

    def log_message(self, format: str, *arguments: object) -> None:
        return None

    def do_GET(self) -> None:
        self.answer(200, json.dumps({"data": [{"id": "slow"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "ignore_eos" in body:
            self.answer(400, json.dumps({"error": {"message": "unknown field 'ignore_eos'"}}).encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for number in range(5):
            time.sleep(self.each if number else self.first)
            self.wfile.write(b": a comment\n\ndata: " + json.dumps({"choices": [{"text": "word "}]}).encode() + b"\n\n")
        if body["prompt"] != "cut":
            self.wfile.write(b'data: {"choices": [], "usage": null}\n\ndata: [DONE]\n\n')

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def slow() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_times_are_those_of_the_server(slow: str):
    remote = Remote(slow)
    assert remote.model() == "slow"
    (speed,) = measure_remote(remote, "slow", [4], prompt_tokens=10, tokens=5)
    # Never sooner than the server waits; how much later is the machine's.
    assert speed.tokens == 5 and speed.first_token >= 0.2 and speed.token >= 0.045
    assert speed.tokens_per_second <= 20 / 0.4


def test_what_fails_is_told(slow: str, server: Running):
    with pytest.raises(RemoteError, match="before it was whole"):
        Remote(slow).ask({"prompt": "cut"})
    with pytest.raises(RemoteError, match=r"404.*no model 'nobody'"):
        measure_remote(Remote(server.address), "nobody", [1], prompt_tokens=5, tokens=2)
    with pytest.raises(RemoteError, match=r"400.*context has room"):
        measure_remote(Remote(server.address), NAME, [1], prompt_tokens=4000, tokens=2)
    with pytest.raises(RemoteError, match="does not answer"):
        Remote("http://127.0.0.1:9").model()
    for url in ("127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "http://x:y"):
        with pytest.raises(UserError, match="no server's address"):
            Remote(url)


def test_what_does_not_go_together_is_told():
    assert bench("--concurrency", "1")[1]["error"]["message"] == "which model?"
    assert "the server's to choose" in bench("--url", "http://x", "--weights", "int8")[1]["error"]["message"]
    assert "--url" in bench("m", "--key", "x")[1]["error"]["hint"]


def test_95_of_100():
    assert _p95(range(1, 101)) == 95
    assert (_p95([7.0]), _p95([1.0, 2.0]), _p95(range(1, 21))) == (7, 2, 19)
