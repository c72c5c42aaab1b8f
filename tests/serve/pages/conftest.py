"""Real servers of a tiny model, and a real headless browser that notes everything it does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.model.checkpoint import random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.tokens.tokenizer import load_tokenizer

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")


@pytest.fixture(scope="session")
def talker(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama that says words, without sense and without end."""
    tokenizer = load_tokenizer(corpus / "base")
    shape = {"family": "llama", "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "vocab_size": 320}
    model = random_model(config_from_user({**shape, "max_positions": 8192, "tied_head": False}), 3)
    weights = dict(model.named_parameters())
    texts = [tokenizer.decode([token]) if token < tokenizer.vocab_size else "" for token in range(320)]
    words = torch.tensor([text.isascii() and text.strip(" .").isalpha() for text in texts])
    with torch.no_grad():
        # The stream's first channel is the same everywhere, and no token but words may follow it.
        weights["embedding.token.weight"][:, 0] = 1.0
        for layer in (0, 1):
            weights[f"layers.{layer}.attention.output.weight"][0] = 0.0
            weights[f"layers.{layer}.feedforward.down.weight"][0] = 0.0
        weights["head.weight"][:, 0] = torch.where(words, 0.0, -100.0)
    folder = tmp_path_factory.mktemp("talker") / "talker"
    save_model_folder(model, folder, tokenizer=tokenizer)
    return folder


class Server:
    """A process of ``ownlm serve``."""

    def __init__(self, model: Path, *options: str, key: str = "", port: int = 0) -> None:
        self.model, self.options, self.key = model, options, key
        self.start(port)

    def start(self, port: int = 0) -> None:
        """Starts it, and waits until it is ready."""
        command = [
            sys.executable,
            "-m",
            "ownlm",
            "serve",
            str(self.model),
            "--port",
            str(port),
            "--name",
            "talker",
            "--json",
        ]
        environment = {**os.environ, "OWNLM_API_KEY": self.key, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [*command, *self.options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server did not start"
        self.address: str = json.loads(line)["address"]
        self.port = int(self.address.rsplit(":", 1)[1])

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def get(self, path: str, **headers: str) -> tuple[int, Any, str]:
        """The status, headers and body of an answer."""
        return self.ask(urllib.request.Request(self.address + path, headers=headers))

    def post(self, path: str, body: bytes, **headers: str) -> tuple[int, Any, str]:
        return self.ask(urllib.request.Request(self.address + path, body, headers, method="POST"))

    def ask(self, request: urllib.request.Request) -> tuple[int, Any, str]:
        class Stay(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: Any, **__: Any) -> None:
                return None

        try:
            with urllib.request.build_opener(Stay).open(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def running(self) -> float:
        """How many answers the engine works on."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        lines = self.get("/metrics", **headers)[2].split("\n")
        return float(next(line for line in lines if line.startswith("ownlm_requests_running ")).split()[1])


@pytest.fixture(scope="session")
def serve(talker: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of the tiny model: ``serve("--store", url, key=...)``."""
    servers: list[Server] = []

    def start(*options: str, key: str = "", port: int = 0) -> Server:
        servers.append(Server(talker, *options, key=key, port=port))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def server(serve: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server without keys that keeps conversations; ``server.store`` is where."""
    store = tmp_path_factory.mktemp("served") / "store.db"
    started = serve("--store", str(store), "--keep-conversations")
    started.store = store  # type: ignore[attr-defined]
    return started


# For a module, not a session: while it lives, playwright's loop runs in this thread, and no other test's could.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser of the system's."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no chromium here to look at the page with")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """What a browser did: its complaints, and the addresses it asked for."""

    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    """Parts of complaints that a test has provoked."""

    def check(self, address: str) -> None:
        unexpected = [said for said in self.complaints if not any(part in said for part in self.expected)]
        assert unexpected == []
        assert [asked for asked in self.addresses if not asked.startswith((address + "/", "blob:", "data:"))] == []


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page in a browser window of its own: ``visit(server, path, width=..., scheme=...)``.

    The page's ``watched`` says what it did; at the test's end there must be no complaint in its console, and no request
    to anywhere but the server.
    """
    opened: list[tuple[Any, str, Watched]] = []

    def open_page(
        server: Server, path: str = "/", *, width: int = 1280, height: int = 800, scheme: str = "light", **options: Any
    ) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        context.set_default_timeout(30_000)
        page = context.new_page()
        watched = page.watched = Watched()
        opened.append((context, server.address, watched))

        def listen(tab: Any) -> None:
            tab.on("console", lambda said: said.type in ("error", "warning") and watched.complaints.append(said.text))
            tab.on("pageerror", lambda error: watched.complaints.append(str(error)))

        listen(page)
        context.on("page", listen)
        context.on("request", lambda request: watched.addresses.append(request.url))
        page.goto(server.address + path)
        return page

    yield open_page
    for context, address, watched in opened:
        context.close()
        watched.check(address)


@pytest.fixture
def chat(visit: Callable[..., Any], server: Server) -> Callable[..., Any]:
    """Opens the chat, ready to be written in, with short answers that are the same each time unless said otherwise."""

    def open_chat(on: Server | None = None, settings: dict[str, Any] | None = None, **options: Any) -> Any:
        page = visit(on or server, **options)
        chosen = {"system": "", "temperature": 1, "top_p": 1, "max_tokens": 12, "seed": 5, **(settings or {})}
        page.evaluate("values => localStorage.setItem('ownlm.settings', JSON.stringify(values))", chosen)
        page.reload()
        page.wait_for_selector("#model-name >> text=talker")
        return page

    return open_chat


@pytest.fixture
def say() -> Callable[..., None]:
    """Sends a message and waits for the whole answer."""

    def send(page: Any, text: str) -> None:
        page.fill("#prompt", text)
        page.keyboard.press("Enter")
        wait_for_answer(page)

    return send


def wait_for_answer(page: Any) -> None:
    """Waits until nothing is being answered."""
    page.wait_for_selector("#stop", state="hidden")
    page.wait_for_selector("#send", state="visible")


@pytest.fixture
def answered() -> Callable[[Any], None]:
    """Waits until nothing is being answered."""
    return wait_for_answer


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], None]:
    """Waits until something is so; a page's own waiting would need a policy that lets it evaluate texts."""

    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, "it has not come to be"
            time.sleep(0.02)

    return wait
