"""From paths to units: the same in every order and on every machine, and a name for all that cannot be read."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ownlm.config import validate
from ownlm.data.sources import Failure, ReadLimits, SourceOptions, Unit, content_key, list_units, read_unit
from ownlm.data.sources.patterns import matches
from ownlm.errors import ConfigError, DataError


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def listed(path: Any, **options: Any) -> tuple[list[Unit], list[Failure]]:
    paths = [str(p) for p in path] if isinstance(path, list) else str(path)
    return list_units(SourceOptions(name="src", path=paths, **options), ReadLimits())


def names(path: Any, **options: Any) -> list[str]:
    units, failures = listed(path, **options)
    assert failures == []
    return [unit.name for unit in units]


TREE = ("b.txt", "a/z.md", "a/b/c.txt", "a.txt", ".hidden.txt", ".git/config.txt", "a/.b/c.txt", "B.txt")


def test_a_folder_is_read_at_every_depth_in_one_order(tmp_path: Path) -> None:
    expected = ["B.txt", "a.txt", "a/b/c.txt", "a/z.md", "b.txt"]
    shuffled = list(TREE)
    random.Random(1).shuffle(shuffled)
    assert names(make(tmp_path / "one", *TREE)) == names(make(tmp_path / "two", *shuffled)) == expected
    units, _ = listed(tmp_path / "one")
    assert units[0] == Unit("src", "B.txt", str(tmp_path / "one" / "B.txt"), "text", 0, 5, 1, 5)
    assert all(unit.whole for unit in units)


def test_keys_depend_on_content_and_names_and_on_no_machine(tmp_path: Path) -> None:
    one, two = (listed(make(tmp_path / name, *TREE))[0] for name in ("one", "two"))
    keys = [content_key(unit) for unit in one]
    assert keys == [content_key(unit) for unit in two]
    assert len(set(keys)) == len(keys)
    (tmp_path / "two" / "a.txt").write_text("other")
    assert [key == content_key(unit) for key, unit in zip(keys, two, strict=True)] == [True, False, True, True, True]
    assert content_key(replace(one[0], name="x.txt")) != keys[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": ["*.md"]}, ["a/z.md"]),
        ({"include": ["a/**"]}, ["a/b/c.txt", "a/z.md"]),
        ({"include": ["a"]}, ["a/b/c.txt", "a/z.md"]),
        ({"include": ["/a.txt", "b/c.*"]}, ["a.txt"]),
        ({"exclude": ["a/", "B*"]}, ["a.txt", "b.txt"]),
        ({"include": ["*.txt"], "exclude": ["**/c.txt"]}, ["B.txt", "a.txt", "b.txt"]),
        ({"include": ["[a-b].txt"]}, ["a.txt", "b.txt"]),
        ({"include": ["[!ab].txt"]}, ["B.txt", "a/b/c.txt"]),
        ({"include": ["?.md"]}, ["a/z.md"]),
    ],
)
def test_include_and_exclude(tmp_path: Path, options: dict, expected: list[str]) -> None:
    assert names(make(tmp_path, *TREE), **options) == expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["B.txt", "a.txt", "b.txt"]),
        ("**/*.txt", ["B.txt", "a.txt", "a/b/c.txt", "b.txt"]),
        ("a/*", ["b/c.txt", "z.md"]),
        ("?", ["a/b/c.txt", "a/z.md"]),
        ("**/[cz].*", ["a/b/c.txt", "a/z.md"]),
    ],
)
def test_paths_with_patterns(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    assert names(make(tmp_path, *TREE) / pattern) == expected


def test_patterns_against_the_standard_library(tmp_path: Path) -> None:
    make(tmp_path, *TREE)
    for pattern in ("*", "*/*", "**/*.txt", "a/*.md", "**/b/*", "a/**/*.txt", "[ab].txt"):
        theirs = {p.relative_to(tmp_path).as_posix() for p in tmp_path.glob(pattern) if p.is_file()}
        ours = {n for n in TREE if matches(n, ("/" + pattern,))}
        # A pattern of ours that matches a folder means what is in it too.
        assert {n for n in theirs if not any(part.startswith(".") for part in n.split("/"))} <= ours


def test_several_paths(tmp_path: Path) -> None:
    make(tmp_path, "one/data/a.txt", "two/data/a.txt", "three/b.txt", "c.txt", "other/c.txt")
    paths = [tmp_path / name for name in ("one/data", "two/data", "three", "c.txt", "other/c.txt", "three/b.txt")]
    units, failures = listed(paths)
    assert [(unit.name, Path(unit.path).relative_to(tmp_path).as_posix()) for unit in units] == [
        ("2/c.txt", "other/c.txt"),
        ("2/data/a.txt", "two/data/a.txt"),
        ("c.txt", "c.txt"),
        ("data/a.txt", "one/data/a.txt"),
        ("three/b.txt", "three/b.txt"),
    ]
    assert failures == []


def test_unknown_suffixes_are_text_where_the_user_names_them(tmp_path: Path) -> None:
    make(tmp_path, "a.log", "b.css")
    assert [unit.kind for unit in listed(tmp_path)[0]] == ["", ""]
    assert [unit.kind for unit in listed(tmp_path / "a.log")[0]] == ["text"]
    assert [unit.kind for unit in listed(tmp_path / "*.log")[0]] == ["text"]
    assert [unit.kind for unit in listed(tmp_path, include=["*.log"])[0]] == ["text"]


def reasons(failures: list[Failure]) -> list[tuple[str, str]]:
    return [(failure.file, failure.reason) for failure in failures]


def test_what_is_not_there(tmp_path: Path) -> None:
    make(tmp_path, "a.txt")
    (tmp_path / "empty").mkdir()
    for path in ("none.txt", "*.pdf", "empty"):
        units, failures = listed(tmp_path / path)
        assert units == []
        assert reasons(failures) == [(str(tmp_path / path), "missing")]
    assert reasons(listed(tmp_path, include=["*.md"])[1]) == [(str(tmp_path), "missing")]


def test_links_sockets_and_pipes() -> None:
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="l-") as name, socket.socket(socket.AF_UNIX) as listener:
        folder = make(Path(name), "real/a.txt", "real/deep/b.txt", "outside/c.txt")
        root = folder / "real"
        (root / "file.txt").symlink_to(root / "a.txt")
        (root / "folder").symlink_to(folder / "outside")
        (root / "again").symlink_to(root / "deep")
        (root / "deep" / "up").symlink_to(root)
        (root / "self").symlink_to(root / "self")
        (root / "gone").symlink_to(root / "nothing")
        (folder / "outside" / "back").symlink_to(folder / "outside")
        os.mkfifo(root / "pipe")
        listener.bind(str(root / "socket"))
        units, failures = listed(root)
        # "again" leads to a folder that is read under its own name.
        assert [unit.name for unit in units] == ["a.txt", "deep/b.txt", "file.txt", "folder/c.txt"]
        assert reasons(failures) == [
            ("deep/up", "symlink-loop"),
            ("folder/back", "symlink-loop"),
            ("gone", "missing"),
            ("pipe", "unsupported"),
            ("self", "symlink-loop"),
            ("socket", "unsupported"),
        ]
        assert [unit.name for unit in listed(root / "**/*.txt")[0]] == [unit.name for unit in units]


def test_what_is_left_out_is_no_failure(tmp_path: Path) -> None:
    make(tmp_path, "a.md", "in/b.md", "c.txt")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "gone.md").symlink_to("nowhere")
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    os.mkfifo(tmp_path / "in" / "pipe.md")
    units, failures = listed(tmp_path, include=["*.md"])
    assert [unit.name for unit in units] == ["a.md", "in/b.md"]
    assert reasons(failures) == [("gone.md", "missing"), ("in/pipe.md", "unsupported")]
    assert reasons(listed(tmp_path, exclude=["in", "gone.*"])[1]) == [
        ("pipe.txt", "unsupported"),
        ("self.txt", "symlink-loop"),
    ]
    # Of several folders names begin with the folder's, for patterns as well.
    named = listed([tmp_path / "in", tmp_path], include=[f"{tmp_path.name}/gone.md"])[1]
    assert (f"{tmp_path.name}/gone.md", "missing") in reasons(named) and len(named) == 2
    assert "include and exclude leave none" in named[0].message
    # What the user names itself is always missed.
    assert reasons(listed(tmp_path / "absent", include=["*.md"])[1]) == [(str(tmp_path / "absent"), "missing")]


# Root may read everything, so another user has to try, with what root has imported.
UNREADABLE = """
import os, sys
from ownlm.data.sources import ReadLimits, SourceOptions, list_units
if os.geteuid() == 0:
    os.setuid(65534)
