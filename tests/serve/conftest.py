"""A real server in a process of its own, over a socket, with a tiny model."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, trainers

from ownlm.api import load_model
from ownlm.model.adapters import LoraConfig, adapter_layers, attach, peft_state
from ownlm.model.checkpoint import random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.tokens.tokenizer import Tokenizer

TEXT = 'What is the weather in Ulm? {"city": "Ulm", "days": 3} <tool_call> </tool_call> Größer als gedacht. 🙂 你好'
NAME = "tiny"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with random weights that speaks ChatML over all bytes, with room for 2,048 tokens."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([TEXT], trainer)
    tokenizer = Tokenizer.from_parts(backend, eos="<|im_end|>").with_explicit_template()
    shape = {"family": "llama", "layers": 2, "width": 48, "heads": 6, "kv_heads": 2, "head_width": 8}
    shape |= {"vocab_size": 320, "max_positions": 2048, "initializer_range": 0.3}
    folder = tmp_path_factory.mktemp("tiny") / "model"
    save_model_folder(random_model(config_from_user(shape), 1), folder, tokenizer=tokenizer)
    return folder


def write_adapter(model: Path, lora: LoraConfig, folder: Path, seed: int) -> None:
    """An adapter that changes what a model says, as PEFT would save it."""
    adapted = load_model(model, dtype="float32", device="cpu")
    attach(adapted, lora, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in adapter_layers(adapted).values():
            layer.b.copy_(torch.randn(layer.b.shape, generator=generator) * 0.3)
    tensors, config = peft_state(adapted, lora, "tiny")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({one: tensor.contiguous() for one, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))


@dataclass
class Running:
    """A server that answers."""

    process: subprocess.Popen[str]
    address: str
    log_path: Path
    key: str = ""
    sent: dict[str, Any] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(
            base_url=f"{self.address}/v1", api_key=self.key or "none", **{"max_retries": 0, "timeout": 60, **options}
        )

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            base_url=f"{self.address}/v1", api_key=self.key or "none", **{"max_retries": 0, "timeout": 60, **options}
        )

    def get(self, path: str, **options: Any) -> httpx.Response:
        return httpx.get(self.address + path, headers=self.headers, timeout=60, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return httpx.post(self.address + path, json=body, headers=self.headers, timeout=60, **options)

    def chat(self, text: str = "Hello", **options: Any) -> httpx.Response:
        """A short greedy chat."""
        body = {"model": NAME, "messages": [{"role": "user", "content": text}], "max_tokens": 4, "temperature": 0}
        return self.post("/v1/chat/completions", body | options)

    def metric(self, name: str) -> float:
        """The sum over a counter's or a gauge's labels."""
        lines = self.get("/metrics").text.split("\n")
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))

    def until(self, name: str, value: float) -> None:
        """Waits until a metric has a value."""
        for _ in range(600):
            if self.metric(name) == value:
                return
            time.sleep(0.05)
        raise AssertionError(f"{name} is {self.metric(name)} and not {value}")

    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().split("\n") if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


Start = Callable[..., contextlib.AbstractContextManager[Running]]


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts ``ownlm serve MODEL ...`` and waits until it says where it is; killed at the end if it still runs."""

    @contextlib.contextmanager
    def start(
        model: Path | str, *arguments: str, key: str = "", name: str = NAME, home: Path | None = None
    ) -> Iterator[Running]:
        folder = tmp_path_factory.mktemp("server")
        command = [sys.executable, "-m", "ownlm", "serve", str(model), "--port", "0", "--json"]
        command += ["--name", name, "--dtype", "float32", "--device", "cpu", *arguments]
        environment = {**os.environ, "OWNLM_API_KEY": key, "OMP_NUM_THREADS": "1", "OWNLM_HOME": str(home or folder)}
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "log").read_text()
            said = json.loads(line)
            assert "address" in said, said
            yield Running(process, said["address"], folder / "log", key, said)
        finally:
            process.kill()
            process.wait()

    return start


@pytest.fixture(scope="session")
def server(start_server: Start, tiny: Path) -> Iterator[Running]:
    """One server without keys that every test may ask, and none may stop."""
    with start_server(tiny) as running:
        yield running
