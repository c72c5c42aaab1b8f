"""How fast a running server answers, ours or any other that speaks OpenAI's API, measured from outside: over HTTP.

Prompts are random words, which every server takes; how many tokens they are, the server says itself. Times are those at
which the pieces of a streamed answer come in, so the network and the server's own work are in them.
"""

from __future__ import annotations

import http.client
import json
import random
import ssl
import statistics
import string
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from ..errors import OwnlmError, UserError

# Words of the prompt by which it is found out how many tokens a word is.
_TRIED_WORDS = 64


class RemoteError(OwnlmError):
    """A server did not answer as it should (exit code 1)."""

    type = "remote"


@dataclass(frozen=True)
class RemoteSpeed:
    """So many requests at once, all of about the same size.

    Attributes:
        requests: how many.
        prompt_tokens: of each prompt, by the server's count: the mean.
        tokens: of each answer: the mean.
        tokens_per_second: of all answers together, reading the prompts included.
        prompt_tokens_per_second: while no answer had more than its first token.
        first_token: seconds until the first text of an answer: the median.
        first_token_p95: what 95% of the answers did not take longer than.
        first_token_slowest: the longest.
        token: seconds from one token of an answer to its next: of each answer the mean, of all the median.
        token_p95: the wait between two pieces of text that 95% of all such waits did not exceed.
    """

    requests: int
    prompt_tokens: float
    tokens: float
    tokens_per_second: float
    prompt_tokens_per_second: float
    first_token: float
    first_token_p95: float
    first_token_slowest: float
    token: float
    token_p95: float


@dataclass
class _Answer:
    """When an answer's pieces came, and how large it was."""

    began: float
    times: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    tokens: int = 0


class Remote:
    """A server that speaks OpenAI's API.

    Args:
        url: its address, with or without ``/v1``.
        key: what it is shown as ``Authorization: Bearer``; None for a server without keys.
        timeout: seconds that it may be silent.

    Raises:
        UserError: this is no address.
    """

    def __init__(self, url: str, key: str | None = None, timeout: float = 600) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.fragment:
            raise UserError(f"'{url}' is no server's address", where="--url", hint="such as http://127.0.0.1:8000")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UserError("a key has only visible ASCII characters", where="--key")
        self.url, self._parts, self._port, self._key, self._timeout = url, parts, port, key, timeout
        self._base = parts.path.rstrip("/").removesuffix("/v1") + "/v1"

    def model(self) -> str:
        """The name of the first model that it lists.

        Raises:
            RemoteError: it lists none, or does not answer.
        """
        with self._open("GET", "/models") as answer:
            listed = _object(answer.read()).get("data")
        try:
            return str(listed[0]["id"])  # type: ignore[index]
        except (TypeError, LookupError):
            raise RemoteError("the server lists no model", where=self.url, hint="name one: MODEL --url URL") from None

    def ask(self, body: Mapping[str, Any]) -> _Answer:
        """The answer to one streamed completion.

        Raises:
            RemoteError: it failed.
        """
        answer, pieces, done = _Answer(time.perf_counter()), 0, False
        with self._open("POST", "/completions", {**body, "stream": True}) as response:
            while line := response.readline():
                if not line.startswith(b"data:"):
                    continue
                now, data = time.perf_counter(), line[5:].strip()
                if done := data == b"[DONE]":
                    break
                event = _object(data)
                if "error" in event:
                    raise RemoteError(f"an answer failed: {_told(event)}", where=self.url)
                if any(choice.get("text") for choice in event.get("choices") or ()):
                    answer.times.append(now)
                    pieces += 1
                if usage := event.get("usage"):
                    answer.prompt_tokens = int(usage.get("prompt_tokens") or 0)
                    answer.tokens = int(usage.get("completion_tokens") or 0)
        if not done or not answer.times:
            raise RemoteError("an answer ended before it was whole, or had no text", where=self.url)
        # A server that does not count sends a piece for each token, as most do.
        answer.tokens = answer.tokens or pieces
        return answer

    def _open(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> _Response:
        host, port = str(self._parts.hostname), self._port
        connection: http.client.HTTPConnection
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout)
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        opened = _Response(connection, self.url)
        with opened.errors():
            connection.request(method, self._base + path, None if body is None else json.dumps(body), headers)
            opened.response = connection.getresponse()
            if opened.response.status != 200:
                said, status = opened.response.read(10_000), opened.response.status
                connection.close()
                raise _refused(status, said, self.url)
        return opened


