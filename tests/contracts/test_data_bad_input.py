"""Bad input, through the command line as a user meets it: each thing that is wrong is one named entry and the build
goes on, or it is one sentence; interrupted, killed, or out of disk, nothing partial looks complete and the same command
goes on to the same bytes."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

WORDS = [
    a + b
    for a in ["bridge", "river", "stone", "letter", "garden", "window"]
    for b in ["ing", "er", "ly", "ness", "ful", "dom"]
]
COMMAND = [sys.executable, "-m", "ownlm", "data", "build"]
PASSWORD = "pa55-open-sesame"


def prose(draw: random.Random, count: int) -> str:
    return " ".join(draw.choices(WORDS, k=count)) + "."


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert "Traceback" not in done.stdout + done.stderr and "unexpected" not in done.stdout + done.stderr
    return done


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def with_password(archive: bytes) -> bytes:
    """The archive with the flag that says that its one member is encrypted."""
    content = bytearray(archive)
    content[6] |= 1
    content[content.rindex(b"PK\1\2") + 8] |= 1
    return bytes(content)


def tarred(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def parquet(draw: random.Random) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [prose(draw, 50) for _ in range(60)]}), file)
    return file.getvalue()


def web_records(draw: random.Random) -> list[bytes]:
    records = []
    for number in range(4):
        page = f"<html><body><article><p>{prose(draw, 120)}</p></article></body></html>".encode()
        body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page
        head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://x.org/{number}\r\n"
        head += f"WARC-Record-ID: <urn:uuid:{number}>\r\nContent-Length: {len(body)}\r\n\r\n"
        records.append(head.encode() + body + b"\r\n\r\n")
    return records


def bad_files(draw: random.Random) -> dict[str, tuple[bytes, list[str]]]:
    """For each file its bytes, and the reasons of the failures it gives."""
    text = prose(draw, 400).encode()
    web = web_records(draw)
    damaged = bytearray(b"".join(web))
    damaged[len(web[0]) + 3 : len(web[0]) + 50] = b"\xee" * 47
    tricks = dict.fromkeys(("../up.txt", "/abs.txt", "C:\\win.txt", "in/../../b.txt", "..\\w.txt"), text)
    deep = text
    for _ in range(6):
        deep = zipped({"x.zip": deep})
    link_out = [(link("passwd.txt", "/etc/passwd"), b""), (tarfile.TarInfo("../up.txt"), text)]
    page = b"<html><body>"
    return {
        **{f"empty{suffix}": (b"", ["empty"]) for suffix in (".txt", ".pdf", ".jsonl", ".zip", ".gz", ".warc", ".csv")},
        "blank.txt": (b" \n\t\n", ["empty"]),
        "cut.txt.gz": (gzip.compress(text)[:-60], ["truncated"]),
        "cut.txt.bz2": (bz2.compress(text)[:-60], ["truncated"]),
        "cut.txt.xz": (lzma.compress(text)[:-60], ["truncated"]),
        "cut.zip": (zipped({"a.txt": text})[:-30], ["truncated"]),
        "cut.docx": (zipped({"word/document.xml": text})[:-30], ["truncated"]),
        "cut.pdf": (b"%PDF-1.4\n1 0 obj\n<< /Type /Cat", ["damaged"]),
        "cut.parquet": (parquet(draw)[:-900], ["truncated"]),
        "a-pdf.txt": (b"%PDF-1.4\nno more", ["damaged"]),
        "a-zip.jsonl": (zipped({"inner.txt": text}), []),
        "a-page.pdf": (page + b"<p>" + text, []),
        "binary.txt": (draw.randbytes(3000), ["mislabelled"]),
        "binary.dat": (draw.randbytes(3000), ["unsupported"]),
        "half.jsonl": (
            b'{"text": "lone \\ud800"}\n{"text": "\xff"}\n{"text": "cut',
            ["not-utf8", "not-utf8", "truncated"],
        ),
        "odd.jsonl": (
            b'[]\n5\n{}\n{"text": 5}\n' + b"[" * 100_000,
            ["invalid-json"] * 2 + ["unknown-columns", "damaged-record", "invalid-json"],
        ),
        "latin1.txt": (b"caf\xe9 " + text, []),
        "utf16.txt": (text.decode().encode("utf-16"), []),
        "locked.zip": (with_password(zipped({"secret.txt": text})), ["encrypted"]),
        "locked.docx": (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le") * 40,
            ["encrypted"],
        ),
        "tricks.zip": (zipped({**tricks, "fine.txt": text}), ["unsafe-path"] * 5),
        "tricks.tar.gz": (tarred(link_out), ["unsafe-path"] * 2),
        "deep.zip": (deep, ["too-deep"]),
        "bomb.txt.gz": (gzip.compress(b"a" * 40_000_000), ["archive-bomb"]),
        "bombs.zip": (zipped({f"{n}.txt": b"a" * 40_000_000 for n in range(2)}), ["archive-bomb"] * 2),
        "damaged.warc": (bytes(damaged), ["damaged-record"]),
        "cut.warc.gz": (b"".join(map(gzip.compress, web))[:-50], ["truncated"]),
        "deep.html": (page + b"<div>" * 100_000 + text, []),
        "attributes.html": (page + b"<p " + b" ".join(b"a%d=1" % n for n in range(40_000)) + b">" + text, []),
        "angles.html": (page + b"<" * 400_000, []),
        "comments.html": (page + b"<!--" * 100_000 + text, ["no-text"]),
        "scripts.html": (page + b"<script>var x</script>", ["no-text"]),
        "new\nline \"'`<b>&amp;[x](y)|.txt": (b"", ["empty"]),
        "😀" * 60 + ".txt": (b"", ["empty"]),
    }


@pytest.fixture(scope="module")
def awful(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    """A folder of bad files, and for each the reasons that are expected."""
    folder = tmp_path_factory.mktemp("awful")
    draw = random.Random(0)
    expected = {}
    for name, (content, reasons) in bad_files(draw).items():
        (folder / name).write_bytes(content)
        expected[name] = reasons
    for number in range(20):
        (folder / f"good-{number:02}.txt").write_text(prose(draw, 60))
    nested = "<div>" * 2000 + "".join(f"<p>{prose(draw, 4)}" for _ in range(5_000))
    (folder / "nested.html").write_text(f"<html><body>{nested}")
    # Every line was decoded wrongly in another way.
    broken = "".join(f"\u00c3{chr(0xA0 + i % 30)}x {'y' * (i % 7)}\n" for i in range(1_000_000))
    (folder / "slow.txt").write_text(broken)
    (folder / "dangling.txt").symlink_to("nowhere")
    (folder / "loop.txt").symlink_to(folder / "loop.txt")
    (folder / "within").mkdir()
    (folder / "within" / "around").symlink_to(folder)
    os.mkfifo(folder / "pipe.txt")
    expected |= {"dangling.txt": ["missing"], "loop.txt": ["symlink-loop"], "within/around": ["symlink-loop"]}
    return folder, expected | {"pipe.txt": ["unsupported"], "nested.html": [], "slow.txt": ["time-limit"]}


def write_recipe(path: Path, folder: Path, **changes: Any) -> Path:
    plain: dict[str, Any] = {"sources": [{"name": "all", "path": str(folder)}], "filters": {"preset": "none"}}
    plain |= {"limits": {"seconds": 3}, "split": {"validation": 0.1, "test": 0.1}, "tokenizer": {"vocab_size": 500}}
    path.write_text(json.dumps(plain | changes))
    return path


@pytest.fixture(scope="module")
def survived(
    awful: tuple[Path, dict[str, list[str]]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[str]]:
    place = tmp_path_factory.mktemp("survived")
    done = run(write_recipe(place / "r.yaml", awful[0]), "--out", place / "out", "--workers", "2", "--json")
    return place / "out", done


def test_everything_bad_is_one_named_entry_and_the_build_goes_on(
    awful: tuple[Path, dict[str, list[str]]],
    survived: tuple[Path, subprocess.CompletedProcess[str]],
    accounts: Callable[[Path], Any],
) -> None:
    out, done = survived
    assert done.returncode == 0, done.stderr
    built = accounts(out)
    found: dict[str, list[str]] = {name: [] for name in awful[1]}
    for failure in built.failures:
        found[failure["file"].split("!")[0]].append(failure["reason"])
        assert failure["message"] and "\n" not in failure["message"]
    assert found == awful[1]
    assert sum(row["file"].startswith("good-") for row in built.rows if row["reason"] is None) == 20
    assert {"tricks.zip!fine.txt", "a-page.pdf", "deep.html", "utf16.txt"} <= {row["file"] for row in built.rows}
    answer = json.loads(done.stdout)
    assert answer["documents"] == built.manifest["documents"]
    assert answer["failures"]["count"] == len(built.failures)
    assert not (out.parent / "up.txt").exists() and not Path("/abs.txt").exists()
    # Names reach the page and the card as text.
    assert "<b>&amp;[x]" not in (out / "report.html").read_text()
    assert "`<b>" not in (out / "README.md").read_text()


def test_strict_stops_at_one_of_them(awful: tuple[Path, dict[str, list[str]]], tmp_path: Path) -> None:
    done = run(write_recipe(tmp_path / "r.yaml", awful[0]), "--out", tmp_path / "out", "--strict", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["where"].split(":")[0].split("!")[0] in awful[1] and "--strict" in error["hint"]
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_password_is_written_nowhere(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://me:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/shop"
        source = {"name": "a", "sql": "$SHOP", "query": "SELECT 1"}
        recipe = write_recipe(tmp_path / "r.yaml", tmp_path, sources=[source])
        done = run(recipe, "--out", tmp_path / "out", SHOP=url)
    assert done.returncode == 1 and "the database cannot be reached" in done.stderr
    assert PASSWORD not in done.stderr + done.stdout
    assert not any(PASSWORD.encode() in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())


@pytest.fixture
def someone() -> list[str]:
    """What stands before a command so that it may not read or write everything."""
    if os.geteuid():
        return []
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    # Python below a folder that it may not enter starts all the same, and takes what it finds for its own library.
    tried = [*nobody, sys.executable, "-c", f"import ownlm, sys; sys.exit(sys.base_prefix != {sys.base_prefix!r})"]
    if not shutil.which("setpriv") or subprocess.run(tried, cwd="/", stderr=subprocess.DEVNULL).returncode:
        pytest.skip("root may read everything, and nobody else may run this Python")
    return nobody


def test_what_may_not_be_read_or_written(someone: list[str], tmp_path: Path) -> None:
    def build() -> subprocess.CompletedProcess[str]:
        command = [*someone, *COMMAND, str(recipe), "--out", str(tmp_path / "out")]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")

    if someone:
        for folder in (tmp_path, *tmp_path.parents):
            if folder.owner() == "root" and folder.stat().st_mode & 0o777 == 0o700:
                folder.chmod(0o755)
    draw = random.Random(0)
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.txt").write_text(prose(draw, 50))
    (tmp_path / "in" / "1.txt").chmod(0)
    recipe = write_recipe(tmp_path / "r.yaml", tmp_path / "in", tokenizer=None)
    (tmp_path / "out").mkdir(mode=0o555)
    refused = build()
    assert refused.returncode == 1 and "cannot write: permission denied" in refused.stderr
    (tmp_path / "out").chmod(0o777)
    assert build().returncode == 0
    (failure,) = map(json.loads, (tmp_path / "out" / "failures.jsonl").read_text().splitlines())
    assert (failure["file"], failure["reason"]) == ("1.txt", "unreadable")


WRONG = {
    "no_such_file": (None, "there is no such file", ""),
    "empty": ("# nothing\n", "this recipe is empty", ""),
    "a_list": ("- a\n", "a mapping of keys to values was expected", ""),
    "not_yaml": ("a: [1\n", "not valid YAML", ""),
    "binary": ("a\0b", "binary", ""),
    "unknown_key": ({"filter": {}}, "unknown key 'filter'", "'filters'"),
    "unknown_in_source": ({"sources": [{"name": "a", "pth": "x"}]}, "unknown key 'pth'", "'path'"),
    "unknown_in_columns": (
        {"sources": [{"name": "a", "path": "x", "columns": {"txt": "b"}}]},
        "unknown key 'txt'",
        "'text'",
    ),
    "unknown_in_limits": ({"limits": {"second": 1}}, "unknown key 'second'", "'seconds'"),
    "unknown_in_split": ({"split": {"valid": 0.1}}, "unknown key 'valid'", "'validation'"),
    "unknown_in_tokenizer": ({"tokenizer": {"vocabsize": 9}}, "unknown key 'vocabsize'", "'vocab_size'"),
    "unknown_in_set": ({"decontaminate": [{"name": "a", "pth": "x"}]}, "unknown key 'pth'", "'path'"),
    "wrong_type": ({"duplicates": {"near": "high"}}, "should be a valid number", ""),
    "no_list": ({"sources": 5}, "should be a list", ""),
    "no_mapping": ({"split": 0.1}, "should be a mapping", ""),
    "no_sources": ({"sources": []}, "at least 1 of them", ""),
    "same_names": (
        {"sources": [{"name": "a", "path": "x"}, {"name": "a", "path": "y"}]},
        "two sources are named 'a'",
        "",
    ),
    "preset": ({"filters": {"preset": "webb"}}, "'webb' is not one of the choices", "'web'"),
    "expression": ({"filters": {"drop": {"x": "words <"}}}, "is no expression", ""),
    "not_boolean": ({"filters": {"drop": {"x": "words"}}}, "neither true nor false", ""),
    "unknown_column": ({"filters": {"drop": {"x": "wrds < 5"}}}, "there is no column 'wrds'", "'words'"),
    "function": ({"filters": {"drop": {"x": "__import__('os')"}}}, "no function '__import__'", ""),
    "policy": ({"personal_data": {"policy": {"email": "hide"}}}, "'hide' is not one of the choices", "mask"),
    "kind_of_data": ({"personal_data": {"policy": {"emial": "mask"}}}, "did you mean 'email'", ""),
    "nothing_to_train_on": ({"split": {"validation": 0.6, "test": 0.5}}, "leave nothing to train on", ""),
    "kind_of_tokenizer": ({"tokenizer": {"kind": "bpee"}}, "'bpee' is not one of the choices", "'bpe'"),
    "small_vocabulary": ({"tokenizer": {"vocab_size": 10}}, "a vocabulary of 10 is too small", "259"),
    "unknown_model": ({"tokenizer": "gpt22"}, "unknown model 'gpt22'", "'gpt2'"),
    "no_path": ({"sources": [{"name": "a"}]}, "exactly one of path, sql and dataset", ""),
    "kind_of_database": (
        {"sources": [{"name": "a", "sql": "mysql://h/x", "query": "SELECT 1"}]},
        "'mysql' are not read",
        "",
    ),
    "no_database": (
        {"sources": [{"name": "a", "sql": "sqlite:///no.db", "query": "SELECT 1"}]},
        "no such database file",
        "",
    ),
    "variable": ({"sources": [{"name": "a", "sql": "$NOWHERE", "query": "SELECT 1"}]}, "no variable NOWHERE", ""),
    "no_set": ({"decontaminate": [{"name": "a", "path": "no.jsonl"}]}, "there is no such file", ""),
    "empty_set": ({"decontaminate": [{"name": "a", "path": "empty.jsonl"}]}, "evaluation file is empty", ""),
    "no_quality": ({"quality": "nowhere"}, "no quality model", "ownlm data quality train"),
    "nothing_there": ({"sources": [{"name": "a", "path": "nowhere"}]}, "nothing is there", ""),
    "no_match": ({"sources": [{"name": "a", "path": "*.nope"}]}, "matches nothing", ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_recipe_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from ownlm.cli.main import main

    content, message, hint = WRONG[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "a.txt").write_text("one document of six words here")
    if content is not None:
        recipe = (
            content if isinstance(content, str) else json.dumps({"sources": [{"name": "a", "path": "a.txt"}]} | content)
        )
        (tmp_path / "r.yaml").write_text(recipe)
    assert main(["data", "build", "r.yaml", "--out", "out", "--json", "--workers", "1"]) == 2
    error = json.loads(capfd.readouterr().out)["error"]
    assert message in error["message"] and hint in (error["hint"] or "")
    assert error["where"] or name == "unknown_model"
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A recipe of a few shards, and the bytes that it gives."""
    place = tmp_path_factory.mktemp("plain")
    draw = random.Random(0)
    (place / "in").mkdir()
    for number in range(40):
        (place / "in" / f"{number:02}.txt").write_text(prose(draw, 4000))
    recipe = write_recipe(place / "r.yaml", place / "in", limits={})
    assert run(recipe, "--out", place / "out").returncode == 0
    return recipe, contents(place / "out")


