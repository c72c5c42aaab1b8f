"""The user's files: what is read, and the sentence for everything that cannot be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownlm.data.read import Record, list_files, read_records, read_texts, split_articles
from ownlm.errors import DataError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, kind: str | None = None) -> list[Record]:
    return list(read_records([path], kind))  # type: ignore[arg-type]


def test_plain_text_and_folders(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "\ufeffTwo\r\nlines\n")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "x.md", "# One")
    write(tmp_path / "c.jsonl", '{"text": "Three"}\n')
    write(tmp_path / ".hidden.txt", "no")
    write(tmp_path / "picture.png", b"\x89PNG\0")
    records = read(tmp_path)
    assert [record.text for record in records] == ["# One", "Two\r\nlines\n", "Three"]
    assert [record.where for record in records] == [f"{tmp_path}/{name}:1" for name in ("a/x.md", "b.txt", "c.jsonl")]
    assert [path.name for path in list_files([tmp_path], "chat")] == ["c.jsonl"]
    write(tmp_path / "notes", "any other name is text")
    assert read(tmp_path / "notes")[0].text == "any other name is text"


def test_json_lines_are_split_on_newlines_only(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    lines = [json.dumps({"text": odd}, ensure_ascii=False), "", json.dumps({"text": "🙂"})]
    path = write(tmp_path / "x.jsonl", "\ufeff" + "\r\n".join(lines))
    assert [(record.text, record.line) for record in read(path)] == [(odd, 1), ("🙂", 3)]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back(tmp_path: Path, texts: list[str]) -> None:
    path = write(tmp_path / "x.jsonl", "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    assert [record.text for record in read(path)] == texts
    path = tmp_path / "x.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text"], *([text.replace("\r", "\n")] for text in texts)])
    assert [record.text for record in read(path)] == [text.replace("\r", "\n") for text in texts]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"messages": CHAT}, CHAT),
        ({"prompt": "Hi", "response": "Hello"}, CHAT),
        ({"prompt": "Hi", "completion": "Hello"}, CHAT),
        ({"instruction": "Hi", "output": "Hello", "input": ""}, CHAT),
        ({"instruction": "Hi", "response": "Hello", "text": "Hi Hello"}, CHAT),
        (
            {"instruction": "Add", "input": "1 2", "output": "3", "system": "Count."},
            [
                {"role": "system", "content": "Count."},
                {"role": "user", "content": "Add\n\n1 2"},
                {"role": "assistant", "content": "3"},
            ],
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]},
                    CHAT[1],
                ]
            },
            CHAT,
        ),
    ],
)
def test_conversations(tmp_path: Path, value: dict, expected: list) -> None:
    path = write(tmp_path / "x.jsonl", json.dumps(value))
    assert read(path, "chat") == [Record(None, expected, str(path), 1)]
    listed = write(tmp_path / "x.json", json.dumps([value, value]))
    assert [(record.messages, record.line) for record in read(listed, "chat")] == [(expected, 1), (expected, 2)]


def test_a_record_with_both_follows_the_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", json.dumps({"prompt": "Hi", "response": "Hello", "text": "Hi Hello"}))
    assert read(path, "text")[0].text == "Hi Hello"
    assert read(path, "chat")[0].messages == CHAT


def test_tables(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", '\ufeffid,instruction,response\n1,"Hi\nyou","Hello, ""you"""\n\n2,A,B\n')
    records = read(path, "chat")
    assert [record.line for record in records] == [2, 5]
    assert [message["content"] for message in records[0].messages or []] == ["Hi\nyou", 'Hello, "you"']
    assert read(write(tmp_path / "x.tsv", "text\tn\na, b\t1\n"))[0].text == "a, b"
    assert read(write(tmp_path / "long.csv", f"text\n{'x' * 300_000}\n"))[0].text == "x" * 300_000