class _Response:
    """An answer that is being read; what goes wrong with the connection is told as one sentence."""

    response: http.client.HTTPResponse

    def __init__(self, connection: http.client.HTTPConnection, url: str) -> None:
        self._connection, self._url = connection, url

    def __enter__(self) -> _Response:
        return self

    def __exit__(self, *raised: object) -> None:
        self._connection.close()

    def read(self) -> bytes:
        with self.errors():
            return self.response.read()

    def readline(self) -> bytes:
        with self.errors():
            return self.response.readline()

    def errors(self) -> _Errors:
        return _Errors(self._url)


class _Errors:
    def __init__(self, url: str) -> None:
        self._url = url

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | http.client.HTTPException):
            said = str(error) or type(error).__name__
            raise RemoteError(f"the server does not answer: {said}", where=self._url, hint="is it running?") from None


def measure_remote(
    remote: Remote,
    model: str,
    requests: Sequence[int],
    *,
    prompt_tokens: int,
    tokens: int,
    seed: int | None = None,
) -> list[RemoteSpeed]:
    """Measures each count of requests at once, after two that nobody counts.

    Args:
        remote: the server.
        model: what it calls the model.
        requests: the counts.
        prompt_tokens: about the length of each prompt, of random words, no two alike.
        tokens: the length of each answer, at least 2, where the server knows ``ignore_eos``; else at most.
        seed: of the prompts; None draws one, so that no server remembers those of the last time.

    Raises:
        RemoteError: the server does not answer, or refuses.
    """
    words = random.Random(seed)
    options: dict[str, Any] = {"model": model, "temperature": 0, "stream_options": {"include_usage": True}}
    options |= {"ignore_eos": True}

    def prompt(count: int) -> str:
        return " ".join("".join(words.choices(string.ascii_lowercase, k=4)) for _ in range(count))

    def ask(text: str, most: int) -> _Answer:
        return remote.ask({**options, "prompt": text, "max_tokens": most})

    try:
        first = ask(prompt(_TRIED_WORDS), 2)
    except RemoteError as error:
        # OpenAI's own knows no such field, and whoever follows it closely refuses what it does not know.
        if "ignore_eos" not in error.message:
            raise
        del options["ignore_eos"]
        first = ask(prompt(_TRIED_WORDS), 2)
    each = max(first.prompt_tokens, _TRIED_WORDS) / _TRIED_WORDS
    count = max(1, round(prompt_tokens / each))
    ask(prompt(count), min(4, tokens))
    return [_speed(_at_once(ask, [prompt(count) for _ in range(number)], tokens)) for number in requests]


def _at_once(ask: Callable[[str, int], _Answer], prompts: Sequence[str], tokens: int) -> list[_Answer]:
    # All are ready before the first begins.
    gate = threading.Barrier(len(prompts))

    def one(text: str) -> _Answer:
        gate.wait()
        return ask(text, tokens)

    with ThreadPoolExecutor(len(prompts)) as threads:
        return list(threads.map(one, prompts))


def _speed(answers: Sequence[_Answer]) -> RemoteSpeed:
    began, ended = min(answer.began for answer in answers), max(answer.times[-1] for answer in answers)
    first = sorted(answer.times[0] - answer.began for answer in answers)
    steps = [(answer.times[-1] - answer.times[0]) / max(1, answer.tokens - 1) for answer in answers]
    waits = sorted(after - before for answer in answers for before, after in zip(answer.times, answer.times[1:]))
    written, read = sum(answer.tokens for answer in answers), sum(answer.prompt_tokens for answer in answers)
    return RemoteSpeed(
        requests=len(answers),
        prompt_tokens=read / len(answers),
        tokens=written / len(answers),
        tokens_per_second=written / (ended - began),
        prompt_tokens_per_second=read / max(answer.times[0] - began for answer in answers),
        first_token=statistics.median(first),
        first_token_p95=_p95(first),
        first_token_slowest=first[-1],
        token=statistics.median(steps),
        token_p95=_p95(waits) if waits else 0.0,
    )


def _p95(ordered: Sequence[float]) -> float:
    """The smallest of these that 95% do not exceed."""
    return ordered[-(-95 * len(ordered) // 100) - 1]


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}


def _told(value: Mapping[str, Any]) -> str:
    error = value.get("error")
    return " ".join(str(error.get("message") if isinstance(error, dict) else error).split())[:300]


def _refused(status: int, said: bytes, url: str) -> RemoteError:
    value = _object(said)
    told = _told(value) if "error" in value else " ".join(said.decode(errors="replace").split())[:300]
    hint = {401: "give a key with --key or $OWNLM_API_KEY", 404: "name a model that it serves"}.get(status)
    return RemoteError(f"the server refused with {status}: {told}", where=url, hint=hint)
