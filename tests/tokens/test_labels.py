"""Labelled texts as people have them: SST-2's and banking77's own files, and everything that may be wrong with one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import DataError
from ownlm.tokens.labels import Labelled, LabelledFormat, find_labels, read_labelled, taken_columns


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def labels(path: Path, **options: Any) -> list[tuple[str, ...]]:
    return [row.labels for row in read_labelled([path], LabelledFormat(**options))]


def test_sst2_as_it_is(shared_data: Path) -> None:
    folder = shared_data / "sst2"
    rows = list(read_labelled([folder / "test.tsv"], LabelledFormat()))
    assert len(rows) == 872
    first = Labelled("it 's a charming and often affecting journey . ", None, ("1",), (), f"{folder / 'test.tsv'}:2")
    assert rows[0] == first
    assert find_labels([folder / "dev.tsv"], LabelledFormat()) == ("0", "1")
    assert str(taken_columns([folder / "dev.tsv"], LabelledFormat())) == "text from 'sentence', labels from 'label'"


def test_banking77_as_it_is(shared_data: Path) -> None:
    folder = shared_data / "banking77"
    assert len(list(read_labelled([folder / "test.csv"], LabelledFormat()))) == 3080
    found = find_labels([folder / "train.csv"], LabelledFormat())
    assert sorted(json.loads((folder / "categories.json").read_text())) == list(found)


def test_numbers_sort_by_value_and_are_the_same_in_tables_and_json(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "text,label\n", "x,10\n", "y,9\n", "z,-1\n")
    lines = write(
        tmp_path / "a.jsonl", {"text": "x", "label": 10}, {"text": "y", "label": 9.0}, {"text": "z", "label": -1}
    )
    assert find_labels([table], LabelledFormat()) == find_labels([lines], LabelledFormat()) == ("-1", "9", "10")
    long = write(tmp_path / "c.jsonl", {"text": "x", "label": "9" * 5000}, {"text": "y", "label": "10"})
    assert find_labels([long], LabelledFormat()) == ("10", "9" * 5000)
    truth = write(tmp_path / "b.jsonl", {"text": "x", "label": True}, {"text": "y", "label": False})
    assert find_labels([truth], LabelledFormat()) == ("false", "true")


def test_two_texts_are_taken_together_where_they_are_called_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"sentence1": "x", "sentence2": "y", "label": 0})
    (row,) = read_labelled([path], LabelledFormat())
    assert (row.text, row.pair) == ("x", "y")
    (row,) = read_labelled([path], LabelledFormat(text="sentence1"))
    assert row.pair is None
    (row,) = read_labelled([path], LabelledFormat(text="sentence2", pair="sentence1"))
    assert (row.text, row.pair) == ("y", "x")


def test_several_labels_in_every_way_of_writing_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "x", "labels": ["b", "a", "b"]}, {"text": "y", "labels": []})
    assert labels(path, problem="multi") == [("b", "a"), ()]
    assert find_labels([path], LabelledFormat("multi")) == ("a", "b")
    table = write(tmp_path / "a.csv", "text,labels\n", "x,b;a\n", "y,\n", "z,a\n")
    assert labels(table, problem="multi", separator=";") == [("b", "a"), (), ("a",)]
    columns = write(tmp_path / "b.csv", "text,rude,wrong\n", "x,1,0\n", "y,0,0\n", "z,1,1.0\n")
    format = LabelledFormat("multi", label=("rude", "wrong"))
    assert [row.labels for row in read_labelled([columns], format)] == [("rude",), (), ("rude", "wrong")]
    assert find_labels([columns], format) == ("rude", "wrong")


def test_numbers_to_learn(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "text,score,other\n", "x,1.5,2\n", "y,-2e-1,3\n")
    format = LabelledFormat("regression", label=("score", "other"))
    assert [row.numbers for row in read_labelled([path], format)] == [(1.5, 2.0), (-0.2, 3.0)]
    assert find_labels([path], format) == ("score", "other")
    assert find_labels([path], LabelledFormat("regression")) == ("score",)


def test_a_table_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "0\tbad\n", "1\tgood\n")
    format = LabelledFormat(columns=("label", "text"))
    assert [(row.text, row.labels) for row in read_labelled([path], format)] == [("bad", ("0",)), ("good", ("1",))]
    with pytest.raises(DataError, match="2 fields, the columns are 3"):
        find_labels([path], LabelledFormat(columns=("label", "text", "more")))


@pytest.mark.parametrize(
    ("rows", "options", "line", "message", "hint"),
    [
        ([{"text": "x", "lable": 1}], {}, 1, "which column holds the label", "'text', 'lable'"),
        ([{"txt": "x", "label": 1}], {}, 1, "which column holds the text", "objective.text"),
        ([{"text": "x", "label": 1}], {"text": "texts"}, 1, "no column 'texts'", "did you mean 'text'?"),
        ([{"text": "x", "label": 1}, {"text": "y"}], {}, 2, "there is no 'label' here", "text"),
        ([{"text": "x", "label": 1}, {"text": " ", "label": 1}], {}, 2, "'text' is empty", ""),
        ([{"text": 3, "label": 1}], {}, 1, "not a text but int", ""),
        ([{"text": "x\ud800", "label": 1}], {}, 1, "half a character", ""),
        ([{"text": "x", "label": None}], {}, 1, "there is no label in 'label'", ""),
        ([{"text": "x", "label": math.nan}], {}, 1, "there is no label in 'label'", ""),
        ([{"text": "x", "label": " "}], {}, 1, "there is no label in 'label'", ""),
        ([{"text": "x", "label": {"a": 1}}], {}, 1, "a label is a text or a number, not dict", ""),
        ([{"text": "x", "label": ["a"]}], {}, 1, "is a list of labels", "objective.problem to multi"),
        ([{"text": "x", "label": "a"}], {}, None, "every text has the same class", "objective.labels"),
        ([{"text": "x", "label": []}], {"problem": "multi"}, None, "no text has a label", ""),
        (
            [{"text": "x", "a": 2, "b": 0}],
            {"problem": "multi", "label": ("a", "b")},
            1,
            "'a' must be 0 or 1, not 2",
            "",
        ),
        ([{"text": "x", "score": "high"}], {"problem": "regression"}, 1, "'score' is not a number (got 'high')", ""),
        ([{"text": "x", "score": "inf"}], {"problem": "regression"}, 1, "not a finite number", ""),
        ([{"text": "x", "score": 1e39}], {"problem": "regression"}, 1, "not a finite number", ""),
        ([{"text": "x", "score": 10**400}], {"problem": "regression"}, 1, "not a finite number", ""),
        ([{"text": "x", "score": -2e18}], {"problem": "regression"}, 1, "too large to be learned", "divide"),
        ([{"text": "x", "score": True}], {"problem": "regression"}, 1, "is not a number", ""),
        ([{"text": "x", "label": "\ud800"}, {"text": "x", "label": "a"}], {}, 1, "half a character", ""),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    rows: list[Any], options: dict[str, Any], line: int | None, message: str, hint: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.jsonl", *rows)
    with pytest.raises(DataError) as caught:
        found = find_labels([path], LabelledFormat(**options))
        assert found and list(read_labelled([path], LabelledFormat(**options)))
    assert message in caught.value.message
    assert caught.value.where == (f"{path}:{line}" if line else str(path))
    assert hint in (caught.value.hint or "")


def test_an_empty_file_and_a_plain_text_are_no_labelled_texts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this file is empty"):
        find_labels([write(tmp_path / "a.csv")], LabelledFormat())
    with pytest.raises(DataError, match="rows are expected"):
        find_labels([write(tmp_path / "a.txt", "some text")], LabelledFormat())
