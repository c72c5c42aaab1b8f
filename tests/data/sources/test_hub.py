"""Data sets of the hub, from a real server on this machine that answers as the hub does."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow
import pyarrow.parquet
import pytest

from ownlm.data.sources import ReadLimits, SourceOptions, fetch_source, list_units, read_unit
from ownlm.errors import DataError, FetchError


def parquet(*texts: str) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": list(texts)}), file)
    return file.getvalue()


FILES = {
    "README.md": b"---\nconfigs:\n- config_name: small\n  data_files:\n  - split: train\n    path: small/train-*\n"
    b"  - split: test\n    path: small/test.jsonl\n- config_name: large\n  data_files: large/*\n---\n# Card",
    "small/train-00000-of-00002.parquet": parquet("one", "two"),
    "small/train-00001-of-00002.parquet": parquet("three"),
    "small/test.jsonl": b'{"text": "held"}\n',
    "large/all.jsonl": b'{"text": "large"}\n',
    "picture.png": b"\x89PNG",
}


class Hub(http.server.ThreadingHTTPServer):
    """A hub with one data set, as much of it as the hub's library asks for."""

    commit = "b" * 40

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = files
        self.asked: list[str] = []


class Answers(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(path)
        api, resolve = "/api/datasets/org/set", f"/datasets/org/set/resolve/{self.server.commit}/"
        if path == api or path == f"{api}/revision/v1":
            siblings = [{"rfilename": name} for name in self.server.files]
            self.answer(json.dumps({"id": "org/set", "sha": self.server.commit, "siblings": siblings}).encode())
        elif path.startswith(resolve) and path.removeprefix(resolve) in self.server.files:
            self.answer(self.server.files[path.removeprefix(resolve)])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if "/revision/" in path else "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OWNLM_OFFLINE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(dict(FILES))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def texts(source: SourceOptions) -> list[tuple[str, str]]:
    units, failures = list_units(source, ReadLimits())
    assert failures == []
    found = [record for unit in units for record in read_unit(unit, source, ReadLimits())]
    return [(record.file, record.content) for record in found]  # type: ignore[union-attr]


@pytest.mark.parametrize("revision", [None, "v1"])
def test_a_split_is_fetched_once_and_read(hub: Hub, tmp_path: Path, revision: str | None) -> None:
    source = SourceOptions(name="set", dataset="org/set", subset="small", split="train", revision=revision)
    fetched = fetch_source(source, tmp_path)
    assert texts(fetched) == [
        ("small/train-00000-of-00002.parquet", "one"),
        ("small/train-00000-of-00002.parquet", "two"),
        ("small/train-00001-of-00002.parquet", "three"),
    ]
    assert not any("large" in path or "picture" in path or "test" in path for path in hub.asked)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    asked = len(hub.asked)
    assert fetch_source(source, tmp_path) == fetched
    assert len(hub.asked) == asked


def test_everything_and_a_subset(hub: Hub, tmp_path: Path) -> None:
    everything = fetch_source(SourceOptions(name="set", dataset="org/set"), tmp_path)
    assert [text for _, text in texts(everything)] == ["large", "held", "one", "two", "three"]
    large = fetch_source(SourceOptions(name="set", dataset="org/set", subset="large"), tmp_path)
    assert texts(large) == [("large/all.jsonl", "large")]


def test_a_set_without_a_card(hub: Hub, tmp_path: Path) -> None:
    del hub.files["README.md"]
    fetched = fetch_source(SourceOptions(name="set", dataset="org/set", split="test"), tmp_path)
    assert texts(fetched) == [("small/test.jsonl", "held")]


def test_what_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    for options, error, message in [
        ({"dataset": "org/none"}, FetchError, "no such data set"),
        ({"dataset": "org/set", "revision": "v9"}, FetchError, "no such revision"),
        ({"dataset": "no name"}, FetchError, "no name that the hub could have"),
        ({"dataset": "org/set", "subset": "tiny"}, DataError, "no subset 'tiny'"),
        ({"dataset": "org/set", "split": "dev"}, DataError, "no split 'dev'"),
    ]:
        with pytest.raises(error, match=message):
            fetch_source(SourceOptions(name="set", **options), tmp_path)
    hub.files = {"load.py": b"", "README.md": b"# Card"}
    with pytest.raises(DataError, match=r"no file that can be read.*refs/convert/parquet"):
        fetch_source(SourceOptions(name="set", dataset="org/set"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", ["OWNLM_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_no_call_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(FetchError, match=variable):
        fetch_source(SourceOptions(name="set", dataset="org/set"), tmp_path)


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{probe.getsockname()[1]}")
    with pytest.raises(FetchError, match="cannot be reached"):
        fetch_source(SourceOptions(name="set", dataset="org/set"), tmp_path)
    assert not list(tmp_path.iterdir())
