"""Finished results: whole or not there, found again by content, damaged ones made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from ownlm.data.store import Store, key_of


def test_a_key_depends_on_every_part_and_not_on_the_order_of_keys() -> None:
    assert key_of(1, {"a": 1, "b": [2]}) == key_of(1, {"b": [2], "a": 1})
    assert len({key_of(1), key_of("1"), key_of([1]), key_of(1, 1), key_of(2), key_of("é"), key_of(None)}) == 7


def test_a_result_is_there_only_when_it_was_written_to_its_end(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.new("text", "k") as folder:
        (folder / "table").write_text("half")
        raise RuntimeError
    assert not store.has("text", "k")
    assert list((tmp_path / "text").iterdir()) == []
    with store.new("text", "k") as folder:
        (folder / "table").write_text("whole")
    assert store.has("text", "k")
    assert (store.path("text", "k") / "table").read_text() == "whole"


@pytest.mark.parametrize("damage", ["change", "remove", "checksums"])
def test_a_damaged_result_is_removed(tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    with store.new("text", "k") as folder:
        (folder / "table").write_text("whole")
    table = store.path("text", "k") / "table"
    if damage == "change":
        table.write_text("whale")
    else:
        (table if damage == "remove" else table.with_name("checksums.json")).unlink()
    assert not store.has("text", "k")
    assert not store.path("text", "k").exists()


def test_what_an_interrupted_build_left_is_removed_and_what_it_finished_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.new("text", "done") as folder:
        (folder / "table").write_text("whole")
    (tmp_path / "text" / ".other.partial-abc").mkdir()
    store.clean()
    assert [path.name for path in (tmp_path / "text").iterdir()] == ["done"]


def test_pruning_keeps_what_is_used(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for stage, key in (("text", "a"), ("text", "b"), ("signals", "a")):
        with store.new(stage, key):
            pass
    assert store.prune([("text", "a")]) == 2
    assert store.has("text", "a")
    assert not store.has("text", "b") and not store.has("signals", "a")
