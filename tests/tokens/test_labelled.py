"""Labelled texts as tokenized datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from ownlm.errors import DataError
from ownlm.tokens.labelled import Preparing, tokenize_labelled
from ownlm.tokens.labels import LabelledFormat
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer

ROWS: list[dict[str, Any]] = [
    {"text": "The model reads text by word.", "label": "good"},
    {"text": "It learns.", "label": "bad"},
    {"text": "A token has what the model has seen before, and it learns text by word.", "label": "good"},
]


@pytest.fixture(scope="module")
def tokenizer(encoder: Path) -> Tokenizer:
    return load_tokenizer(encoder)


def prepare(
    rows: list[dict[str, Any]], tokenizer: Tokenizer, folder: Path, labels: tuple[str, ...], **changes: Any
) -> tuple[TokenDataset, Any]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options: dict[str, Any] = {"format": LabelledFormat(), "causal": False, "length": 64, **changes}
    prepared = tokenize_labelled(path, Preparing(tokenizer, labels=labels, **options), cache_folder=folder / "cache")
    return TokenDataset(prepared.folder), prepared


def test_documents_are_the_public_tokenizers_with_their_class(
    encoder: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    dataset, prepared = prepare(ROWS, tokenizer, tmp_path, ("bad", "good"))
    public = transformers.AutoTokenizer.from_pretrained(encoder)
    documents = [dataset.document(i)[0].tolist() for i in range(3)]
    assert documents == public([row["text"] for row in ROWS])["input_ids"]
    assert dataset.columns["label"].tolist() == [[1], [0], [1]]
    assert dataset.columns["label"].dtype == np.int64
    assert (dataset.info["kind"], dataset.info["labels"], dataset.info["problem"]) == (
        "label",
        ["bad", "good"],
        "single",
    )
    assert prepared.documents == 3 and prepared.tokens == prepared.trained == sum(map(len, documents))


def test_the_second_texts_place_is_kept_where_the_model_tells_them_apart(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"sentence1": "the model", "sentence2": "reads text", "label": i} for i in (0, 1)]
    dataset, _ = prepare(rows, tokenizer, tmp_path, ("0", "1"), split=True)
    ids = dataset.document(0)[0].tolist()
    # [CLS] A [SEP] B [SEP]
    assert dataset.columns["second"].tolist() == [[ids.index(3) + 1]] * 2
    dataset, _ = prepare(ROWS, tokenizer, tmp_path, ("bad", "good"), split=True)
    assert dataset.columns["second"][:, 0].tolist() == dataset.lengths.tolist()


def test_several_classes_and_numbers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"text": "a", "label": ["x", "z"]}, {"text": "a", "label": []}]
    dataset, _ = prepare(rows, tokenizer, tmp_path, ("x", "y", "z"), format=LabelledFormat("multi"))
    assert dataset.columns["label"].tolist() == [[1, 0, 1], [0, 0, 0]]
    rows = [{"text": "a", "score": 1.5, "b": 2}, {"text": "a", "score": "-3", "b": 0}]
    format = LabelledFormat("regression", label=("score", "b"))
    dataset, _ = prepare(rows, tokenizer, tmp_path, ("score", "b"), format=format)
    assert dataset.columns["label"].tolist() == [[1.5, 2], [-3, 0]]
    assert dataset.columns["label"].dtype == np.float32


def test_a_label_that_is_no_class_is_named_with_its_line(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [*ROWS, {"text": "It has.", "label": "goood"}]
    with pytest.raises(DataError) as caught:
        prepare(rows, tokenizer, tmp_path, ("bad", "good"))
    assert caught.value.where == f"{tmp_path / 'rows.jsonl'}:4"
    assert "'goood' is not one of the classes" in caught.value.message
    assert caught.value.hint == "did you mean 'good'; add it to objective.labels if it is meant"


def test_a_text_that_is_too_long(tokenizer: Tokenizer, tmp_path: Path) -> None:
    lengths = [len(tokenizer.encode(row["text"])) for row in ROWS]
    limit = 10
    assert sorted(n + 2 > limit for n in lengths) == [False, False, True]
    with pytest.raises(DataError, match=rf"this text has {lengths[2] + 2} tokens, more than the 10") as caught:
        prepare(ROWS, tokenizer, tmp_path, ("bad", "good"), length=limit)
    assert caught.value.where == f"{tmp_path / 'rows.jsonl'}:3"

    dataset, dropped = prepare(ROWS, tokenizer, tmp_path, ("bad", "good"), length=limit, too_long="drop")
    assert dropped.dropped == {"longer than 10 tokens": {"documents": 1, "tokens": lengths[2] + 2}}
    assert dataset.columns["label"].tolist() == [[1], [0]]

    dataset, cut = prepare(ROWS, tokenizer, tmp_path, ("bad", "good"), length=limit, too_long="cut")
    assert cut.dropped == {}
    assert dataset.info["truncated"] == {"documents": 1, "tokens": lengths[2] + 2 - limit}
    ids = dataset.document(2)[0].tolist()
    # The beginning, and the [SEP] that ends it.
    assert ids == [2, *tokenizer.encode(ROWS[2]["text"])[: limit - 2], 3]
    with pytest.raises(DataError, match="every text is longer than 3 tokens"):
        prepare([ROWS[0], ROWS[2]], tokenizer, tmp_path, ("bad", "good"), length=3, too_long="drop")


@pytest.mark.parametrize(("first", "second"), [(2, 12), (12, 2), (12, 12), (5, 7), (3, 3)])
def test_of_two_texts_the_longer_one_gives_way(first: int, second: int, tokenizer: Tokenizer, tmp_path: Path) -> None:
    row = {"sentence1": "the " * first, "sentence2": "word " * second, "label": 0}
    dataset, _ = prepare([row], tokenizer, tmp_path, ("0", "1"), length=13, too_long="cut", split=True)
    one, other = tokenizer.encode("the")[0], tokenizer.encode("word")[0]
    ids = dataset.document(0)[0].tolist()
    kept = ids.count(one), ids.count(other)
    room = 10
    # Of two that are both too long each gets half; what one does not need is the other's.
    half = room // 2
    assert kept[0] == min(first, max(half, room - second)) and kept[1] == min(second, max(half, room - first))
    assert dataset.columns["second"][0, 0] == kept[0] + 2


def test_a_file_is_tokenized_once(tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepared = prepare(ROWS, tokenizer, tmp_path, ("bad", "good"))[1]
    before = (prepared.folder / "index.json").stat().st_mtime_ns
    assert prepare(ROWS, tokenizer, tmp_path, ("bad", "good"))[1] == prepared
    assert (prepared.folder / "index.json").stat().st_mtime_ns == before
    others = [
        prepare(ROWS, tokenizer, tmp_path, ("good", "bad"))[1],
        prepare(ROWS, tokenizer, tmp_path, ("bad", "good"), split=True)[1],
        prepare(ROWS, tokenizer, tmp_path, ("bad", "good"), length=63)[1],
        prepare(ROWS, tokenizer, tmp_path, ("bad", "good"), format=LabelledFormat(label=("label",)))[1],
        prepare(ROWS[:2], tokenizer, tmp_path, ("bad", "good"))[1],
    ]
    assert len({prepared.folder, *(other.folder for other in others)}) == 6
    # A damaged one is made again.
    tokens = prepared.folder / "tokens.bin"
    tokens.write_bytes(bytes(len(tokens.read_bytes())))
    dataset, again = prepare(ROWS, tokenizer, tmp_path, ("bad", "good"))
    assert again == prepared and dataset.document(0)[0][0] == 2