@pytest.mark.parametrize(
    ("name", "content", "place", "message"),
    [
        ("x.txt", "", "", "this file is empty"),
        ("x.txt", " \n", "", "this file is empty"),
        ("x.txt", b"\x89PNG\0\1", "", "binary file"),
        ("x.txt", b"one\ntwo \xff\n", ":2", "not UTF-8"),
        ("x.jsonl", "", "", "this file is empty"),
        ("x.jsonl", "\n\n", "", "this file is empty"),
        ("x.jsonl", '{"text": "a"}\n{"text": \n', ":2", "not valid JSON"),
        ("x.jsonl", '{"text": "a"}\n[1]\n', ":2", "an object was expected, not list"),
        ("x.jsonl", '{"text": "a"}\n"b"\n', ":2", "an object was expected, not str"),
        ("x.jsonl", '{"body": "a", "id": 1}', ":1", "found 'body', 'id'; expected 'text'"),
        ("x.jsonl", '{"prompt": "a"}', ":1", "found 'prompt'"),
        ("x.jsonl", '{"text": "  "}', ":1", "'text' is empty"),
        ("x.jsonl", '{"text": 5}', ":1", "'text' is not a text but int"),
        ("x.jsonl", '{"text": "a\\ud83d"}', ":1", "half a character"),
        ("x.jsonl", b'{"text": "a"}\n{"text": "\xe4"}\n', ":2", "not UTF-8"),
        ("x.jsonl", b"\x1f\x8b\x08\0\0", ":1", "binary file"),
        ("x.jsonl", "[" * 100_000, ":1", "nested too deeply"),
        ("x.jsonl", '{"messages": []}', ":1", "must be a list of messages"),
        ("x.jsonl", '{"messages": ["a"]}', ":1", "message 1 is not an object"),
        ("x.jsonl", json.dumps({"messages": CHAT[:1]}), ":1", "no answer"),
        ("x.jsonl", json.dumps({"messages": [CHAT[1]]}), ":1", "no answer"),
        (
            "x.jsonl",
            json.dumps({"messages": [CHAT[0], {"role": "assistant", "content": " "}]}),
            ":1",
            "message 2 is empty",
        ),
        ("x.jsonl", json.dumps({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}), ":1", "not text"),
        ("x.jsonl", '{"prompt": "a", "response": ""}', ":1", "'response' is empty"),
        ("x.json", '{"text": "a"}', "", "a list of objects"),
        ("x.json", '[{"text": "a"},\n]', ":2", "not valid JSON"),
        ("x.json", "[]", "", "this file is empty"),
        (
            "x.jsonl",
            '{"text": "a"}\n{"text": "b", "n": ' + "1" * 5000 + "}\n",
            ":2",
            "not valid JSON: a number has too",
        ),
        ("x.json", '[{"text": "b", "n": ' + "1" * 5000 + "}]", "", "not valid JSON: a number has too many digits"),
        ("x.json", "[" * 100_000, "", "nested too deeply"),
        ("x.csv", "text,n\na,1\n".encode("utf-16-le"), "", "this is a binary file, a table was expected"),
        ("x.csv", "text,n,text\na,1,b\n", ":1", "two columns are called 'text'"),
        ("x.csv", "text\n", "", "this file is empty"),
        ("x.csv", "text,n\na,1\nb\n", ":3", "this row has 1 fields, the header 2"),
        ("x.csv", 'text\n"a\n', ":2", "not a valid table"),
        ("x.csv", b"text\na\n\xe4\n", ":3", "not UTF-8"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: str | bytes, place: str, message: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert message in str(caught.value)
    assert caught.value.where == f"{path}{place}"


@pytest.mark.parametrize(
    "row",
    [
        {"source": "eins", "target": "one"},
        {"src": "eins", "id": 3, "tgt": "one"},
        {"translation": {"de": "eins", "en": "one"}},
        {"question": "eins", "answer": "one"},
    ],
)
def test_both_texts_of_a_pair_are_texts(tmp_path: Path, row: dict) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps({"text": "whole"}) + "\n")
    assert list(read_texts([path])) == ["eins", "one", "whole"]


def test_several_paths_in_one_text_are_told_how_to_write_them() -> None:
    with pytest.raises(DataError) as raised:
        list_files(["a.txt,b.txt"])
    assert raised.value.hint == "write several as a list: [a.txt, b.txt]"


def test_wrong_places_and_kinds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        read(tmp_path / "missing.txt")
    with pytest.raises(DataError, match="no file to read"):
        read(tmp_path)
    text = write(tmp_path / "x.jsonl", '{"text": "a"}')
    with pytest.raises(DataError, match="a conversation was expected"):
        read(text, "chat")
    with pytest.raises(DataError, match="conversations were expected"):
        read(write(tmp_path / "x.txt", "a"), "chat")
    with pytest.raises(DataError, match="a text was expected"):
        read(write(tmp_path / "y.jsonl", json.dumps({"messages": CHAT})), "text")


def test_articles() -> None:
    text = " \n = One = \n \n Text .\n \n = = Part = = \n \n a\n = 2 x = \n b\n \n = Two = \n \n c\n"
    assert list(split_articles(text)) == [
        (2, " = One = \n \n Text .\n \n = = Part = = \n \n a\n = 2 x = \n b\n"),
        (12, " = Two = \n \n c\n"),
    ]
    assert list(split_articles("no heading\n")) == [(1, "no heading\n")]


def test_wikitext(shared_data: Path) -> None:
    for name in ("wiki.valid.tokens", "wiki.test.tokens"):
        records = read(shared_data / "wikitext2" / name)
        assert len(records) == 60  # as the corpus's authors count them
        whole = (shared_data / "wikitext2" / name).read_text()
        assert "".join(record.text or "" for record in records).split() == whole.split()


def test_support_conversations(shared_data: Path) -> None:
    records = read(shared_data / "bitext_support" / "bitext_support_long_responses.csv", "chat")
    assert len(records) == 4514
    assert (records[0].messages or [])[0]["content"] == "how can I cancel purchase 113542617735902?"
