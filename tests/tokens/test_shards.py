"""Shards: what is written is what is read, and damage is named."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownlm.errors import DamagedError, DataError, ModelError
from ownlm.files import verify_folder
from ownlm.tokens.shards import ShardWriter, TokenDataset

documents = st.lists(
    st.lists(st.tuples(st.integers(0, 99), st.booleans()), max_size=8).map(
        lambda d: ([t for t, _ in d], [f for _, f in d])
    ),
    min_size=1,
    max_size=6,
)


@given(documents, st.sets(st.integers(0, 5)), st.sampled_from([100, 2**16, 2**16 + 1]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path: Path, given_documents: list, unmarked: set[int], vocab_size: int) -> None:
    if not any(ids for ids, _ in given_documents):
        return
    expected = []
    with ShardWriter(tmp_path / "data", vocab_size, {"source": "here"}) as writer:
        for i, (ids, trained) in enumerate(given_documents):
            writer.add(ids, None if i in unmarked else trained)
            flags = [True] * len(ids) if i in unmarked else trained
            if ids:
                expected.append((ids, [False, *flags[1:]]))
        writer.info["more"] = 1
    dataset = TokenDataset(tmp_path / "data")
    assert [(ids.tolist(), flags.tolist()) for ids, flags in map(dataset.document, range(len(dataset)))] == expected
    assert dataset.lengths.tolist() == [len(ids) for ids, _ in expected]
    assert dataset.total_tokens == sum(len(ids) for ids, _ in expected) == writer.tokens
    assert dataset.info == {"source": "here", "more": 1}
    assert dataset.document(0)[0].dtype == np.int64
    width = 2 if vocab_size <= 2**16 else 4
    assert (tmp_path / "data" / "tokens.bin").stat().st_size == width * dataset.total_tokens
    every_token_trained = all(all(flags[1:]) for _, flags in expected)
    assert (tmp_path / "data" / "trained.bin").exists() != every_token_trained
    starts = np.zeros(len(expected), np.int64)
    counts = dataset.trained_targets(np.arange(len(expected)), starts)
    assert counts.tolist() == [sum(flags) for _, flags in expected]
    dataset.verify()
    verify_folder(tmp_path / "data")


def test_largest_ids(tmp_path: Path) -> None:
    for vocab_size in (2**16, 2**16 + 1, 2**20):
        with ShardWriter(tmp_path / "data", vocab_size) as writer:
            writer.add([0, vocab_size - 1])
        assert TokenDataset(tmp_path / "data").document(0)[0].tolist() == [0, vocab_size - 1]


def test_read_a_part(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "data", 100) as writer:
        writer.add([9, 8])
        writer.add([1, 2, 3, 4])
    ids, trained = TokenDataset(tmp_path / "data").read(1, 1, 3)
    assert (ids.tolist(), trained.tolist()) == ([2, 3], [True, True])


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    for name, ids in (("a", [1, 2]), ("b", [1, 2]), ("c", [1, 3])):
        with ShardWriter(tmp_path / name, 100, {"source": name}) as writer:
            writer.add(ids)
    a, b, c = (TokenDataset(tmp_path / name).fingerprint for name in "abc")
    assert a == b != c


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "data", 100) as writer:
        writer.add([1, 2])
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "data", 100) as writer:
        writer.add([3, 4, 5])
        raise KeyboardInterrupt
    assert TokenDataset(tmp_path / "data").document(0)[0].tolist() == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to train on"), ShardWriter(tmp_path / "data", 100):
        pass
    with (
        pytest.raises(ModelError, match="token 100 is not in a vocabulary"),
        ShardWriter(tmp_path / "data", 100) as writer,
    ):
        writer.add([1, 100])
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="no tokenized dataset"):
        TokenDataset(tmp_path)


@pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "trained.bin", "index.json"])
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    def write() -> Path:
        with ShardWriter(tmp_path / "data", 100) as writer:
            writer.add([1, 2, 3], [False, False, True])
            writer.add([4, 5])
        return tmp_path / "data" / name

    path = write()
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DamagedError, match=name):
        TokenDataset(tmp_path / "data").verify()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedError, match=name):
        TokenDataset(tmp_path / "data").verify()
    write().unlink()
    with pytest.raises((DamagedError, DataError)):
        TokenDataset(tmp_path / "data")


def test_an_unknown_format(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "data", 100) as writer:
        writer.add([1, 2, 3])
    index = tmp_path / "data" / "index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"format": 99}))
    with pytest.raises(DataError, match="format 99 is not known"):
        TokenDataset(tmp_path / "data")


@given(documents, st.lists(st.integers(0, 5), max_size=3), st.sampled_from([100, 2**16 + 1]), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_many_at_once_is_one_after_another(
    tmp_path: Path, given_documents: list, cuts: list[int], vocab_size: int, unmarked: bool
) -> None:
    if not any(ids for ids, _ in given_documents):
        return
    with ShardWriter(tmp_path / "one", vocab_size) as writer:
        for ids, trained in given_documents:
            writer.add(ids, None if unmarked else trained)
    with ShardWriter(tmp_path / "many", vocab_size) as writer:
        borders = sorted({0, *cuts, len(given_documents)})
        for start, end in itertools.pairwise(borders):
            group = given_documents[start:end]
            ids = np.array([token for row, _ in group for token in row], np.uint32)
            flags = np.array([flag for _, row in group for flag in row], bool)
            kept = flags.copy()
            offsets = np.cumsum([0, *(len(row) for row, _ in group)])
            writer.add_many(ids, offsets, None if unmarked else flags)
            assert flags.tolist() == kept.tolist(), "the caller's flags stay as they are"
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_many_with_a_wrong_token(tmp_path: Path) -> None:
    for wrong in (np.array([1, 100, 5], np.uint32), np.array([1, 100, -5])):
        with pytest.raises(ModelError, match="token 100 is not"), ShardWriter(tmp_path / "data", 100) as writer:
            writer.add_many(wrong, np.array([0, 3]))
    assert not list(tmp_path.iterdir())


def test_a_dataset_without_documents(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "data", 100, {"source": "here"}, may_be_empty=True) as writer:
        writer.add_many(np.zeros(0, np.uint32), np.array([0, 0]))
    dataset = TokenDataset(tmp_path / "data")
    assert (len(dataset), dataset.total_tokens, dataset.lengths.tolist()) == (0, 0, [])
    assert dataset.info == {"source": "here"}
    dataset.verify()


def test_the_tokenizer_noted_is_the_one_asked_for(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "data", 100, {"tokenizer": "abc"}) as writer:
        writer.add([1, 2])
    TokenDataset(tmp_path / "data").check_trainable("abc")
    with pytest.raises(DataError, match="another tokenizer"):
        TokenDataset(tmp_path / "data").check_trainable("abd")
    with ShardWriter(tmp_path / "data", 100, {"tokenizer": "abc"}, may_be_empty=True):
        pass
    with pytest.raises(DataError, match="no document"):
        TokenDataset(tmp_path / "data").check_trainable("abc")
