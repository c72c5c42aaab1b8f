"""What operators meet: a port that is taken, a store that is busy or broken, a system that allows few files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from ownlm.store import Store

from .conftest import NAME, Running, Start

CHAT: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}


def test_of_two_that_load_at_once_for_one_port_one_says_that_it_is_taken(tiny: Path, tmp_path: Path):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "ownlm", "serve", str(tiny), "--port", str(port), "--json"]
    environment = {**os.environ, "OWNLM_HOME": str(tmp_path)}
    two = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    try:
        said = [json.loads(one.stdout.readline()) for one in two]  # type: ignore[union-attr]
        served = [place for place, one in enumerate(said) if "address" in one]
        assert len(served) == 1
        other = 1 - served[0]
        assert "cannot be listened on" in said[other]["error"]["message"]
        assert said[other]["error"]["type"] == "input" and two[other].wait(60) == 2
        assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        two[served[0]].send_signal(signal.SIGTERM)
        assert two[served[0]].wait(60) == 0
    finally:
        for one in two:
            one.kill()
            one.wait()


@pytest.fixture
def stored(start_server: Start, tiny: Path, tmp_path: Path) -> Iterator[tuple[Running, Store, Path]]:
    file = tmp_path / "store.db"
    with Store.open(str(file)) as store:
        text, _ = store.keys.create("anybody")
        with start_server(tiny, "--store", str(file)) as running:
            running.key = text
            yield running, store, file


def test_another_program_that_writes_keeps_no_key_from_opening(stored: tuple[Running, Store, Path]):
    running, store, file = stored
    text, key = store.keys.create("new")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        headers = {"Authorization": f"Bearer {text}"}
        # Its first use cannot be noted now. The other one would be waited for for a minute.
        assert httpx.get(f"{running.address}/v1/models", headers=headers, timeout=20).status_code == 200
        answer = httpx.post(f"{running.address}/v1/chat/completions", json=CHAT, headers=headers, timeout=20)
        assert answer.status_code == 200
        other.execute("ROLLBACK")
    assert httpx.get(f"{running.address}/v1/models", headers=headers).status_code == 200
    assert next(one for one in store.keys.all() if one.id == key.id).last_used is not None


def test_a_store_that_fails_is_a_503_where_it_is_needed(stored: tuple[Running, Store, Path]):
    running, store, file = stored
    limited, _ = store.keys.create("limited", tokens_per_day=1000)
    with contextlib.closing(sqlite3.connect(file)) as other, other:
        other.execute("DROP TABLE usage")
    # Whose tokens nobody limits is answered; whose limit cannot be looked up is not, and may come again.
    assert running.post("/v1/chat/completions", CHAT).status_code == 200
    running.key = limited
    refused = running.post("/v1/chat/completions", CHAT)
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "store_failed"
    assert "retry-after" in refused.headers and str(file) not in refused.text and "usage" not in refused.text
    assert any("no such table" in line.get("traceback", "") for line in running.log())


@pytest.mark.parametrize(
    ("soft", "hard", "expected"), [(300, 300, "44 300"), (300, 5000, "2048 2304"), (100, 100, "1 100")]
)
def test_connections_leave_files_for_others(soft: int, hard: int, expected: str):
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 5000:
        pytest.skip("this process may not have 5,000 files")
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); "
        "from ownlm.serve.server import connections_for; "
        "print(connections_for(2048), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_two_signals_end_it_at_once(start_server: Start, tiny: Path):
    with start_server(tiny) as running:
        long = {**CHAT, "max_tokens": 2000, "ignore_eos": True, "stream": True, "n": 16}
        with httpx.stream("POST", f"{running.address}/v1/chat/completions", json=long, timeout=60) as stream:
            lines = stream.iter_lines()
            next(lines)
            running.process.send_signal(signal.SIGINT)
            running.until("ownlm_draining", 1)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(60) == 130
            with contextlib.suppress(httpx.HTTPError):
                # Cut off, or told so.
                assert any('"error"' in line for line in lines)


def test_the_log_is_one_object_a_line_whatever_is_asked_for(server: Running):
    strange = '/strange%0a{"level":"error"}%0d%1b[31m/\u2028'
    httpx.get(server.address + strange, headers={"User-Agent": "x\ty", "X-Request-Id": "mine"})
    server.get("/health")
    line = next(line for line in reversed(server.log()) if line.get("path", "").startswith("/strange"))
    assert line["path"].startswith('/strange\n{"level":"error"}\r\x1b[31m') and line["status"] == 404
    for written in server.log_path.read_text().split("\n"):
        assert written.isascii() and written.isprintable()
        assert not written or isinstance(json.loads(written), dict)
    # Nobody fills it by asking for another protocol.
    for _ in range(3):
        httpx.get(server.address + "/health", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert not any("upgrade" in line["event"].lower() for line in server.log())


def crowd(server: Running, count: int) -> list[socket.socket]:
    host, _, port = server.address.removeprefix("http://").partition(":")
    return [socket.create_connection((host, int(port)), timeout=30) for _ in range(count)]


def test_a_crowd_takes_no_more_files_than_it_may(start_server: Start, tiny: Path):
    with start_server(tiny, "--max-connections", "50") as running:
        process = psutil.Process(running.process.pid)
        before = process.num_fds()
        clients = crowd(running, 500)
        try:
            most = 0
            for _ in range(40):
                most = max(most, process.num_fds() - before)
                time.sleep(0.02)
            assert most < 50 + 150
        finally:
            for client in clients:
                client.close()
        assert retried(running) == 200
        assert all(line["event"] == "request" for line in running.log())


def test_too_few_files_are_told_once(start_server: Start, tiny: Path):
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("another process's limits cannot be set here")
    with start_server(tiny) as running:
        used = psutil.Process(running.process.pid).num_fds()
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
        clients = crowd(running, 200)
        time.sleep(2.5)
        for client in clients:
            client.close()
        assert retried(running) == 200
        said = [line["event"] for line in running.log() if line["event"] != "request"]
        assert said == ["connections cannot be accepted: there are too many open files"]
        assert len(running.log_path.read_text().split("\n")) < 300


def retried(server: Running) -> int:
    """The status of a request, once one comes through."""
    for _ in range(100):
        with contextlib.suppress(httpx.HTTPError):
            if (answer := httpx.get(server.address + "/health", timeout=5)).status_code == 200:
                return answer.status_code
        time.sleep(0.1)
    return 0