units, failures = list_units(SourceOptions(name="src", path=sys.argv[1]), ReadLimits())
print([unit.name for unit in units], [(failure.file, failure.reason) for failure in failures])
"""


def test_files_and_folders_that_may_not_be_read() -> None:
    with tempfile.TemporaryDirectory(prefix="u-") as name:
        folder = make(Path(name), "a.txt", "b.txt", "c/d.txt")
        folder.chmod(0o755)
        (folder / "b.txt").chmod(0)
        (folder / "c").chmod(0)
        try:
            done = subprocess.run([sys.executable, "-c", UNREADABLE, name], capture_output=True, text=True, check=False)
        finally:
            (folder / "c").chmod(0o755)
        assert done.stdout.strip() == "['a.txt'] [('b.txt', 'unreadable'), ('c', 'unreadable')]", done.stderr


def test_odd_names(tmp_path: Path) -> None:
    for name in (b"new\nline.txt", b"latin-\xe4.txt", "ä 🙂.txt".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("x")
    assert names(tmp_path) == ["latin-\\xe4.txt", "new\nline.txt", "ä 🙂.txt"]
    units, _ = listed(tmp_path)
    assert all(not isinstance(found, Failure) for unit in units for found in read_unit(unit, SRC, ReadLimits()))
    assert json.dumps([unit.name for unit in units])
    assert len({content_key(unit) for unit in units}) == 3


SRC = SourceOptions(name="src", path="x")


def test_large_files_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(json.dumps({"text": f"{number} {'x' * (number % 50)}"}) + "\n" for number in range(500))
    for name in ("a.jsonl", "b.txt"):
        (tmp_path / name).write_text(rows)
    (tmp_path / "c.jsonl").write_text(json.dumps([{"text": "listed" * 10}] * 200, indent=1))
    monkeypatch.setattr("ownlm.data.sources.pieces.piece_edges.__defaults__", (5000,))
    units, _ = listed(tmp_path)
    pieces = [unit for unit in units if unit.name == "a.jsonl"]
    assert len(pieces) > 4
    assert len(units) == len(pieces) + 2
    assert [unit.begin for unit in pieces[1:]] == [unit.end for unit in pieces[:-1]]
    found = [record for unit in pieces for record in read_unit(unit, SRC, ReadLimits())]
    assert [(record.line, record.content) for record in found if not isinstance(record, Failure)] == [
        (number, json.loads(row)["text"]) for number, row in enumerate(rows.splitlines(), 1)
    ]
    keys = [content_key(unit) for unit in pieces]
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"text": "one more"}\n')
    appended = [content_key(unit) for unit in listed(tmp_path)[0] if unit.name == "a.jsonl"]
    assert appended[: len(keys) - 1] == keys[:-1]
    assert appended[len(keys) - 1] != keys[-1]


CARD = """---
configs:
- config_name: en
  default: true
  data_files:
  - split: train
    path: data/en/part-*
  - split: test
    path: [data/en/held.parquet]
