"""Clients that do not read what they asked for: they cost nobody anything, and are cut off."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from .conftest import NAME, Running, Start


def connections(server: Running) -> int:
    """How many connections the server's process holds."""
    port = int(server.address.rpartition(":")[2])
    established = [line.split() for line in Path("/proc/net/tcp").read_text().split("\n")[1:] if line]
    ours = [one for one in established if int(one[1].rpartition(":")[2], 16) == port and one[3] in ("01", "08")]
    return len([one for one in ours if one[9] != "0"])


def ask(server: Running, body: dict[str, object], path: str = "/v1/embeddings", head: str = "") -> socket.socket:
    host, _, port = server.address.removeprefix("http://").partition(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((host, int(port)))
    data = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", head]
    lines += [f"Content-Length: {len(data)}"]
    connection.sendall("\r\n".join(line for line in lines if line).encode() + b"\r\n\r\n" + data)
    return connection


@pytest.mark.parametrize("head", ["", "Connection: close"])
def test_whoever_reads_nothing_is_cut_off(start_server: Start, tiny: Path, head: str):
    if not Path("/proc/net/tcp").exists():
        pytest.skip("there is no list of connections here")
    with start_server(tiny, "--read-timeout", "1") as running:
        # Some 8 MB each, more than the system takes off the server's hands.
        body = {"model": NAME, "input": ["a"] * 2048}
        clients = [ask(running, {**body, "input": [f"a{n}"] * 2048}, head=head) for n in range(6)]
        try:
            assert running.chat().status_code == 200
            for _ in range(300):
                if connections(running) == 0:
                    break
                time.sleep(0.1)
            assert connections(running) == 0
            assert running.chat().status_code == 200
        finally:
            for client in clients:
                client.close()


def test_whoever_reads_slowly_gets_all_of_it(start_server: Start, tiny: Path):
    with start_server(tiny, "--read-timeout", "1") as running:
        client = ask(running, {"model": NAME, "input": ["a"] * 1024}, head="Connection: close")
        client.settimeout(30)
        got = b""
        while part := client.recv(1 << 16):
            got += part
            if len(got) < 1_500_000:
                time.sleep(0.1)
        client.close()
        head, _, body = got.partition(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0] and len(json.loads(body)["data"]) == 1024