def contents(out: Path) -> dict[str, str]:
    """Every file of the data set by its content, but the page that names its folder."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "report.html")
    names = ((path, path.relative_to(out)) for path in files)
    digest = {str(n): hashlib.sha256(p.read_bytes()).hexdigest() for p, n in names if not n.parts[0].startswith(".")}
    assert digest
    return digest


@contextlib.contextmanager
def working(recipe: Path, out: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A build whose workers have begun, and their process ids."""
    command = [*COMMAND, str(recipe), "--out", str(out), "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        while not (out / ".stages" / "text").exists():
            assert process.poll() is None
            time.sleep(0.01)
        yield process, [pid for pid in children(process.pid) if b"spawn_main" in command_line(pid)]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def command_line(pid: int) -> bytes:
    """A process's command line; empty for one that has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are looked up in /proc")


@needs_proc
@pytest.mark.parametrize("everyone", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_interrupted_it_ends_at_once_with_its_workers_and_goes_on_later(
    everyone: bool, plain: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    with working(plain[0], tmp_path / "out") as (process, workers):
        assert workers
        (os.killpg if everyone else os.kill)(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert errors.splitlines()[-1] == "error: interrupted" and "Traceback" not in errors
        assert not any(map(command_line, workers))
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert run(plain[0], "--out", tmp_path / "out").returncode == 0
    assert contents(tmp_path / "out") == plain[1]


@pytest.mark.slow
@needs_proc
def test_a_worker_killed_from_outside_costs_nothing(plain: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    with working(plain[0], tmp_path / "out") as (process, workers):
        os.kill(workers[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert contents(tmp_path / "out") == plain[1]


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[Callable[[int], None]]:
    """A disk of so many KiB at a place; called again, of another size."""
    place.mkdir()

    def size(kibibytes: int) -> None:
        options = f"size={kibibytes}k" + (",remount" if place.is_mount() else "")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=False, capture_output=True)
        if done.returncode:
            pytest.skip("no disk can be mounted here")

    try:
        yield size
    finally:
        subprocess.run(["umount", place], check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to mount a small disk")
@pytest.mark.parametrize("percent", [0, 5, 10, 20, 30, 40, 50, 60, 80, 85, 90, 95])
def test_a_disk_that_fills_in_any_stage_is_said_and_the_same_command_goes_on(
    percent: int, plain: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as size:
        out = tmp_path / "disk" / "out"
        built = {path.stat().st_ino: path for path in (plain[0].parent / "out").rglob("*")}
        used = sum(path.stat().st_blocks for path in built.values()) // 2
        size(max(16, int(used * percent / 100)))
        done = run(plain[0], "--out", out)
        assert done.returncode == 1
        assert "cannot write: the disk is full" in done.stderr and "free some space" in done.stderr
        assert not (out / "manifest.json").exists()
        assert (out / "README.md").exists() or not (out / "dataset.json").exists()
        size(200_000)
        assert run(plain[0], "--out", out).returncode == 0
        assert contents(out) == plain[1]


@pytest.mark.slow
def test_a_line_of_200_megabytes_is_left_out_and_takes_little_memory(
    tmp_path: Path, accounts: Callable[[Path], Any]
) -> None:
    import resource

    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "line.txt").open("w") as text, (tmp_path / "in" / "line.jsonl").open("w") as rows:
        rows.write('{"text": "')
        for _ in range(200):
            text.write("letters " * 125_000)
            rows.write("letters " * 125_000)
        rows.write('"}\n{"text": "a document of six words here"}\n')
    recipe = write_recipe(tmp_path / "r.yaml", tmp_path / "in", tokenizer=None, limits={})
    assert run(recipe, "--out", tmp_path / "out", "--workers", "1").returncode == 0
    built = accounts(tmp_path / "out")
    assert [(f["file"], f["reason"]) for f in built.failures] == [
        ("line.jsonl", "too-large"),
        ("line.txt", "too-large"),
    ]
    assert len(built.rows) == 1
    # The largest process that this one has waited for, in KiB.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 600 * 1024


@pytest.mark.slow
def test_a_hundred_thousand_small_files(tmp_path: Path, accounts: Callable[[Path], Any]) -> None:
    (tmp_path / "in").mkdir()
    draw = random.Random(0)
    for number in range(100_000):
        (tmp_path / "in" / f"{number:06}.txt").write_text(prose(draw, 8))
    recipe = write_recipe(tmp_path / "r.yaml", tmp_path / "in", tokenizer=None, limits={}, duplicates={"near": None})
    assert run(recipe, "--out", tmp_path / "out").returncode == 0
    assert accounts(tmp_path / "out").manifest["documents"]["read"] == 100_000
