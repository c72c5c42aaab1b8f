"""What tests of every room share."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.tokens.dataset import read_dataset
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.tokens.train_bpe import train_tokenizer

WORDS = [
    "the",
    "a",
    "model",
    "reads",
    "text",
    "learns",
    "token",
    "by",
    "word",
    "and",
    "writes",
    "what",
    "it",
    "has",
    "seen",
    "before",
    "while",
    "loss",
    "falls",
]


def sentences(count: int, seed: int) -> list[str]:
    """Sentences of a small language, drawn with a seed."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 14))).capitalize() + "." for _ in range(count)]


def pytest_configure() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would every command that the tests interrupt."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: an archive holds the time it was made at, and each process would call the test otherwise."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets that lies beside the project; a test that needs it is skipped without it."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder (../shared/data) is not here")
    return folder


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.jsonl and held.jsonl (texts), chats.jsonl (conversations), tokenizer/ and base/ (a tiny Llama)."""
    folder = tmp_path_factory.mktemp("corpus")

    def write(name: str, rows: list[Any]) -> None:
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("train.jsonl", [{"text": " ".join(sentences(3, seed))} for seed in range(60)])
    write("held.jsonl", [{"text": " ".join(sentences(3, 1000 + seed))} for seed in range(8)])
    chats = []
    for seed in range(40):
        question, answer = sentences(2, 2000 + seed)
        chats.append({"prompt": question, "response": answer})
    write("chats.jsonl", chats)
    tokenizer = train_tokenizer(sentences(400, 7), 300)
    (folder / "tokenizer").mkdir()
    tokenizer.save(folder / "tokenizer")
    shape = {"family": "llama", "layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "vocab_size": 320}
    base = random_model(config_from_user({**shape, "max_positions": 128}), 3)
    save_model_folder(base, folder / "base", tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head, with a WordPiece tokenizer that frames texts as BERT does."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = tokenizers.normalizers.BertNormalizer()
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    backend.train_from_iterator([*sentences(400, 7), "who? what! 0 1 2 3 4 5 6 7 8 9 café naïve"], trainer)
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    kinds = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    tokenizer = Tokenizer(backend, names=dict(zip(kinds, specials, strict=True)))
    # Weights large enough for logits to differ.
    shape = {"family": "bert", "layers": 2, "width": 32, "heads": 4, "vocab_size": tokenizer.vocab_size}
    shape |= {"max_positions": 64}
    model = random_model(config_from_user({**shape, "head": "none", "initializer_range": 0.15}), 5)
    folder = tmp_path_factory.mktemp("encoder") / "model"
    save_model_folder(model, folder, tokenizer=tokenizer)
    return folder


@pytest.fixture
def make_scorer(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A scorer's folder: a tiny encoder with random weights that tells harmless from toxic, and a report."""

    def make(name: str, **report: Any) -> Path:
        changes = {"head": "classify", "labels": ("harmless", "toxic"), "problem": "single"}
        config = read_config(encoder).model_copy(update=changes)
        model = load_model_folder(encoder, config=config, seed=3)
        folder = tmp_path_factory.mktemp("scorer") / "model"
        save_model_folder(model, folder, tokenizer=load_tokenizer(encoder))
        whole = {"name": name, "measures": "how bad it is", "positive": "toxic", **report}
        (folder / "scorer.json").write_text(json.dumps(whole))
        return folder

    return make


