"""Zip and tar: what is in them, what is hidden in them, and what they try."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownlm.data.sources import REASONS, Failure, RawDocument, ReadLimits

Read = Callable[..., tuple[list[RawDocument], list[Failure]]]
FILES = {"a.txt": b"first", "in/b.md": b"# second", "in/c.jsonl": b'{"text": "three"}\n{"text": "four"}\n'}
EXPECTED = [("a.txt", b"first", 0), ("in/b.md", b"# second", 0), ("in/c.jsonl", "three", 1), ("in/c.jsonl", "four", 2)]


def make_zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def make_tar(files: dict[str, bytes], mode: str = "w", tar_format: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=tar_format) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def shown(documents: list[RawDocument], archive: str) -> list[tuple]:
    return [(d.file.removeprefix(f"{archive}!"), d.content, d.line) for d in documents]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip(tmp_path: Path, read: Read, method: int) -> None:
    hidden = {"__MACOSX/._a.txt": b"\0\5", ".git/config": b"x", "in/.DS_Store": b"\0"}
    (tmp_path / "x.zip").write_bytes(make_zip(FILES | hidden, method))
    documents, failures = read(tmp_path)
    assert (shown(documents, "x.zip"), failures) == (EXPECTED, [])
    lines = FILES["in/c.jsonl"]
    assert [json.loads(lines[d.begin : d.end])["text"] for d in documents[2:]] == ["three", "four"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("tar_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tar(tmp_path: Path, read: Read, mode: str, tar_format: int) -> None:
    name = "x.tar" + mode[1:].replace(":", ".")
    (tmp_path / name).write_bytes(make_tar(FILES, mode, tar_format))
    documents, failures = read(tmp_path)
    assert (shown(documents, name), failures) == (EXPECTED, [])


def test_tar_as_the_tool_writes_it(tmp_path: Path, read: Read) -> None:
    (tmp_path / "in" / ("long" * 40)).mkdir(parents=True)
    (tmp_path / "in" / ("long" * 40) / "\xe4.txt").write_bytes(b"deep")
    subprocess.run(["tar", "czf", "x.tgz", "-C", "in", "."], cwd=tmp_path, check=True)
    subprocess.run(["tar", "cf", "old", "--format=v7", "in/" + "long" * 10], cwd=tmp_path, check=False)
    documents, failures = read(tmp_path / "x.tgz")
    assert (shown(documents, "x.tgz"), failures) == ([("long" * 40 + "/\xe4.txt", b"deep", 0)], [])


def test_a_tar_from_before_posix(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.txt").write_bytes(b"old")
    subprocess.run(["tar", "cf", "x.tar", "--format=v7", "a.txt"], cwd=tmp_path, check=True)
    documents, failures = read(tmp_path / "x.tar")
    assert (shown(documents, "x.tar"), failures) == ([("a.txt", b"old", 0)], [])


def test_archives_in_archives(tmp_path: Path, read: Read) -> None:
    packed = make_zip({"b.tar.gz": make_tar({"c.jsonl.gz": gzip.compress(FILES["in/c.jsonl"])}, "w:gz")})
    (tmp_path / "a.zip").write_bytes(packed)
    documents, failures = read(tmp_path)
    assert [(d.file, d.content) for d in documents] == [
        ("a.zip!b.tar.gz!c.jsonl.gz", "three"),
        ("a.zip!b.tar.gz!c.jsonl.gz", "four"),
    ]
    assert failures == []
    documents, failures = read(tmp_path, ReadLimits(max_depth=2))
    assert documents == []
    assert [(f.file, f.reason) for f in failures] == [("a.zip!b.tar.gz!c.jsonl.gz", "too-deep")]


def test_an_encrypted_member(tmp_path: Path, read: Read) -> None:
    content = bytearray(make_zip({"a.txt": b"secret", "b.txt": b"open"}))
    # Bit 0 of the flags says so, in the member's header and in the directory.
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    documents, failures = read(tmp_path)
    assert shown(documents, "x.zip") == [("b.txt", b"open", 0)]
    assert [(f.file, f.reason) for f in failures] == [("x.zip!a.txt", "encrypted")]


TRICKS = ["../out.txt", "in/../../out.txt", "/tmp/out.txt", "..\\out.txt", "C:\\out.txt", "C:/out.txt"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out(tmp_path: Path, read: Read, kind: str) -> None:
    (tmp_path / "in").mkdir()
    make = make_zip if kind == "zip" else make_tar
    (tmp_path / "in" / f"x.{kind}").write_bytes(make(dict.fromkeys(TRICKS, b"out") | {"fine.txt": b"in"}))
    before = sorted(tmp_path.rglob("*"))
    documents, failures = read(tmp_path / "in")
    assert [d.content for d in documents] == [b"in"]
    assert [f.reason for f in failures] == ["unsafe-path"] * len(TRICKS)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_devices(tmp_path: Path, read: Read) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name, kind in [
            ("s", tarfile.SYMTYPE),
            ("h", tarfile.LNKTYPE),
            ("d", tarfile.CHRTYPE),
            ("p", tarfile.FIFOTYPE),
        ]:
            info = tarfile.TarInfo(f"{name}.txt")
            info.type = kind
            info.linkname = "/etc/passwd"
            archive.addfile(info)
    link = zipfile.ZipInfo("s.txt")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
    documents, failures = read(tmp_path)
    assert documents == []
    assert [(f.file, f.reason) for f in failures] == [
        *((f"x.tar!{name}.txt", "unsafe-path") for name in "shdp"),
        ("y.zip!s.txt", "unsafe-path"),
    ]


def test_the_ratio_stops_a_bomb(tmp_path: Path, read: Read) -> None:
    bomb = b" " * (60 << 20)
    (tmp_path / "a.zip").write_bytes(make_zip({"a.jsonl": bomb, "b.txt": b"good"}))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(bomb, 9))
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(make_tar({"a.txt": b"first", "b.txt": bomb}), 9))
    documents, failures = read(tmp_path)
    assert [(d.file, d.content) for d in documents] == [("a.zip!b.txt", b"good"), ("c.tar.gz!a.txt", b"first")]
    assert {f.file for f in failures} == {"a.zip!a.jsonl", "b.jsonl.gz", "c.tar.gz!b.txt", "c.tar.gz"}
    assert {f.reason for f in failures} == {"archive-bomb"}


def test_members_share_what_may_expand_freely(tmp_path: Path, read: Read) -> None:
    # Each alone is let through, as a small blank file must be: it is packed in next to nothing.
    bombs = {f"{number:02}.txt": b"a" * (10 << 20) for number in range(6)}
    limits = ReadLimits(max_ratio=20)
    (tmp_path / "a.zip").write_bytes(make_zip(bombs | {"fine.txt": os.urandom(1000).hex().encode()}))
    (tmp_path / "b.zip").write_bytes(make_zip({name + ".gz": gzip.compress(bomb) for name, bomb in bombs.items()}))
    packed = [make_zip({name: bomb}) for name, bomb in bombs.items()]
    (tmp_path / "c.tar").write_bytes(make_tar({f"{number}.zip": content for number, content in enumerate(packed)}))
    documents, failures = read(tmp_path, limits)
    assert [d.file for d in documents] == ["a.zip!00.txt", "a.zip!fine.txt", "b.zip!00.txt.gz", "c.tar!0.zip!00.txt"]
    assert [f.file for f in failures if f.file.startswith("a.zip")] == [f"a.zip!{name}" for name in list(bombs)[1:]]
    assert {f.file.split("!")[0] for f in failures} == {"a.zip", "b.zip", "c.tar"}
    assert {f.reason for f in failures} == {"archive-bomb"}


def test_archives_in_archives_do_not_multiply_the_ratio(tmp_path: Path, read: Read) -> None:
    inner = make_zip({f"{number}.txt": b"a" * 100_000 for number in range(400)})
    outer = make_zip({f"{number}.zip": inner for number in range(20)})
    (tmp_path / "a.zip").write_bytes(outer)
    limits = ReadLimits(max_ratio=1500)
    # Every member alone is within the ratio; all of it would be 800 MB from this.
    assert 1500 * len(outer) < 400_000_000
    documents, failures = read(tmp_path, limits)
    assert sum(len(d.content or "") for d in documents) <= 1500 * len(outer) + (16 << 20)
    assert [(f.file, f.reason) for f in failures] == [("a.zip", "archive-bomb")]


def test_the_sum_of_all_members_is_limited(tmp_path: Path, read: Read) -> None:
    files = {f"{number:03}.txt": os.urandom(1000).hex().encode() for number in range(100)}
    (tmp_path / "a.zip").write_bytes(make_zip(files))
    documents, failures = read(tmp_path, ReadLimits(max_archive_bytes=50_000))
    assert len(documents) == 25
    assert [(f.file, f.reason) for f in failures] == [("a.zip", "archive-bomb")]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_number_of_members_is_limited(tmp_path: Path, read: Read, kind: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    (tmp_path / f"a.{kind}").write_bytes(make({f"{number}.txt": b"x" for number in range(50)}))
    assert len(read(tmp_path, ReadLimits(max_members=50))[0]) == 50
    documents, failures = read(tmp_path, ReadLimits(max_members=49))
    assert len(documents) == (0 if kind == "zip" else 49)
    assert [f.reason for f in failures] == ["archive-bomb"]


def test_a_word_document_that_expands_without_end(tmp_path: Path, read: Read) -> None:
    content = make_zip({"[Content_Types].xml": b"", "word/document.xml": bytes(60 << 20)})
    (tmp_path / "a.docx").write_bytes(content)
    documents, failures = read(tmp_path)
    assert (documents, [f.reason for f in failures]) == ([], ["archive-bomb"])


def test_bombs_need_little_memory(tmp_path: Path, peak: Callable[..., int]) -> None:
    bomb = io.BytesIO()
    with gzip.open(bomb, "wb") as file:
        for _ in range(100):
            file.write(b" " * (1 << 20))
    (tmp_path / "a.txt.gz").write_bytes(bomb.getvalue())
    # The header of a member may itself claim to be long.
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 100 << 20
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(100 << 20)))
    frames = b"".join([b"\x28\xb5\x2f\xfd\x00\x58", *[b"\x02\x00\x10 "] * 500, b"\x03\x00\x10 "])
    (tmp_path / "c.txt.zst").write_bytes(frames)
    found: list[Any] = []
    limits = ReadLimits(max_ratio=10_000, max_document_bytes=1 << 20)
    assert peak(tmp_path, limits, found) < 60 << 20
    documents, failures = found
    assert documents == []
    assert [(f.file, f.reason) for f in failures] == [
        ("a.txt.gz", "too-large"),
        ("b.tar.gz", "archive-bomb"),
        ("c.txt.zst", "too-large"),
    ]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_cut_archive(tmp_path: Path, read: Read, kind: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    content = make({"a.txt": b"first", "b.txt": b"second" * 1000})
    (tmp_path / f"a.{kind}").write_bytes(content[: content.index(b"b.txt") + 2000] if kind == "tar" else content[:-30])
    documents, failures = read(tmp_path)
    assert [d.content for d in documents] == ([] if kind == "zip" else [b"first"])
    assert {f.reason for f in failures} == {"truncated"}


def test_a_damaged_header_in_a_tar_is_not_its_end(tmp_path: Path, read: Read) -> None:
    content = bytearray(make_tar({"a.txt": b"first", "b.txt": b"second"}))
    content[1024 + 150] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    documents, failures = read(tmp_path)
    assert [d.content for d in documents] == [b"first"]
    assert [(f.file, f.reason) for f in failures] == [("a.tar", "damaged-record")]


def test_a_damaged_member_costs_only_itself(tmp_path: Path, read: Read) -> None:
    content = bytearray(make_zip({"a.txt": b"first", "b.txt": b"second", "c.png": b"\x89PNG\0\0"}, zipfile.ZIP_STORED))
    content[content.index(b"first")] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    documents, failures = read(tmp_path)
    assert [d.content for d in documents] == [b"second"]
    assert [(f.file, f.reason) for f in failures] == [("a.zip!a.txt", "damaged-record"), ("a.zip!c.png", "unsupported")]


def test_a_directory_that_claims_to_be_huge(tmp_path: Path, read: Read) -> None:
    content = bytearray(make_zip({"a.txt": b"first"}))
    struct.pack_into("<L", content, content.rindex(b"PK\5\6") + 12, 0xFFFFFFF0)
    (tmp_path / "a.zip").write_bytes(content)
    assert [f.reason for f in read(tmp_path)[1]] == ["archive-bomb"]


def test_a_zip_for_newer_readers(tmp_path: Path, read: Read) -> None:
    content = bytearray(make_zip({"a.txt": b"first"}))
    content[content.index(b"PK\1\2") + 6] = 99
    (tmp_path / "a.zip").write_bytes(content)
    assert [(f.file, f.reason) for f in read(tmp_path)[1]] == [("a.zip", "unsupported")]


def test_an_empty_archive(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.zip").write_bytes(make_zip({}))
    (tmp_path / "b.tar").write_bytes(make_tar({}))
    assert [(f.file, f.reason) for f in read(tmp_path / "a.zip")[1]] == [("a.zip", "empty")]


SAMPLES = {
    "a.zip": make_zip(FILES),
    "b.zip": make_zip(FILES, zipfile.ZIP_LZMA),
    "a.tar": make_tar(FILES),
    "a.tgz": make_tar(FILES, "w:gz"),
}


@given(st.sampled_from(sorted(SAMPLES)), st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_never_raises(tmp_path: Path, read: Read, name: str, data: st.DataObject) -> None:
    content = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path / name
    path.write_bytes(content)
    documents, failures = read(path)
    path.unlink()
    assert documents or failures
    assert all(failure.reason in REASONS for failure in failures)
