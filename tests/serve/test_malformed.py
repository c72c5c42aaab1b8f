"""Whatever is sent, the answer is a 4xx in the one shape, and the server goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import NAME, Running

CHAT = "/v1/chat/completions"
BASE: dict[str, Any] = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}


@pytest.fixture(autouse=True)
def _the_server_goes_on(server: Running) -> Iterator[None]:
    yield
    assert server.chat().status_code == 200


def raw(server: Running, data: bytes) -> tuple[int, Any]:
    """Sends bytes as they are; returns the status and the body's JSON."""
    host, _, port = server.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def refused(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and error["type"].endswith("_error")
    return error


def send(server: Running, body: bytes, path: str = CHAT, kind: str = "application/json") -> httpx.Response:
    return httpx.post(server.address + path, content=body, headers={"Content-Type": kind}, timeout=60)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 10**9}, "n"),
        ({"n": 10**30}, "n"),
        ({"n": "2"}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": -5}, "max_completion_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": [1]}, "temperature"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": -1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -2.1}, "frequency_penalty"),
        ({"logit_bias": {"five": 1}}, "logit_bias.five"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"seed": 2**70}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop.1"),
        ({"stop": ["a"] * 17}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": "x" * 1001}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"top_logprobs": 3}, None),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name"),
        ({"tool_choice": "required"}, None),
        ({"tool_choice": {"type": "function", "function": {"name": "missing"}}}, None),
        ({"modalities": ["audio"]}, "modalities.0"),
        ({"model": 5}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "king", "content": "a"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "assistant"}]}, "messages.0"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type",
        ),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_wrong_value_is_named(server: Running, change: dict[str, Any], param: str | None):
    error = refused(server.post(CHAT, BASE | change), 400)
    assert error["param"] == param


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_field_is_named(server: Running, name: str):
    error = refused(server.post(CHAT, {key: value for key, value in BASE.items() if key != name}), 400)
    assert error == {
        "message": f"'{name}' is missing",
        "type": "invalid_request_error",
        "param": name,
        "code": "missing_field",
    }


GOOD = json.dumps(BASE).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"5",
        GOOD[:-1],
        GOOD + b"}",
        GOOD.replace(b"Hello", b"\xff\xfe"),
        GOOD.replace(b"Hello", b"\xed\xa0\x80"),
        GOOD.replace(b"Hello", b"a\x00b"),
        GOOD.replace(b"Hello", b"a\\u0000b"),
        GOOD.replace(b"Hello", b"\\ud800"),
        GOOD.replace(b"Hello", b"\\udc00\\ud800"),
        GOOD.replace(b'"max_tokens": 2', b'"temperature": NaN'),
        GOOD.replace(b'"max_tokens": 2', b'"temperature": -Infinity'),
        GOOD.replace(b'"max_tokens": 2', b'"temperature": 1e999'),
        GOOD.replace(b'"max_tokens": 2', b'"max_tokens": ' + b"9" * 100_000),
        GOOD.replace(b'"max_tokens": 2', b'"metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000),
        GOOD.replace(b'"max_tokens": 2', b'"metadata": {"a": 1e400}'),
        b"[" * 100_000,
        b"\xef\xbb\xbf" + GOOD,
        GOOD.decode().encode("utf-16"),
    ],
)
def test_what_is_not_proper_json_is_a_400(server: Running, body: bytes):
    refused(send(server, body), 400)


def test_text_of_all_scripts_is_fine(server: Running):
    assert send(server, GOOD.replace(b"Hello", "你好 🙂 \\ud83d\\ude42 \\\\u0000".encode())).status_code == 200


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_kind_of_body_is_refused_with_a_hint(server: Running, kind: str):
    assert "application/json" in refused(send(server, GOOD, kind=kind), 400)["message"]


def test_ten_megabytes_are_too_large_with_their_length_said_and_without(server: Running):
    body = GOOD.replace(b"Hello", b"a" * 10_000_000)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    refused(send(server, body), 413)
    headers = {"Content-Type": "application/json"}
    refused(httpx.post(server.address + CHAT, content=pieces(), headers=headers, timeout=60), 413)


def test_a_connection_serves_on_after_a_body_that_was_too_large(server: Running):
    with httpx.Client(timeout=60) as client:
        refused(client.post(server.address + CHAT, json=BASE | {"user": "a" * 5_000_000}), 413)
        assert client.get(server.address + "/health").status_code == 200


def test_a_length_that_is_a_lie_is_refused(server: Running):
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    assert raw(server, f"{head}Content-Length: 99999999999\r\n\r\n".encode())[0] == 413
    for length in ("-5", "five", "1e3", "5, 6"):
        assert raw(server, f"{head}Content-Length: {length}\r\n\r\nabcde".encode())[0] == 400
    smuggled = f"{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    assert raw(server, smuggled.encode())[0] == 400


