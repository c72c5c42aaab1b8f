"""Adapters that are loaded and unloaded while a server runs: by whom, from where, and what becomes of answers under way."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ownlm.model.adapters import LoraConfig
from ownlm.store import Store

from .conftest import NAME, Running, Start, write_adapter

CHAT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the weather? " * 6}],
    "temperature": 0,
    "max_tokens": 12,
    "ignore_eos": True,
}


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters in a folder, a secret one outside of it, and links that lead there."""
    whole = tmp_path_factory.mktemp("adapters")
    folder, outside = whole / "inside", whole / "secret"
    for seed, place in enumerate((folder / "one", folder / "deep" / "two", outside)):
        write_adapter(tiny, LoraConfig(rank=4), place, seed)
    (folder / "link").symlink_to(outside)
    (folder / "hidden").mkdir()
    (folder / "hidden" / "adapter_config.json").write_bytes((outside / "adapter_config.json").read_bytes())
    (folder / "hidden" / "adapter_model.safetensors").symlink_to(outside / "adapter_model.safetensors")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "alias").symlink_to(folder / "one")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture
def serving(start_server: Start, tiny: Path, folder: Path) -> Iterator[Running]:
    with start_server(tiny, "--lora-folder", str(folder)) as running:
        yield running


def said(server: Running, model: str) -> str:
    answer = server.post("/v1/chat/completions", {"model": model, **CHAT})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def load(server: Running, name: str, path: str, **more: Any) -> httpx.Response:
    return server.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path, **more})


def unload(server: Running, name: str) -> httpx.Response:
    return server.post("/v1/unload_lora_adapter", {"lora_name": name})


def test_adapters_come_and_go(serving: Running, start_server: Start, tiny: Path, folder: Path):
    with start_server(tiny, "--lora", f"one={folder / 'one'}", "--lora", f"two={folder / 'deep' / 'two'}") as other:
        expected = {name: said(other, name) for name in (NAME, "one", "two")}
        releases = {name: other.get(f"/v1/models/{name}").json()["release"] for name in expected}
    listed = serving.get("/v1/lora_adapters").json()
    assert listed == {"object": "list", "data": [], "available": ["deep/two", "one"]}
    assert serving.post("/v1/chat/completions", {"model": "mine", **CHAT}).status_code == 404

    first = load(serving, "mine", "one")
    assert first.status_code == 200 and first.json()["release"] == releases["one"]
    assert (first.json()["id"], first.json()["parent"]) == ("mine", NAME)
    assert [model["id"] for model in serving.get("/v1/models").json()["data"]] == [NAME, "mine"]
    assert said(serving, "mine") == expected["one"]
    # Not by mistake.
    assert load(serving, "mine", "deep/two").json()["error"]["code"] == "name_taken"
    assert load(serving, NAME, "deep/two").json()["error"]["code"] == "name_taken"
    assert said(serving, "mine") == expected["one"]
    second = load(serving, "mine", "./deep//two", load_inplace=True)
    assert second.status_code == 200 and second.json()["release"] == releases["two"]
    assert (said(serving, "mine"), said(serving, NAME)) == (expected["two"], expected[NAME])
    loaded = serving.get("/v1/lora_adapters").json()["data"]
    assert loaded == [{"lora_name": "mine", "lora_path": "./deep//two", "release": releases["two"]}]

    assert unload(serving, "mine").json() == {"id": "mine", "object": "model", "deleted": True}
    for answer in (unload(serving, "mine"), serving.post("/v1/completions", {"model": "mine", "prompt": "a"})):
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"
    assert unload(serving, NAME).status_code == 400
    # The content is known by its hash: what the cache kept is right again.
    assert load(serving, "again", "alias").status_code == 200 and said(serving, "again") == expected["one"]


def test_answers_under_way_go_on_with_what_they_began_with(serving: Running):
    assert load(serving, "mine", "one").status_code == 200
    long = {"model": "mine", **CHAT, "max_tokens": 1500, "logprobs": True}
    whole = serving.post("/v1/chat/completions", long).json()
    for change in (lambda: load(serving, "mine", "deep/two", load_inplace=True), lambda: unload(serving, "mine")):
        text, fingerprints, changed = [], set(), None
        with httpx.stream("POST", f"{serving.address}/v1/chat/completions", json={**long, "stream": True}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = json.loads(line[6:])
                fingerprints.add(chunk["system_fingerprint"])
                text.append(chunk["choices"][0]["delta"].get("content") or "")
                if changed is None and len(text) > 5:
                    changed = change()
        assert changed is not None and changed.status_code == 200
        assert "".join(text) == whole["choices"][0]["message"]["content"]
        assert fingerprints == {whole["system_fingerprint"]}
        unload(serving, "mine")
        assert load(serving, "mine", "one").status_code == 200


def test_nobody_is_refused_while_one_takes_anothers_place(serving: Running):
    assert load(serving, "mine", "one").status_code == 200
    failed, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = serving.post("/v1/completions", {"model": "mine", "prompt": "a " * 800, "max_tokens": 1})
            if answer.status_code != 200:
                failed.append(answer.text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(10):
        assert load(serving, "mine", ("one", "deep/two")[number % 2], load_inplace=True).status_code == 200
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/etc", 400),
        ("../secret", 400),
        ("one/../../secret", 400),
        ("one/..", 400),
        ("link", 400),
        ("hidden", 400),
        ("circle", 400),
        ("..\\secret", 400),
        ("C:/secret", 400),
        ("file:///etc", 400),
        ("one\nx", 400),
        ("x" * 1000, 400),
        ("~", 404),
        ("nothing", 404),
        ("one/adapter_config.json", 404),
        ("empty", 400),
        (".", 400),
        ("", 400),
    ],
)
def test_no_path_leads_out_of_the_folder(shared: Running, folder: Path, path: str, status: int):
    answer = load(shared, "x", path)
    assert answer.status_code == status, answer.text
    # Nobody learns where it is.
    assert str(folder.parent) not in answer.text
    assert shared.get("/v1/lora_adapters").json()["data"] == []


@pytest.fixture(scope="module")
def shared(start_server: Start, tiny: Path, folder: Path) -> Iterator[Running]:
    with start_server(tiny, "--lora-folder", str(folder)) as running:
        yield running


def test_only_admins_may_and_only_where_a_folder_is_named(
    start_server: Start, tiny: Path, folder: Path, server: Running, tmp_path: Path
):
    for answer in (load(server, "x", "one"), unload(server, "x"), server.get("/v1/lora_adapters")):
        assert answer.status_code == 404 and answer.json()["error"]["code"] == "adapters_off"
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with Store.open(url) as store:
        keys = {role: store.keys.create(role, role)[0] for role in ("use", "review", "admin")}
    with start_server(tiny, "--lora-folder", str(folder), "--store", url) as running:
        for role, status in (("use", 403), ("review", 403), ("admin", 200)):
            running.key = keys[role]
            assert load(running, "x", "one").status_code == status
            assert running.get("/v1/lora_adapters").status_code == status
        running.key = keys["use"]
        assert unload(running, "x").status_code == 403
        assert said(running, "x")
