"""Files: whole or not there, and damage is named."""

from __future__ import annotations

import errno
import json
import stat
from pathlib import Path

import pytest

from ownlm.errors import DamagedError, DataError, StorageError, UserError
from ownlm.files import (
    CHECKSUMS,
    PARTIAL,
    existing_file,
    home,
    new_folder,
    read_json,
    read_text,
    remove_partial,
    storage_errors,
    verify_folder,
    write_bytes,
    write_json,
    write_text,
)


def test_a_file_is_written_and_replaced(tmp_path: Path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": "é"})
    write_json(path, {"a": "ü"})
    assert read_json(path) == {"a": "ü"}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_a_file_gets_the_rights_of_any_new_file(tmp_path: Path):
    (tmp_path / "usual").write_text("")
    write_text(tmp_path / "ours", "")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_failed_write_leaves_what_stood_there(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_text(path, "before")
    with pytest.raises(TypeError):
        write_bytes(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_device_is_one_sentence_with_a_hint():
    # The kernel's own full device, so that the error is a real one.
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(StorageError) as caught, storage_errors(full), full.open("wb", buffering=0) as file:
        file.write(b"x")
    assert caught.value.message == "cannot write: the disk is full"
    assert "free some space" in str(caught.value.hint)


def test_other_errors_of_the_system_pass_through(tmp_path: Path):
    with pytest.raises(OSError) as caught, storage_errors(tmp_path):
        raise OSError(errno.EMFILE, "too many open files")
    assert not isinstance(caught.value, StorageError)


@pytest.mark.parametrize(
    ("content", "message", "where"),
    [
        (b"abc\0def", "binary file", ""),
        (b"fine\nna\xefve", "not UTF-8 text: byte 0xef at position 7", ":2"),
    ],
)
def test_a_file_that_is_no_text_is_named(tmp_path: Path, content: bytes, message: str, where: str):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_text(path)
    assert caught.value.where == f"{path}{where}"


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_text(tmp_path / "nothing")
    with pytest.raises(DataError, match="a folder"):
        read_text(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        existing_file(tmp_path / "nothing")
    with pytest.raises(UserError, match="a folder"):
        existing_file(tmp_path)


def test_a_byte_order_mark_is_not_text(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert read_text(tmp_path / "a.txt") == "hello"


def test_broken_json_is_named_with_its_line(tmp_path: Path):
    (tmp_path / "a.json").write_text('{\n"a": 1,\n}')
    with pytest.raises(DataError) as caught:
        read_json(tmp_path / "a.json")
    assert caught.value.where == f"{tmp_path / 'a.json'}:3"


def test_a_folder_appears_whole_with_its_checksums(tmp_path: Path):
    target = tmp_path / "model"
    with new_folder(target) as new:
        (new / "inner").mkdir()
        (new / "inner" / "a").write_text("hello")
        assert not target.exists()
    verify_folder(target)
    # The SHA-256 of "hello", as any tool gives it.
    expected = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert json.loads((target / CHECKSUMS).read_text()) == {"inner/a": expected}


def test_a_folder_that_was_not_finished_does_not_appear(tmp_path: Path):
    target = tmp_path / "model"
    with new_folder(target) as new:
        (new / "a").write_text("first")
    with pytest.raises(KeyboardInterrupt), new_folder(target) as new:
        (new / "a").write_text("second")
        raise KeyboardInterrupt
    assert (target / "a").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_an_interruption_left_is_cleared_and_a_folder_between_two_renames_comes_back(tmp_path: Path):
    (tmp_path / f".a.txt{PARTIAL}x1").write_text("half")
    (tmp_path / f".new{PARTIAL}x2").mkdir()
    (tmp_path / f".model{PARTIAL}old-77").mkdir()
    (tmp_path / f".model{PARTIAL}old-77" / "a").write_text("whole")
    (tmp_path / "other").write_text("stays")
    remove_partial(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "other"]
    assert (tmp_path / "model" / "a").read_text() == "whole"


def damage(folder: Path, how: str) -> str:
    """Damages a folder in one way and returns the name of the file that is wrong."""
    if how == "changed":
        content = bytearray((folder / "b").read_bytes())
        content[0] ^= 1
        (folder / "b").write_bytes(content)
        return "b"
    if how == "cut":
        (folder / "b").write_bytes((folder / "b").read_bytes()[:-1])
        return "b"
    if how == "gone":
        (folder / "b").unlink()
        return "b"
    if how == "sums broken":
        (folder / CHECKSUMS).write_text("{")
        return CHECKSUMS
    (folder / CHECKSUMS).unlink()
    return ""


@pytest.mark.parametrize("how", ["changed", "cut", "gone", "sums broken", "sums gone"])
def test_damage_is_named(tmp_path: Path, how: str):
    target = tmp_path / "model"
    with new_folder(target) as new:
        (new / "a").write_text("aaa")
        (new / "b").write_text("bbb")
    name = damage(target, how)
    with pytest.raises(DamagedError) as caught:
        verify_folder(target)
    assert caught.value.where == str(target / name if name else target)


def test_home_is_what_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("OWNLM_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "ownlm"
