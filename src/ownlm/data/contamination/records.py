"""Evaluation files as records: JSON Lines, JSON, SQuAD's JSON, tables, Parquet and plain text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError, MissingExtra
from ...files import json_fault, read_json, read_text

Row = tuple[str, Any]
"""Where a record stands (``file:line``, or ``file:number``), and the record: an object, or a text."""


def read_rows(path: Path) -> Iterator[Row]:
    """The records of one evaluation file.

    Raises:
        DataError: the file is missing, empty, not UTF-8, or not what its name says; with the line.
    """
    readers = {
        ".jsonl": _read_lines,
        ".ndjson": _read_lines,
        ".json": _read_json,
        ".csv": _read_table,
        ".tsv": _read_table,
        ".parquet": _read_parquet,
    }
    found = False
    for row in readers.get(path.suffix.lower(), _read_text)(path):
        found = True
        yield row
    if not found:
        raise DataError("this evaluation file is empty", where=str(path))


def _read_lines(path: Path) -> Iterator[Row]:
    # JSON Lines are split on newline alone: other line ends may stand inside a text.
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"this line is not valid JSON: {json_fault(error)}", where=where) from None
        yield where, value


def _read_json(path: Path) -> Iterator[Row]:
    try:
        value = read_json(path)
    except RecursionError:
        raise DataError("this file is nested too deeply", where=str(path)) from None
    if isinstance(value, Mapping):
        lists = [
            inner for key, inner in value.items() if key in ("data", "rows", "examples") and isinstance(inner, list)
        ]
        if not lists:
            raise DataError(
                "a list of items was expected", where=str(path), hint="or an object with 'data', as SQuAD has"
            )
        value = lists[0]
    if not isinstance(value, list):
        raise DataError(f"a list of items was expected, not {type(value).__name__}", where=str(path))
    for number, entry in enumerate(value, 1):
        if isinstance(entry, Mapping) and "paragraphs" in entry:
            yield from _squad_article(entry, f"{path}:{number}")
        else:
            yield f"{path}:{number}", entry


def _squad_article(article: Mapping[str, Any], where: str) -> Iterator[Row]:
    """SQuAD's nesting laid flat: a row a question (Rajpurkar et al. 2016)."""
    try:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = [answer["text"] for answer in question.get("answers") or []]
                yield (
                    where,
                    {
                        "id": str(question.get("id", "")),
                        "question": question["question"],
                        "answers": list(dict.fromkeys(answers)),
                        "context": paragraph["context"],
                    },
                )
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else "a wrong type"
        raise DataError(f"this article is not in SQuAD's format: {reason}", where=where) from None


def _read_table(path: Path) -> Iterator[Row]:
    # The csv module refuses fields beyond 128 KiB unless told otherwise.
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    rows = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(rows, [])
        while True:
            where = f"{path}:{rows.line_num + 1}"
            row = next(rows, None)
            if row is None:
                return
            if row and len(row) != len(header):
                raise DataError(f"this row has {len(row)} fields, the header {len(header)}", where=where)
            if row:
                yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise DataError(f"this is not a valid table: {error}", where=f"{path}:{rows.line_num}") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise MissingExtra("reading Parquet", "data") from None
    if not path.is_file():
        raise DataError("there is no such file", where=str(path), hint="check the path")
    try:
        rows = pq.read_table(path).to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).split(".")[0]
        raise DataError(f"this is not a readable Parquet file: {reason}", where=str(path)) from None
    for number, row in enumerate(rows, 1):
        yield f"{path}:{number}", row


def _read_text(path: Path) -> Iterator[Row]:
    """A text a paragraph; a line, where the file has no blank line."""
    lines = read_text(path).split("\n")
    whole = "\n".join(lines).strip().split("\n")
    by_line = all(line.strip() for line in whole)
    paragraph: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.strip():
            paragraph.append(line)
        if paragraph and (by_line or not line.strip()):
            begin = number - (0 if line.strip() else 1) - len(paragraph) + 1
            yield f"{path}:{begin}", "\n".join(paragraph)
            paragraph = []
