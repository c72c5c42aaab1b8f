"""Texts and what is made of them: which columns hold what, and every row as the tokens that the model gets."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import DataError
from ownlm.tokens.loader import Loader
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.text_pairs import PairFormat, Preparing, read_sources, read_text_pairs, tokenize_text_pairs
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

START = 299


@pytest.fixture(scope="module")
def tokenizer(corpus: Path) -> Tokenizer:
    return load_tokenizer(corpus / "tokenizer")


def rows_file(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "format"),
    [
        ({"source": "a b", "target": "c"}, PairFormat()),
        ({"id": 3, "input": "a b", "output": "c"}, PairFormat()),
        ({"translation": {"de": "a b", "en": "c"}}, PairFormat()),
        ({"translation": {"en": "c", "de": "a b"}}, PairFormat("de", "en")),
        ({"x": 1, "long": "a b", "short": "c"}, PairFormat("long", "short")),
        ({"german": "a b", "english": "c"}, PairFormat()),
        ({"german": "c", "english": "a b"}, PairFormat(source="english")),
        ({"text": "a b", "summary": "c", "title": "d"}, PairFormat()),
    ],
)
def test_the_columns_are_found(row: dict[str, Any], format: PairFormat, tmp_path: Path) -> None:
    (pair,) = read_text_pairs([rows_file(tmp_path / "pairs.jsonl", [row])], format)
    assert (pair.source, pair.target) == ("a b", "c")
    assert list(read_sources(tmp_path / "pairs.jsonl", format.source)) == ["a b"]


def test_a_table_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("eins zwei\tone two\ndrei\tthree\n")
    format = PairFormat("de", "en", ("de", "en"))
    pairs = list(read_text_pairs([tmp_path / "pairs.tsv"], format))
    assert [(pair.source, pair.target) for pair in pairs] == [("eins zwei", "one two"), ("drei", "three")]
    assert pairs[1].where.endswith("pairs.tsv:2")


@pytest.mark.parametrize(
    ("row", "format", "message"),
    [
        ({"source": "a", "target": " "}, PairFormat(), "'target' is empty"),
        ({"source": 3, "target": "b"}, PairFormat(), "'source' is not a text but int"),
        ({"a": "a", "b": "b", "c": "c"}, PairFormat(), "not clear which columns"),
        ({"source": "a", "target": "b"}, PairFormat("sorce"), "there is no column 'sorce'"),
    ],
)
def test_a_row_that_cannot_be_learned_from_is_named(
    row: dict[str, Any], format: PairFormat, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        list(read_text_pairs([rows_file(tmp_path / "pairs.jsonl", [row])], format))
    assert str(caught.value.where).endswith("pairs.jsonl:1")


def test_a_row_is_its_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    pairs = [("the model reads", "a token"), ("what", "it has seen before"), ("and the loss falls", "so")]
    path = rows_file(tmp_path / "pairs.jsonl", [{"source": a, "target": b} for a, b in pairs])
    prepared = tokenize_text_pairs(path, Preparing(tokenizer, PairFormat(), START, 64), cache_folder=tmp_path / "cache")
    dataset = TokenDataset(prepared.folder)
    end = tokenizer.eos_id
    assert dataset.group == 2 and len(dataset) == 6
    for number, (source, target) in enumerate(pairs):
        ids, trained = dataset.read(2 * number, 0, int(dataset.lengths[2 * number]))
        assert ids.tolist() == [*tokenizer.encode(source), end] and not trained.any()
        ids, trained = dataset.read(2 * number + 1, 0, int(dataset.lengths[2 * number + 1]))
        assert ids.tolist() == [START, *tokenizer.encode(target), end]
        assert trained.tolist() == [False] + [True] * (len(ids) - 1)
    assert prepared.trained == sum(len(tokenizer.encode(target)) + 1 for _, target in pairs)


def test_what_is_too_long_is_refused_or_dropped_and_counted(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"source": "a token", "target": "a " * 40}, {"source": "a token", "target": "the model"}]
    path = rows_file(tmp_path / "pairs.jsonl", rows)
    with pytest.raises(DataError, match="a text of this pair has") as caught:
        tokenize_text_pairs(path, Preparing(tokenizer, PairFormat(), START, 20), cache_folder=tmp_path / "cache")
    assert str(caught.value.where).endswith(":1")
    preparing = Preparing(tokenizer, PairFormat(), START, 20, too_long="drop")
    prepared = tokenize_text_pairs(path, preparing, cache_folder=tmp_path / "cache")
    assert (prepared.documents, prepared.dropped["longer than 20 tokens"]["documents"]) == (2, 2)
    rows_file(path, rows[:1])
    with pytest.raises(DataError, match="nothing is left"):
        tokenize_text_pairs(path, preparing, cache_folder=tmp_path / "cache")


words = st.lists(st.sampled_from(["the", "a", "model", "reads", "text"]), min_size=1, max_size=12).map(" ".join)


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(words, words), min_size=1, max_size=12), micro=st.integers(8, 80))
def test_however_they_are_packed_every_target_has_its_source(
    pairs: list[tuple[str, str]], micro: int, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    path = rows_file(folder / "pairs.jsonl", [{"source": a, "target": b} for a, b in pairs])
    prepared = tokenize_text_pairs(path, Preparing(tokenizer, PairFormat(), START, 64), cache_folder=folder / "cache")
    loader = Loader([TokenDataset(prepared.folder)], length=64, batch_tokens=100, seed=0)
    seen = []
    for step in range(loader.steps_in_epoch(0)):
        for batch in loader.micro_batches(step, micro):
            split = batch.split_pairs()
            assert split.source is not None and split.read_tokens == len(batch)
            assert split.trained_tokens == batch.trained_tokens and split.source.trained_tokens == 0
            assert split.source.documents == split.documents
            both = zip(documents(split.source), documents(split), strict=True)
            seen += [(tokenizer.decode(source), tokenizer.decode(target[1:])) for source, target in both]
            for one in (split, split.source):
                places = np.concatenate([np.arange(n) for n in np.diff(one.document_starts)])
                assert one.positions.tolist() == places.tolist()
    assert sorted(seen) == sorted(pairs)


def documents(batch: Any) -> list[list[int]]:
    """The ids of each document of a batch."""
    starts = batch.document_starts
    return [batch.tokens[a:b].tolist() for a, b in itertools.pairwise(starts)]
