"""JSON Lines and JSON: every record with its place, whatever the chunks, pieces and breaks."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownlm.data.sources.lines import Broken, Record, read_json, read_json_lines, read_lines
from ownlm.data.sources.options import ReadLimits
from ownlm.data.sources.pieces import piece_edges
from ownlm.data.sources.records import Unreadable
from ownlm.data.sources.streams import ByteStream, open_stream

LIMIT = 1000


def stream(content: bytes, step: int = 1 << 20) -> ByteStream:
    """A stream that gives its bytes in small steps, as a network or a decompressor may."""
    file = io.BytesIO(content)
    return ByteStream(lambda size: file.read(min(size, step)))


def by_hand(content: bytes) -> list[tuple[int, bytes]]:
    """The lines that have something in them, by splitting all of it."""
    lines = enumerate(content.split(b"\n"), 1)
    return [(number, line.removesuffix(b"\r")) for number, line in lines if line.removesuffix(b"\r")]


odd_bytes = st.lists(st.sampled_from([b"\n", b"\r", b"a", b"\x85", b"\xe2\x80\xa8", b"\x0c", b"bc"])).map(b"".join)


@given(odd_bytes, st.integers(1, 9))
def test_lines_against_splitting_the_whole(content: bytes, step: int) -> None:
    lines = list(read_lines(stream(content, step), LIMIT))
    ended = [(i, line) for i, line in by_hand(content)]
    if not content.endswith(b"\n"):
        # The last line has no line end that a carriage return could belong to.
        last = content.rpartition(b"\n")[2]
        ended = [(i, line) for i, line in ended if i <= content.count(b"\n")]
        ended += [(content.count(b"\n") + 1, last)] if last else []
    assert [(line.number, line.raw) for line in lines if line.raw] == ended
    assert all(content[line.begin : line.end] == line.raw for line in lines)


def test_long_lines_are_passed_over_without_their_bytes() -> None:
    content = b"short\n" + b"x" * 5000 + b"\nlast"
    lines = list(read_lines(stream(content, 7), LIMIT))
    assert [(line.number, line.begin, line.end, line.raw) for line in lines] == [
        (1, 0, 5, b"short"),
        (2, 6, 5006, None),
        (3, 5007, 5011, b"last"),
    ]
    assert [line.raw for line in read_lines(stream(b"y" * 1000 + b"\n" + b"x" * 1001), LIMIT)] == [b"y" * 1000, None]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(), values, max_size=4)


def dumped(value: Any, ascii_only: bool) -> str:
    try:
        text = json.dumps(value, ensure_ascii=ascii_only)
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


@given(st.lists(objects, max_size=5), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_json_lines_round_trip(records: list[dict], ascii_only: bool, end: str, step: int) -> None:
    content = end.join(dumped(record, ascii_only) for record in records).encode()
    found = list(read_json_lines(stream(content, step), 10**6))
    assert [record.value for record in found if isinstance(record, Record)] == records
    assert all(
        isinstance(record, Record) and json.loads(content[record.begin : record.end]) == record.value
        for record in found
    )


@given(
    st.lists(objects, max_size=5),
    st.booleans(),
    st.sampled_from([None, 0, 3]),
    st.integers(1, 40),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_json_round_trip(
    records: list[dict], ascii_only: bool, indent: int | None, step: int, listed: bool, mark: bool
) -> None:
    texts = [json.dumps(r, ensure_ascii=True, indent=indent) if ascii_only else dumped(r, False) for r in records]
    text = "[" + " ,\n".join(texts) + "] " if listed else "\n".join(texts)
    content = (b"\xef\xbb\xbf" if mark else b"") + text.encode()
    found = list(read_json(stream(content, step), 10**6))
    assert [record.value for record in found if isinstance(record, Record)] == records
    assert [record.line for record in found] == list(range(1, len(records) + 1))
    assert all(
        isinstance(record, Record) and json.loads(content[record.begin : record.end]) == record.value
        for record in found
    )


@given(st.lists(objects, min_size=1, max_size=4), st.data())
@settings(max_examples=50, deadline=None)
def test_a_cut_list_gives_what_was_whole(records: list[dict], data: st.DataObject) -> None:
    content = json.dumps(records).encode()
    cut = data.draw(st.integers(1, len(content) - 1))
    *found, last = list(read_json(stream(content[:cut]), 10**6))
    assert [record.value for record in found if isinstance(record, Record)] == records[: len(found)]
    assert isinstance(last, Broken)
    assert last.reason == "truncated"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"a": 1}\n{"a": \n{"a": 2}', [1, (2, "invalid-json"), 2]),
        (b'{"a": 1}\n{"a": "cut', [1, (2, "truncated")]),
        (b'{"a": 1}\n{"a": "\xe4"}\n{"a": 2}', [1, (2, "not-utf8"), 2]),
        (b'[1]\n"b"\nnull\n', [(1, "invalid-json"), (2, "invalid-json"), (3, "invalid-json")]),
        (b"[" * 100_000 + b'\n{"a": 2}', [(1, "too-large"), 2]),
        (b"[" * 900 + b'\n{"a": 2}', [(1, "invalid-json"), 2]),
        (b'{"a": ' + b"9" * 5000 + b"}\n", [(1, "too-large")]),
        (b"\n \r\n\t\n", []),
        (b'{"a": "x\0y"}', [(1, "invalid-json")]),
    ],
)
def test_broken_lines_cost_only_themselves(content: bytes, expected: list) -> None:
    found = list(read_json_lines(stream(content), LIMIT))
    assert [r.value["a"] if isinstance(r, Record) else (r.line, r.reason) for r in found] == expected


def test_numbers_of_too_many_digits_and_deep_nesting_are_no_crash() -> None:
    for content in (b'{"a": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"a":' * 100_000):
        assert [type(r) for r in read_json_lines(stream(content), 10**6)] == [Broken]
        assert [type(r) for r in read_json(stream(b"[" + content), 10**6)] == [Broken]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"a": 1}, 5, {"a": 2}]', [1, (2, "invalid-json"), 2]),
        (b'[{"a": 1} {"a": 2}]', [1, (2, "invalid-json")]),
        (b'[{"a": 1}, {"a": 2},]', [1, 2, (3, "invalid-json")]),
        (b'[{"a": 1}] x', [1, (2, "invalid-json")]),
        (b'[{"a": 1},\n{"a": tru, "b": "some more text behind it"}]', [1, (2, "invalid-json")]),
        (b'[{"a": 1}, {"a": "' + b"x" * 2000 + b'"}]', [1, (2, "too-large")]),
        (b'{"a": 1}{"a": 2}', [1, 2]),
        (b"[]", []),
        (b" \n", []),
    ],
)
def test_broken_json(content: bytes, expected: list) -> None:
    # Small steps, so that the limit is met before the end is in sight.
    found = list(read_json(stream(content, 64), LIMIT))
    assert [r.value["a"] if isinstance(r, Record) else (r.line, r.reason) for r in found] == expected


def test_json_in_another_encoding() -> None:
    with pytest.raises(Unreadable, match="0xe4 is not UTF-8"):
        list(read_json(stream(b'[{"a": "\xe4"}]'), LIMIT))


def read_range(path: Path, begin: int, end: int, line: int) -> list[Any]:
    with open_stream(str(path), begin, end) as part:
        return list(read_json_lines(part, LIMIT, line))


@given(
    st.lists(st.one_of(objects.map(lambda o: dumped(o, False)), st.sampled_from(["", " ", "broken", "x" * 1500]))),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(1, 200),
    st.booleans(),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_give_what_the_whole_file_gives(
    tmp_path: Path, lines: list[str], end: str, size: int, ended: bool
) -> None:
    path = tmp_path / "x.jsonl"
    content = ('{"first": 1}' + end + end.join(lines) + (end if ended else "")).encode()
    path.write_bytes(content)
    edges = piece_edges(str(path), None, ReadLimits(max_document_bytes=LIMIT), size)
    assert edges[0] == (0, 1)
    assert edges[-1] == (len(content), 0)
    assert all(content[begin - 1 : begin] == b"\n" for begin, _ in edges[1:-1])
    pieces = [read_range(path, begin, after, line) for (begin, line), (after, _) in itertools.pairwise(edges)]
    assert [record for piece in pieces for record in piece] == read_range(path, 0, len(content), 1)
    # A piece with a line in it that is longer than a piece may be longer too; never smaller but for the last.
    assert all(after - begin >= size for (begin, _), (after, _) in itertools.pairwise(edges[:-1]))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=12), st.integers(1, 300))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_keep_conversations_whole(tmp_path: Path, lengths: list[int], size: int) -> None:
    path = tmp_path / "x.jsonl"
    rows = [{"id": i, "n": n} for i, length in enumerate(lengths) for n in range(length)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    edges = piece_edges(str(path), "id", ReadLimits(), size)
    pieces = [read_range(path, begin, after, line) for (begin, line), (after, _) in itertools.pairwise(edges)]
    assert [record.value for piece in pieces for record in piece] == rows
    ids = [{record.value["id"] for record in piece} for piece in pieces]
    assert all(not (before & after) for before, after in itertools.pairwise(ids))


def test_a_very_long_line_is_bounded_in_memory(tmp_path: Path, peak: Callable[..., int]) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "one"}\n{"text": "')
        for _ in range(200):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"text": "two"}\n')
    found: list[Any] = []
    assert peak(path, ReadLimits(max_document_bytes=1 << 20), found) < 8 << 20
    documents, failures = found
    assert [(d.content, d.line) for d in documents] == [("one", 1), ("two", 3)]
    assert [(f.reason, f.line) for f in failures] == [("too-large", 2)]
