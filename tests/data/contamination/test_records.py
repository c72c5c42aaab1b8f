"""Evaluation files of every kind, whole and broken."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ownlm.data.contamination.records import read_rows
from ownlm.errors import DataError

ROWS = [{"question": "How deep is the lake?", "answer": "12 m"}, {"question": "Who\u2028rowed?", "answer": "Ada, Bob"}]


def rows_of(path: Path) -> list[Any]:
    return [row for _, row in read_rows(path)]


def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n")
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "b.json").write_text(json.dumps({"version": 1, "data": ROWS}))
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ["question", "answer"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(ROWS)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert rows_of(path) == ROWS, path.name


def test_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n"a text"\n{}\n')
    assert list(read_rows(path)) == [(f"{path}:2", "a text"), (f"{path}:3", {})]


def test_squad_is_laid_flat(tmp_path: Path) -> None:
    answers = [{"text": "here", "answer_start": 0}, {"text": "here", "answer_start": 9}]
    asked = [{"id": "q1", "question": "Where?", "answers": answers}, {"id": "q2", "question": "When?", "answers": []}]
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "Look here.", "qas": asked}]}]}))
    assert rows_of(path) == [
        {"id": "q1", "question": "Where?", "answers": ["here"], "context": "Look here."},
        {"id": "q2", "question": "When?", "answers": [], "context": "Look here."},
    ]


def test_plain_text_is_a_text_a_paragraph_or_a_line(tmp_path: Path) -> None:
    paragraphs, lines = tmp_path / "paragraphs.txt", tmp_path / "lines.txt"
    paragraphs.write_text("\n\none\ntwo\n\n\nthree\n")
    lines.write_text("one\ntwo\nthree\n")
    assert list(read_rows(paragraphs)) == [(f"{paragraphs}:3", "one\ntwo"), (f"{paragraphs}:7", "three")]
    assert list(read_rows(lines)) == [(f"{lines}:1", "one"), (f"{lines}:2", "two"), (f"{lines}:3", "three")]


BROKEN = [
    ("a.jsonl", b'{"question": "x"}\n{"question": \n', "a.jsonl:2", "not valid JSON"),
    ("a.jsonl", b"[" * 200_000, "a.jsonl:1", "nested too deeply|not valid JSON"),
    ("a.jsonl", b'{"question": "\xff"}\n', "a.jsonl:1", "not UTF-8"),
    ("a.jsonl", b"", "a.jsonl", "is empty"),
    ("a.json", b'{"questions": []}', "a.json", "a list of items was expected"),
    ("a.json", b"3", "a.json", "a list of items was expected"),
    ("a.json", b'[\n{"question": }]', "a.json:2", "not valid JSON"),
    ("a.json", b'{"data": [{"paragraphs": [{"qas": [{}]}]}]}', "a.json:1", "SQuAD's format: no 'question'"),
    ("a.json", b'{"data": [{"paragraphs": 3}]}', "a.json:1", "SQuAD's format"),
    ("a.csv", b"question,answer\nx,y\nx,y,z\n", "a.csv:3", "3 fields, the header 2"),
    ("a.csv", b'question,answer\n"x,y\n', "a.csv", "not a valid table"),
    ("a.parquet", b"PAR1 and no more", "a.parquet", "not a readable Parquet file"),
    ("a.txt", b" \n\n", "a.txt", "is empty"),
    ("a.txt", b"\0\1", "a.txt", "binary"),
]


@pytest.mark.parametrize(("name", "content", "where", "message"), BROKEN)
def test_a_broken_file_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, where: str, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        rows_of(tmp_path / name)
    assert str(caught.value.where) == str(tmp_path / where) or str(caught.value.where).startswith(
        str(tmp_path / where) + ":"
    )


@pytest.mark.parametrize("name", ["none.jsonl", "none.csv", "none.parquet", "none.txt"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        rows_of(tmp_path / name)