def test_too_many_and_too_long_headers_are_refused(server: Running):
    refused(httpx.get(server.address + "/health", headers={f"X-{i}": "a" for i in range(120)}), 431)
    refused(httpx.get(server.address + "/health", headers={"X-Long": "a" * 20_000}), 431)
    status, answer = raw(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n")
    assert status == 400 and answer["error"]["type"] == "invalid_request_error"
    refused(httpx.get(f"{server.address}/{'a' * 5000}"), 414)


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nBad Name: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_400(server: Running, data: bytes):
    status, answer = raw(server, data + b"\r\n\r\n")
    assert status == 400 and set(answer["error"]) == {"message", "type", "param", "code"}


def test_unknown_addresses_and_methods(server: Running):
    refused(server.get("/v2/nothing"), 404)
    refused(server.get("/%00"), 404)
    refused(server.get("/v1/models/..%2f..%2fetc%2fpasswd"), 404)
    assert refused(server.get(CHAT), 405)["code"] == "method_not_allowed"
    refused(httpx.request("BREW", server.address + "/v1/models"), 405)
    refused(httpx.delete(server.address + f"/v1/models/{NAME}"), 405)


@pytest.mark.parametrize(
    "change",
    [
        {"input": ""},
        {"input": []},
        {"input": [""]},
        {"input": [[]]},
        {"input": [-1]},
        {"input": [320]},
        {"input": [[1, 2], ["a"]]},
        {"input": {"a": 1}},
        {"input": "word " * 3000},
        {"input": ["a"] * 2049},
        {"input": [2**70]},
        {"dimensions": 7},
        {"dimensions": 0},
        {"encoding_format": "hex"},
        {"model": "other-model"},
    ],
)
def test_wrong_embedding_requests(server: Running, change: dict[str, Any]):
    refused(server.post("/v1/embeddings", {"model": NAME, "input": "a"} | change), 400, 404)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": [99999]},
        {"prompt": [[0, -3]]},
        {"prompt": ["a"] * 100, "n": 2},
        {"prompt": "a " * 3000},
        {"best_of": 5},
        {"echo": True, "logprobs": 1},
        {"suffix": "b"},
        {"logprobs": 30},
    ],
)
def test_wrong_completion_requests(server: Running, change: dict[str, Any]):
    refused(server.post("/v1/completions", {"model": NAME, "prompt": "a", "max_tokens": 2} | change), 400)


def test_feedback_without_a_store_is_told_so(server: Running):
    assert server.post("/v1/feedback", {"id": "chatcmpl-1", "rating": "up"}).json()["error"]["code"] == "no_store"
    refused(server.post("/v1/feedback", {"id": "chatcmpl-1", "rating": "good"}), 400)


def test_a_host_that_is_not_this_machines_is_refused_without_keys(server: Running):
    answer = httpx.get(server.address + "/v1/models", headers={"Host": "evil.example"})
    assert refused(answer, 403)["code"] == "unknown_host"


def _json(**values: Any) -> bytes:
    return json.dumps(BASE | values, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", _json(messages=None, prompt=[0.5] * 500_000)),
        ("/v1/completions", _json(messages=None, prompt=[[-1] * 10_000] * 100)),
        ("/v1/embeddings", _json(input=[0.5] * 500_000)),
        (CHAT, _json(messages=[{"role": "user", "content": [0] * 1000}] * 1000)),
        (CHAT, _json(stop=[0] * 1_000_000)),
        (CHAT, _json(**{f"a{number}": 0 for number in range(300_000)})),
        (CHAT, _json(messages=[{"role": "user", "content": "", **{f"a{n}": 0 for n in range(80)}}] * 4000)),
        (CHAT, _json(logit_bias={f"a{number}": 0 for number in range(300_000)})),
    ],
    ids=["floats", "negative", "embeddings", "parts", "stops", "unknown", "spread", "biases"],
)
def test_a_million_mistakes_are_one(server: Running, path: str, body: bytes):
    before = resident(server)
    refused(send(server, body, path), 400)
    # An error for each would take a kilobyte for each.
    assert resident(server) - before < 150 * 2**20


def resident(server: Running) -> int:
    """The most memory that the server had so far."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().split("\n")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_colons_in_texts_are_no_names(server: Running):
    refused(server.chat(":" * 100_000), 400)
    assert server.chat(json.dumps([{"a": 1}] * 100)).status_code in (200, 400)


def test_a_length_told_in_two_ways_is_refused(server: Running):
    head = (
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    status, answer = raw(server, head + b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status == 400 and answer["error"]["code"] == "ambiguous_length"


def test_a_body_in_crumbs_is_cut_off_and_one_in_pieces_is_read(server: Running):
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    )
    whole, last = json.dumps(BASE).encode(), b"0\r\n\r\n"
    crumbs = b"".join(b"1\r\n%c\r\n" % byte for byte in whole)
    status, answer = raw(server, f"{head}Connection: close\r\n\r\n".encode() + crumbs + last)
    assert status == 200 and answer["object"] == "chat.completion"
    status, answer = raw(server, f"{head}\r\n".encode() + b"1\r\n \r\n" * 10_000)
    assert status == 400 and answer["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[evil"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
    ],
)
def test_other_sites_pages_get_no_answers_made(server: Running, headers: dict[str, str], status: int):
    # Sent without a type, a body of JSON needs nobody's leave in a browser.
    answer = httpx.post(server.address + CHAT, json=BASE, headers=headers)
    assert answer.status_code == status
    own = {"Origin": server.address}
    assert httpx.post(server.address + CHAT, json=BASE, headers=own).status_code == 200
    # What changes nothing may be asked for: a link leads here.
    assert httpx.get(server.address + "/v1/models", headers=headers).status_code == 200


def test_log_probabilities_have_a_bound(server: Running):
    many = {"logprobs": True, "top_logprobs": 20, "n": 64, "max_tokens": None}
    error = refused(server.chat(**many), 400)
    assert "500,000 log-probabilities" in error["message"] and error["param"] == "logprobs"
    assert server.chat(**many | {"max_tokens": 2}).status_code == 200
    refused(
        server.post("/v1/completions", {"model": NAME, "prompt": ["a"] * 128, "logprobs": 20, "max_tokens": 999}), 400
    )
