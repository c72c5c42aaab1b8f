"""Joining finished datasets gives what writing all their documents at once gives, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownlm.errors import DamagedError, DataError
from ownlm.tokens import shards
from ownlm.tokens.concat import concat_datasets
from ownlm.tokens.shards import ShardWriter, TokenDataset

# A document: its tokens, and whether each is trained; None is all.
documents = st.lists(st.integers(0, 99), min_size=1, max_size=6).flatmap(
    lambda ids: st.tuples(st.just(ids), st.none() | st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
)
pieces = st.lists(st.lists(documents, max_size=4), min_size=1, max_size=5)


def write(folder: Path, given_documents: list, vocab_size: int = 100) -> Path:
    with ShardWriter(folder, vocab_size, {"source": folder.name}, may_be_empty=True) as writer:
        for ids, trained in given_documents:
            writer.add(ids, trained)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(pieces, st.sampled_from([100, 2**16 + 1]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_joined_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_pieces: list, vocab_size: int
) -> None:
    monkeypatch.setattr(shards, "BLOCK", 3)
    parts = [write(tmp_path / f"part-{i}", piece, vocab_size) for i, piece in enumerate(given_pieces)]
    joined = concat_datasets(parts, tmp_path / "out", {"source": "out"}, may_be_empty=True)
    whole = write(tmp_path / "whole" / "out", [document for piece in given_pieces for document in piece], vocab_size)
    assert contents(tmp_path / "out") == contents(whole)
    assert len(joined) == sum(map(len, given_pieces))


def test_one_flag_makes_all_parts_have_flags(tmp_path: Path) -> None:
    parts = [write(tmp_path / "a", [([1, 2, 3], None)]), write(tmp_path / "b", [([4, 5, 6], [False, False, True])])]
    concat_datasets([*parts, parts[0]], tmp_path / "out")
    assert (tmp_path / "out" / "trained.bin").read_bytes() == bytes([0, 1, 1, 0, 0, 1, 0, 1, 1])
    concat_datasets([parts[0], parts[0]], tmp_path / "out")
    assert not (tmp_path / "out" / "trained.bin").exists()


def test_bad_parts(tmp_path: Path) -> None:
    fine = write(tmp_path / "fine", [([1, 2], None)])
    empty = write(tmp_path / "empty", [])
    with pytest.raises(DataError, match="nothing to train on"):
        concat_datasets([empty, empty], tmp_path / "out")
    with pytest.raises(DataError, match="no dataset to join"):
        concat_datasets([], tmp_path / "out")
    with pytest.raises(DataError, match=r"vocabulary has 200 ids, and the others' 100") as caught:
        concat_datasets([fine, write(tmp_path / "other", [([1], None)], 200)], tmp_path / "out")
    assert caught.value.where == str(tmp_path / "other")
    with pytest.raises(DataError, match="no tokenized dataset"):
        concat_datasets([fine, tmp_path], tmp_path / "out")
    tokens = fine / "tokens.bin"
    tokens.write_bytes(bytes(len(tokens.read_bytes())))
    with pytest.raises(DamagedError, match=r"tokens\.bin"):
        concat_datasets([empty, fine], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_replaced_dataset_stays_whole(tmp_path: Path) -> None:
    part = write(tmp_path / "part", [([1, 2], None)])
    concat_datasets([part], tmp_path / "out")
    concat_datasets([tmp_path / "out", part], tmp_path / "out")
    dataset = TokenDataset(tmp_path / "out")
    assert [dataset.document(i)[0].tolist() for i in range(len(dataset))] == [[1, 2], [1, 2]]
