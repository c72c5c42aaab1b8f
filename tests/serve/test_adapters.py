"""Adapters that clients choose as models of their own, by OpenAI's client against a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from ownlm.api import load_model, load_tokenizer
from ownlm.engine.engine import Engine
from ownlm.engine.requests import SamplingOptions
from ownlm.model.adapters import LoraConfig

from .conftest import NAME, Running, Start, write_adapter

MESSAGES: Any = [{"role": "user", "content": "What is the weather? " * 6}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of different ranks and targets."""
    loras = {"support": LoraConfig(rank=4), "legal/de": LoraConfig(rank=3, targets=["q_proj", "down_proj"])}
    folders = {name: tmp_path_factory.mktemp("adapter") for name in loras}
    for seed, (name, lora) in enumerate(loras.items()):
        write_adapter(tiny, lora, folders[name], seed)
    return folders


@pytest.fixture(scope="module")
def expected(tiny: Path, adapters: dict[str, Path]) -> dict[str, str]:
    """What the model says with each adapter merged, and without."""
    options = SamplingOptions(temperature=0, max_tokens=12, ignore_eos=True)
    said = {}
    for name, folder in {NAME: None, **adapters}.items():
        model = load_model(tiny, dtype="float32", device="cpu", adapter=folder)
        said[name] = Engine(model, load_tokenizer(tiny)).chat(MESSAGES, options).text
    assert len(set(said.values())) == 3
    return said


@pytest.fixture(scope="module")
def serving(start_server: Start, tiny: Path, adapters: dict[str, Path]) -> Iterator[Running]:
    options = [part for name, folder in adapters.items() for part in ("--lora", f"{name}={folder}")]
    with start_server(tiny, *options) as running:
        yield running


def test_each_model_answers_with_its_adapter_all_at_once(serving: Running, expected: dict[str, str]):
    async def one(client: openai.AsyncOpenAI, name: str) -> tuple[str, str, str | None]:
        stream = await client.chat.completions.create(model=name, messages=MESSAGES, stream=True, **GREEDY)
        chunks = [chunk async for chunk in stream]
        assert len({(chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        return text, chunks[0].model, chunks[0].system_fingerprint

    async def all_at_once() -> list[tuple[str, str, str | None]]:
        async with serving.async_client() as client:
            return await asyncio.gather(*(one(client, name) for name in [*expected] * 3))

    answers = asyncio.run(all_at_once())
    assert [(text, name) for text, name, _ in answers] == [(expected[name], name) for name in [*expected] * 3]
    releases = {name: serving.client().models.retrieve(name).model_dump()["release"] for name in expected}
    assert len(set(releases.values())) == 3
    assert [release for _, _, release in answers] == [releases[name] for name in [*expected] * 3]


def test_a_completion_with_an_adapter(serving: Running, tiny: Path, adapters: dict[str, Path]):
    answer = serving.client().completions.create(model="support", prompt="The weather", **GREEDY)
    engine = Engine(load_model(tiny, dtype="float32", device="cpu", adapter=adapters["support"]), load_tokenizer(tiny))
    options = SamplingOptions(temperature=0, max_tokens=12, ignore_eos=True)
    assert answer.choices[0].text == engine.generate(["The weather"], options)[0].text
    assert answer.model == "support"


def test_models_lists_them_with_their_parent(serving: Running):
    listed = [model.model_dump() for model in serving.client().models.list()]
    assert [(one["id"], one["parent"]) for one in listed] == [(NAME, None), ("support", NAME), ("legal/de", NAME)]
    assert listed[1]["capabilities"] == ["chat", "completions"]
    assert serving.client().models.retrieve("legal/de").id == "legal/de"


def test_what_is_no_model_and_what_an_adapter_cannot(serving: Running):
    with pytest.raises(
        openai.NotFoundError, match="there is no model 'suport' here, only 'tiny', 'support', 'legal/de'"
    ):
        serving.client().chat.completions.create(model="suport", messages=MESSAGES)
    with pytest.raises(openai.BadRequestError, match="cannot do embeddings"):
        serving.client().embeddings.create(model="support", input="a")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["support"], "a name and a folder were expected"),
        (["a=x", "a=y"], "two adapters are called 'a'"),
        (["tiny=x"], "the model itself is called 'tiny'"),
        (["a=/nowhere"], "there is no such folder"),
    ],
)
def test_a_wrong_adapter_is_told_before_anything_is_served(tiny: Path, options: list[str], message: str):
    command = [sys.executable, "-m", "ownlm", "serve", str(tiny), "--port", "0", "--name", NAME]
    for one in options:
        command += ["--lora", one]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert message in ended.stderr