@pytest.fixture
def settings(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A run of a tiny GPT-2 on the texts."""
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    return {
        "out": str(tmp_path / "run"),
        "model": {"family": "gpt2", "layers": 2, "width": 32, "heads": 2, "vocab_size": 320, "max_positions": 64},
        "tokenizer": str(corpus / "tokenizer"),
        "data": {"train": str(corpus / "train.jsonl"), "validation": str(corpus / "held.jsonl")},
        "batch_tokens": 256,
        "steps": 12,
        "precision": "fp32",
        "optimizer": {"lr": 3e-3},
        "checkpoint": {"every": 4},
        "validate": {"every": 6},
    }


@pytest.fixture
def chat_settings(corpus: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """A LoRA run of the tiny Llama on the conversations."""
    kept = {key: value for key, value in settings.items() if key not in ("model", "tokenizer")}
    return kept | {
        "base": str(corpus / "base"),
        "adapter": {"rank": 4},
        "objective": {"kind": "chat"},
        "data": {"train": str(corpus / "chats.jsonl")},
    }


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out a run's page of curves, which takes twice as long to draw as these runs take to train."""
    for module in ("result", "folder"):
        monkeypatch.setattr(f"ownlm.train.{module}.write_training_report", lambda folder: folder / "report.html")


@pytest.fixture(scope="session")
def accounts() -> Callable[[Path], Accounts]:
    """Reads a built data set, and checks that each of its numbers is what its files hold."""

    def check(out: Path) -> Accounts:
        import pyarrow.dataset

        manifest = json.loads((out / "manifest.json").read_text())
        rows = pyarrow.dataset.dataset(out / "documents").to_table().to_pylist()
        failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().split("\n") if line]
        kept = [row for row in rows if row["reason"] is None]
        documents = manifest["documents"]
        assert documents["read"] == documents["kept"] + sum(documents["dropped"].values()) == len(rows) + len(failures)
        assert documents["kept"] == len(kept)
        for name, source in manifest["sources"].items():
            assert source["documents"]["kept"] == sum(row["source"] == name for row in kept)
            assert source["documents"]["read"] == sum(item["source"] == name for item in rows + failures)
        for split in ("train", "validation", "test"):
            mine = [row for row in kept if row["split"] == split]
            counted = manifest["splits"].get(split, {"documents": 0, "characters": 0})
            assert counted["documents"] == len(mine)
            assert counted["characters"] == sum(len(row["text"]) for row in mine)
        for column in ("languages", "lengths"):
            assert sum(manifest[column]["kept"].values()) == len(kept)
            assert sum(manifest[column]["dropped"].values()) == len(rows) - len(kept)
        for row in kept:
            if row["messages"] is not None:
                assert "\n\n".join(m["content"] for m in json.loads(row["messages"])) == row["text"]
        if (out / "dataset.json").exists():
            for split, parts in read_dataset(out).splits.items():
                tokens = [TokenDataset(part.folder) for part in parts]
                assert sum(dataset.total_tokens for dataset in tokens) == manifest["splits"][split]["tokens"]
                assert sum(map(len, tokens)) == manifest["splits"][split]["documents"]
        return Accounts(manifest, rows, failures)

    return check


@dataclass(frozen=True)
class Accounts:
    """A built data set: its manifest, every document's row, and what could not be read."""

    manifest: dict[str, Any]
    rows: list[dict[str, Any]]
    failures: list[dict[str, Any]]

    def of(self, file: str) -> dict[str, Any]:
        """The row of the one document of a file."""
        (row,) = (row for row in self.rows if row["file"] == file)
        return row


class Postgres:
    """A server of this test run's own, with a user who needs a password."""

    password = "pa ss/w#rd"
    quoted = "pa%20ss%2Fw%23rd"

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries = binaries
        self._folder = folder
        # The server refuses to run as root.
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(folder, "nobody", "nogroup")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        return f"postgresql://reader:{self.quoted}@127.0.0.1:{self.port}/postgres"

    def start(self, *, fsync: bool = False) -> None:
        """Makes the database and starts the server; without fsync, since hardly anything here outlives the tests."""
        secret = self._folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644)
        self._run("initdb", "-D", "db", "-U", "reader", "--auth=scram-sha-256", "--pwfile=password", "-E", "UTF8", "-N")
        self._options = (
            f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c fsync={'on' if fsync else 'off'}"
        )
        self.start_again()

    def start_again(self) -> None:
        """Starts the server on what it left, stopped or killed."""
        self._run("pg_ctl", "-D", "db", "-w", "-l", "log", "-o", self._options, "start")

    def kill(self) -> None:
        """Kills the server and all its processes, as a machine would that loses power."""
        postmaster = int((self._folder / "db" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for process in (postmaster, *map(int, children)):
            os.kill(process, signal.SIGKILL)
        while any(Path(f"/proc/{process}").exists() for process in (postmaster, *children)):
            time.sleep(0.02)
        (self._folder / "db" / "postmaster.pid").unlink()

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "db", "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        # Not captured: the server would keep a pipe open.
        with (self._folder / "output").open("ab") as output:
            subprocess.run(command, cwd=self._folder, check=True, stdout=output, stderr=output, **self._user)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    pytest.importorskip("psycopg")
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    binaries = next((place for place in places if (place / "pg_ctl").exists()), None)
    if binaries is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    # A socket's path must be short, and the folder another user's.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    folder.chmod(0o755)
    server = Postgres(binaries, folder)
    try:
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
