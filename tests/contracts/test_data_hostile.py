"""Input that is broken or meant to do harm: one named entry each, the build goes on, nothing leaves its folder."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ownlm.data.recipe import Recipe
from ownlm.tokens.build import build_dataset

GOOD = "A plain text that everybody may read, and that stays after all of the others were left out. " * 5


def write_hostile(folder: Path) -> None:
    """One good file among many that are not."""
    folder.mkdir()
    (folder / "good.txt").write_text(GOOD)
    (folder / "empty.txt").write_bytes(b"")
    (folder / "binary.md").write_bytes(os.urandom(4096) + b"\0" * 64)
    (folder / "pdf-as.txt").write_bytes(b"%PDF-1.7\nthis ends before it begins")
    (folder / "damaged.docx").write_bytes(b"PK\x03\x04" + b"\0" * 300)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": GOOD}).encode() * 50)[:80])
    (folder / "lines.jsonl").write_bytes(
        b'{"text": "\xff"}\n[1, 2]\n{"text": ""}\n{"messages": [{"role": "x"}]}\nnot json\n'
    )
    (folder / "deep.html").write_text("<div>" * 100_000 + "deep down" + "</div>" * 100_000)
    (folder / "scripts.html").write_text("<html><body><script>alert(1)</script></body></html>")
    (folder / "loop").symlink_to(folder)
    (folder / "nowhere.txt").symlink_to(folder / "is-not-there.txt")
    os.mkfifo(folder / "pipe.txt")
    (folder / "odd 'name\n\" 😀.txt").write_bytes(b"")
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.txt", b"0" * 200_000_000)
    with zipfile.ZipFile(folder / "paths.zip", "w") as archive:
        archive.writestr("../../escaped.txt", GOOD)
        archive.writestr("/tmp/escaped.txt", GOOD)
    with tarfile.open(folder / "links.tar", "w") as archive:
        link = tarfile.TarInfo("passwd.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        inside = tarfile.TarInfo("../escaped.txt")
        inside.size = len(GOOD)
        archive.addfile(inside, io.BytesIO(GOOD.encode()))
    (folder / "record.warc").write_bytes(b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: nine\r\n\r\nrest\r\n\r\n")


def recipe(folder: Path, **changes: Any) -> Recipe:
    values = {"sources": [{"name": "hostile", "path": str(folder)}], "split": {"validation": 0, "test": 0}}
    return Recipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile(folder / "input")
    manifest = build_dataset(recipe(folder / "input"), folder / "out", workers=2)
    lines = (folder / "out" / "failures.jsonl").read_text().split("\n")
    return manifest, [json.loads(line) for line in lines if line], folder


@pytest.mark.parametrize(
    ("file", "reasons"),
    [
        ("empty.txt", {"empty"}),
        ("binary.md", {"unsupported", "not-text", "mislabelled"}),
        ("pdf-as.txt", {"damaged"}),
        ("damaged.docx", {"damaged-record", "truncated", "damaged", "unsupported", "mislabelled"}),
        ("cut.jsonl.gz", {"truncated"}),
        ("scripts.html", {"no-text", "empty"}),
        ("loop", {"symlink-loop"}),
        ("nowhere.txt", {"missing"}),
        ("pipe.txt", {"unsupported"}),
        ("bomb.zip!bomb.txt", {"archive-bomb", "too-large"}),
        ("links.tar!../escaped.txt", {"unsafe-path"}),
        ("paths.zip!../../escaped.txt", {"unsafe-path"}),
        ("record.warc!1", {"damaged-record"}),
    ],
)
def test_each_is_named_with_its_reason(
    built: tuple[dict[str, Any], list[dict[str, Any]], Path], file: str, reasons: set[str]
) -> None:
    found = {failure["reason"] for failure in built[1] if failure["file"] == file}
    assert found and found <= reasons, [failure["file"] for failure in built[1]]


def test_every_broken_line_is_an_entry_of_its_own(built: tuple[dict[str, Any], list[dict[str, Any]], Path]) -> None:
    lines = sorted(failure["line"] for failure in built[1] if failure["file"] == "lines.jsonl")
    assert lines == [1, 2, 3, 4, 5]


def test_the_rest_is_kept_and_all_is_counted(built: tuple[dict[str, Any], list[dict[str, Any]], Path]) -> None:
    manifest, failures, folder = built
    documents = manifest["documents"]
    assert documents["kept"] >= 1
    assert documents["read"] == documents["kept"] + sum(documents["dropped"].values())
    assert manifest["failures"]["count"] == len(failures)
    assert all(failure["message"] and failure["source"] == "hostile" for failure in failures)
    assert not list(folder.parent.rglob("escaped.txt")) and not Path("/tmp/escaped.txt").exists()


def test_a_page_that_takes_too_long_is_left_out_and_named(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "good.txt").write_text(GOOD)
    # Nearly as many elements as are compared with each other, of all the kinds that are.
    rows = "".join(f"<div class='c{n}'><p>{GOOD[:60]} {n}</p><a href='/{n}'>x</a></div>" for n in range(9900))
    (tmp_path / "input" / "slow.html").write_text(f"<html><body>{rows}</body></html>")
    manifest = build_dataset(recipe(tmp_path / "input", limits={"seconds": 0.4}), tmp_path / "out", workers=1)
    assert manifest["documents"]["kept"] == 1
    assert manifest["failures"]["reasons"] == {"time-limit": 1}
    assert manifest["failures"]["first"][0]["file"] == "slow.html"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="a small disk can only be mounted by root")
def test_a_full_disk_is_one_sentence_and_the_same_command_ends_well_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    try:
        (tmp_path / "input").mkdir()
        for number in range(40):
            words = " ".join(f"{number * 997 + n * n % 7919}" for n in range(4000))
            (tmp_path / "input" / f"{number}.txt").write_text(words)
        path = tmp_path / "recipe.yaml"
        path.write_text(recipe(tmp_path / "input").model_dump_json(include={"sources", "split"}, exclude_none=True))
        command = [
            sys.executable,
            "-m",
            "ownlm",
            "data",
            "build",
            str(path),
            "--out",
            str(disk / "out"),
            "--workers",
            "1",
        ]
        full = subprocess.run(command, capture_output=True, text=True, check=False)
        assert full.returncode == 1 and "the disk is full" in full.stderr and "Traceback" not in full.stderr
        assert not (disk / "out" / "manifest.json").exists()
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        subprocess.run(command, capture_output=True, check=True)
        assert json.loads((disk / "out" / "manifest.json").read_text())["documents"]["read"] == 40
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_ctrl_c_ends_with_130_and_leaves_no_process_behind(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    for number in range(3000):
        (tmp_path / "input" / f"{number}.txt").write_text(GOOD * 20 + str(number))
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe(tmp_path / "input").model_dump_json(include={"sources", "split"}, exclude_none=True))
    command = [sys.executable, "-m", "ownlm", "data", "build", str(path), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "out" / ".stages").is_dir():
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a worker process stayed")
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "out" / "manifest.json").is_file()


@pytest.mark.slow
def test_a_line_of_200_megabytes_is_left_out_in_bounded_memory(tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    for name in ("line.jsonl", "line.txt"):
        with (tmp_path / "input" / name).open("w") as file:
            file.write('{"text": "' if name == "line.jsonl" else "")
            for _ in range(200):
                file.write("a" * 1_000_000)
            file.write('"}\n' + json.dumps({"text": GOOD}) + "\n" if name == "line.jsonl" else "")
    manifest = build_dataset(recipe(tmp_path / "input"), tmp_path / "out", workers=1)
    assert manifest["failures"]["reasons"] == {"too-large": 2}
    assert manifest["documents"]["kept"] == 1
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 600_000