- config_name: de
  data_files: data/de/*.parquet
---
# Card
"""


def test_the_hubs_layout_with_a_card(tmp_path: Path) -> None:
    make(tmp_path, "data/en/part-0.parquet", "data/en/part-1.parquet", "data/en/held.parquet", "data/de/x.parquet")
    (tmp_path / "README.md").write_text(CARD)
    assert names(tmp_path, split="train") == ["data/en/part-0.parquet", "data/en/part-1.parquet"]
    assert names(tmp_path, split="test", subset="en") == ["data/en/held.parquet"]
    assert names(tmp_path, subset="de") == ["data/de/x.parquet"]
    with pytest.raises(DataError, match=r"no subset 'dd'.*did you mean 'de'"):
        listed(tmp_path, subset="dd")
    with pytest.raises(DataError, match=r"no split 'tests'.*did you mean 'test'"):
        listed(tmp_path, split="tests")


def test_the_hubs_layout_by_names(tmp_path: Path) -> None:
    files = (
        "wikitext-2-raw-v1/train-00000-of-00001.parquet",
        "wikitext-2-raw-v1/validation-00000-of-00001.parquet",
        "wikitext-103-v1/train-00000-of-00002.parquet",
        "wikitext-103-v1/train-00001-of-00002.parquet",
        "README.md",
        "dataset_infos.json",
        "load.py",
    )
    make(tmp_path, *files)
    assert names(tmp_path, split="train") == sorted(name for name in files if "/train" in name)
    assert names(tmp_path, subset="wikitext-2-raw-v1") == sorted(name for name in files if "2-raw" in name)
    assert names(tmp_path, subset="wikitext-2-raw-v1", split="validation") == [files[1]]
    with pytest.raises(DataError, match=r"no split 'test'"):
        listed(tmp_path, subset="wikitext-103-v1", split="test")
    other = make(tmp_path / "other", "en/train.jsonl.gz", "en/dev.jsonl.gz", "de.csv")
    assert names(other, subset="en", split="validation") == ["en/dev.jsonl.gz"]
    assert names(other, subset="de") == ["de.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of path, sql and dataset"),
        ({"path": "a", "dataset": "b/c"}, "exactly one of path, sql and dataset: path and dataset"),
        ({"sql": "sqlite:///x.db"}, "'sql' and 'query' go together"),
        ({"path": "a", "query": "SELECT 1"}, "'sql' and 'query' go together"),
        ({"path": "a", "revision": "main"}, "'revision' is for data sets"),
        ({"path": "a", "columns": {"prompt": "q"}}, "'prompt' and 'response' go together"),
        ({"path": "a", "columns": {"role": "q"}}, "'conversation', 'role' and 'content' go together"),
        ({"path": "a", "columns": {"text": "q", "messages": "m"}}, "cannot both be"),
        ({"path": "a", "columns": {"roles": {"x": "boss"}}}, "'boss' is no role"),
        ({"path": "a", "name": "../x"}, "pattern"),
        ({"sql": "postgresql://me:secret@host/db", "path": "a", "query": "x"}, "path and sql"),
    ],
)
def test_options_that_contradict_themselves(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        validate(SourceOptions, {"name": "src"} | options)
    assert "secret" not in str(caught.value)
