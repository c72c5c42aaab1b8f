"""Every format as an independent writer makes it, and every way in which a file is not what it should be."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ownlm.data.sources import REASONS, Failure, RawDocument, ReadLimits, SourceOptions, list_units, read_unit
from ownlm.data.sources.records import DOCX, HTML, MARKDOWN, PDF, RST, TEXT

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
PAGE = b"<!DOCTYPE html>\n<html><body><p>Hello</p></body></html>"
PDF_BYTES = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\ntrailer\n%%EOF\n"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0"
Read = Callable[..., tuple[list[RawDocument], list[Failure]]]


def word_document() -> bytes:
    """As much of a Word document as tells that it is one."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<w:document/>")
    return file.getvalue()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "media"),
    [
        ("a.txt", b"Plain text\r\n", TEXT),
        ("a.txt", "caf\xe9 cr\xe8me".encode("latin-1"), TEXT),
        ("a.txt", "text".encode("utf-16"), TEXT),
        ("a.txt", "some longer text in it".encode("utf-16-le"), TEXT),
        ("README", b"Plain text", TEXT),
        ("a.md", b"# Title", MARKDOWN),
        ("a.md", b"<div align=center>logo</div>\n\n# Title", MARKDOWN),
        ("a.rst", b"Title\n=====", RST),
        ("a.html", PAGE, HTML),
        ("a.htm", b"<p>a fragment</p>", HTML),
        ("a.xhtml", b'<?xml version="1.0"?>\n' + PAGE, HTML),
        ("a.pdf", PDF_BYTES, PDF),
        ("a.pdf", b"junk before it\n" + PDF_BYTES, PDF),
        ("a.docx", word_document(), DOCX),
    ],
)
def test_a_file_that_is_one_document(tmp_path: Path, read: Read, name: str, content: bytes, media: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path) == ([RawDocument("src", name, 0, len(content), content=content, media=media)], [])


RECORDS = [{"text": "One", "n": 1}, {"text": "Zw\xf6lf \u2028 \U0001f642", "n": 2}]


def as_csv(delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, ["n", "text"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(RECORDS)
    return file.getvalue().encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS).encode()),
        ("a.ndjson", "\n".join(map(json.dumps, RECORDS)).encode()),
        ("a.json", json.dumps(RECORDS, indent=2).encode()),
        ("a.json", "\n".join(map(json.dumps, RECORDS)).encode()),
        ("a.jsonl", json.dumps(RECORDS, indent=2).encode()),
        ("a.csv", as_csv()),
        ("a.csv", b"\xef\xbb\xbf" + as_csv(";")),
        ("a.csv", as_csv("\t").decode().encode("utf-16")),
        ("a.tsv", as_csv("\t")),
        ("a.parquet", parquet(RECORDS)),
        ("a.parquet", parquet(RECORDS, compression="zstd", row_group_size=1)),
    ],
)
@pytest.mark.parametrize("pack", ["", "gz", "bz2", "xz", "zst"])
def test_a_file_of_records(tmp_path: Path, read: Read, name: str, content: bytes, pack: str) -> None:
    packers: dict[str, Callable[[bytes], bytes]] = {
        "": bytes,
        "gz": gzip.compress,
        "bz2": bz2.compress,
        "xz": lzma.compress,
        "zst": zstandard.ZstdCompressor().compress,
    }
    path = tmp_path / (f"{name}.{pack}" if pack else name)
    path.write_bytes(packers[pack](content))
    documents, failures = read(path, columns={"metadata": ["n"]})
    assert failures == []
    assert [document.content for document in documents] == [record["text"] for record in RECORDS]
    assert [int(document.metadata["n"]) for document in documents] == [1, 2]
    assert {document.file for document in documents} == {path.name}
    for document, record in zip(documents, RECORDS, strict=True):
        if document.begin >= 0:
            assert document.content in _values(content[document.begin : document.end], name, str(record["n"]))


def _values(raw: bytes, name: str, number: str) -> list[str]:
    """What a record's own bytes hold, read by another reader."""
    if ".js" in name or ".nd" in name:
        return list(json.loads(raw).values())
    delimiter = next(d for d in ",;\t" if raw.decode().startswith(number + d))
    return next(csv.reader(io.StringIO(raw.decode()), delimiter=delimiter))


def test_one_object_and_a_list_on_one_line(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"text": "alone", "title": "T", "url": "http://x"}, indent=1))
    (tmp_path / "b.jsonl").write_text(json.dumps([{"text": "listed"}]))
    documents, failures = read(tmp_path)
    assert [(d.content, d.title, d.url) for d in documents] == [("alone", "T", "http://x"), ("listed", None, None)]
    assert failures == []


def test_wikitext_is_read_as_articles(tmp_path: Path, read: Read) -> None:
    text = " \n = One = \n \n Text \xe4 . \n \n = = Part = = \n \n a\n \n = Two = \n \n c\n"
    (tmp_path / "wiki.valid.tokens").write_text(text)
    documents, _ = read(tmp_path)
    assert [(d.line, d.content) for d in documents] == [
        (2, " = One = \n \n Text \xe4 . \n \n = = Part = = \n \n a\n"),
        (10, " = Two = \n \n c\n"),
    ]
    raw = text.encode()
    assert all(raw[d.begin : d.end].decode() + "\n" == d.content for d in documents)


@pytest.mark.parametrize(
    ("name", "content", "media", "named"),
    [
        ("a.txt", PAGE, HTML, "text"),
        ("a.pdf", PAGE, HTML, "pdf"),
        ("a.html", PDF_BYTES, PDF, "html"),
        ("a.doc", PDF_BYTES, PDF, None),
        ("a.zip", word_document(), DOCX, "zip"),
        ("a.txt", word_document(), DOCX, "text"),
        ("a.dat", PAGE, HTML, None),
    ],
)
def test_a_wrong_name_is_read_as_what_it_is(
    tmp_path: Path, read: Read, name: str, content: bytes, media: str, named: str | None
) -> None:
    (tmp_path / name).write_bytes(content)
    ([document], failures) = read(tmp_path)
    assert (document.media, document.metadata.get("named"), failures) == (media, named, [])


def test_archives_and_tables_under_wrong_names(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.txt").write_bytes(gzip.compress(b'{"text": "packed"}\n{"text": "too"}'))
    (tmp_path / "b.json").write_bytes(parquet([{"text": "table"}]))
    (tmp_path / "c.unknown").write_bytes(b'{"text": "lines"}\n{"text": "more"}\n')
    documents, failures = read(tmp_path)
    # What is in a.txt is named "a.txt", a text.
    assert [document.content for document in documents][1:] == ["table", "lines", "more"]
    assert documents[0].media == TEXT
    assert failures == []


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"", "empty"),
        ("a.jsonl", b"\n\n", "empty"),
        ("a.json", b"[]", "empty"),
        ("a.csv", b"text\n", "empty"),
        ("a.jsonl", b'{"text": "  "}', "empty"),
        ("a.txt", PNG, "mislabelled"),
        ("a.pdf", b"This is a text", "mislabelled"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "mislabelled"),
        ("a.docx", b"some text", "mislabelled"),
        ("a.jsonl", b"text,n\na,1\n", "mislabelled"),
        ("a.gz", b"some text", "mislabelled"),
        ("a.png", PNG, "unsupported"),
        ("program", b"\x7fELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0", "unsupported"),
        ("a.css", b"body { color: red }", "unsupported"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "unsupported"),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504) + "EncryptedPackage".encode("utf-16-le"),
            "encrypted",
        ),
        ("a.parquet", b"PARE" + bytes(20), "encrypted"),
        ("a.parquet", parquet(RECORDS)[:-20], "truncated"),
        ("a.parquet", parquet([{"n": 1}]), "unknown-columns"),
        ("a.csv", b"n,m\n1,2\n", "unknown-columns"),
        ("a.jsonl", b'{"n": 1}', "unknown-columns"),
        ("a.jsonl", b'{"text": 5}', "damaged-record"),
        ("a.jsonl", b'{"text": "\\ud83d"}', "not-utf8"),
        ("a.csv", b'text\n"a\n', "truncated"),
        ("a.csv", b"text,n\nb\n", "damaged-record"),
        ("a.txt.gz", gzip.compress(b"a text" * 1000)[:-9], "truncated"),
        ("a.txt.gz", gzip.compress(b"a text") + b"and more", "damaged-record"),
        ("a.txt.zst", zstandard.ZstdCompressor().compress(b"a text" * 1000)[:-3], "truncated"),
        ("a.txt.bz2", bz2.compress(b"a text" * 1000)[:-3], "truncated"),
        ("a.txt.xz", lzma.compress(b"a text" * 1000)[:-3], "truncated"),
        ("a.json", b'[{"messages": [{"role": "user", "content": "Hi"}]}]', "invalid-chat"),
    ],
)
def test_what_cannot_be_read_is_one_named_failure(
    tmp_path: Path, read: Read, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    documents, failures = read(tmp_path)
    assert documents == []
    assert [(failure.file, failure.reason) for failure in failures] == [(name, reason)]
    assert failures[0].message[0].islower() or failures[0].message[0] == "'"
    assert not failures[0].message.endswith(".")


@pytest.mark.parametrize(
    ("record", "options", "reason", "message"),
    [
        ({"text": None}, {}, "empty", "'text' is null"),
        ({"body": None, "n": 1}, {}, "empty", "'body' is null"),
        ({"body": None}, {"text": "body"}, "empty", "'body' is null"),
        ({"prompt": "Hi", "response": None}, {}, "empty", "'response' is null"),
        ({"messages": None}, {}, "empty", "'messages' is null"),
        ({"input": None, "n": 1}, {}, "unknown-columns", "found 'input', 'n'"),
        ({"prompt": "Hi"}, {}, "unknown-columns", "found 'prompt'"),
        ({"text": None}, {"text": "body"}, "unknown-columns", "found 'text'"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_null_is_not_a_missing_column(
    tmp_path: Path, read: Read, kind: str, record: dict, options: dict, reason: str, message: str
) -> None:
    if kind == "jsonl":
        (tmp_path / "a.jsonl").write_text(json.dumps(record))
    else:
        # The column's other rows say that it holds texts.
        full = [record, {name: "x" if isinstance(value, str | None) else value for name, value in record.items()}]
        (tmp_path / "a.parquet").write_bytes(parquet(full))
    failures = read(tmp_path, columns=options)[1]
    assert (failures[0].reason, failures[0].message.split(";")[0]) == (reason, message)


def test_nulls_among_texts(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null, "content": "Said."}\n{"text": null}\n')
    documents, failures = read(tmp_path)
    assert [document.content for document in documents] == ["Said."]
    assert [(failure.line, failure.reason) for failure in failures] == [(2, "empty")]


def test_a_cut_gzip_gives_what_was_whole(tmp_path: Path, read: Read) -> None:
    rows = [{"text": f"{number} {'abc' * number}"} for number in range(500)]
    packed = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) * 2 // 3])
    documents, failures = read(tmp_path)
    assert [document.content for document in documents] == [row["text"] for row in rows[: len(documents)]]
    assert 100 < len(documents) < 500
    assert [failure.reason for failure in failures] == ["truncated"]


def test_a_large_text_is_left_out_and_reading_goes_on(tmp_path: Path, peak: Callable[..., int]) -> None:
    with (tmp_path / "a.txt").open("wb") as file:
        for _ in range(200):
            file.write(b"x" * (1 << 20))
    (tmp_path / "b.txt").write_text("small")
    found: list[Any] = []
    assert peak(tmp_path, ReadLimits(max_document_bytes=1 << 20), found) < 8 << 20
    documents, failures = found
    assert [d.content for d in documents] == [b"small"]
    assert [(f.file, f.reason) for f in failures] == [("a.txt", "too-large")]


def test_text_in_other_encodings_travels_as_bytes(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_bytes("text,n\ncaf\xe9,1\nna\xefve,2\n".encode("latin-1"))
    documents, failures = read(tmp_path)
    assert [document.content for document in documents] == [b"caf\xe9", b"na\xefve"]
    (tmp_path / "a.csv").write_bytes("prompt,response\ncaf\xe9,yes\nHi,Hello\n".encode("latin-1"))
    documents, failures = read(tmp_path)
    assert [document.messages for document in documents] == [CHAT]
    assert [(failure.line, failure.reason) for failure in failures] == [(2, "not-utf8")]


def test_rows_of_tables(tmp_path: Path, read: Read) -> None:
    content = b'\xef\xbb\xbfid,text\r\n1,"a ""b""\nc"\r\n\r\n2,x,y\n3,"open" z\n4,last'
    (tmp_path / "a.csv").write_bytes(content)
    documents, failures = read(tmp_path)
    assert [(d.line, d.content, content[d.begin : d.end]) for d in documents] == [
        (2, 'a "b"\nc', b'1,"a ""b""\nc"'),
        (7, "last", b"4,last"),
    ]
    assert [(f.line, f.reason) for f in failures] == [(5, "damaged-record"), (6, "damaged-record")]


def test_a_quote_that_is_never_closed_stays_bounded(tmp_path: Path, read: Read) -> None:
    (tmp_path / "a.csv").write_bytes(b'text\nfirst\n"open\n' + b"line of text\n" * 100)
    documents, failures = read(tmp_path, ReadLimits(max_document_bytes=500))
    assert documents[0].content == "first"
    assert (failures[0].line, failures[0].reason) == (3, "too-large")


def test_parquet_with_lists_structs_and_bytes(tmp_path: Path, read: Read) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Hi", "name": None}, {"role": "assistant", "content": "Hello"}]},
        {"messages": None},
    ]
    (tmp_path / "a.parquet").write_bytes(parquet(rows))
    (tmp_path / "b.parquet").write_bytes(parquet([{"text": b"caf\xe9"}, {"text": b"plain"}]))
    broken = pyarrow.array([b"good", b"\xff\xfe"]).cast(pyarrow.binary()).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "c.parquet")
    documents, failures = read(tmp_path)
    assert [document.messages for document in documents] == [CHAT, None, None, None]
    assert [document.content for document in documents] == [None, b"caf\xe9", "plain", "good"]
    assert [(f.file, f.line, f.reason) for f in failures] == [
        ("a.parquet", 2, "empty"),
        ("c.parquet", 2, "not-utf8"),
    ]


def test_a_row_group_need_not_fit_into_memory(tmp_path: Path) -> None:
    noise = random.Random(0)
    rows = [{"text": noise.randbytes(2000).hex()} for _ in range(5000)]
    (tmp_path / "a.parquet").write_bytes(parquet(rows, compression="none", use_dictionary=False, row_group_size=5000))
    units, limits = list_units(source := SourceOptions(name="src", path=str(tmp_path)), ReadLimits())[0], ReadLimits()
    tracemalloc.start()
    try:
        assert sum(isinstance(record, RawDocument) for record in read_unit(units[0], source, limits)) == 5000
        assert tracemalloc.get_traced_memory()[1] < 6 << 20  # of 20 MB
    finally:
        tracemalloc.stop()


def test_a_missing_file_and_a_changed_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("here")
    source, limits = SourceOptions(name="src", path=str(path)), ReadLimits()
    ([unit], _) = list_units(source, limits)
    path.unlink()
    ([failure]) = list(read_unit(unit, source, limits))
    assert isinstance(failure, Failure)
    assert failure.reason == "unreadable"


SAMPLES = {
    "a.jsonl": b'{"text": "One"}\n{"messages": [{"role": "user", "content": "Hi"}]}\n',
    "a.json": json.dumps(RECORDS).encode(),
    "a.csv": as_csv(),
    "a.parquet": parquet(RECORDS),
    "a.docx": word_document(),
    "a.jsonl.gz": gzip.compress(b'{"text": "One"}\n' * 20),
    "a.jsonl.zst": zstandard.ZstdCompressor().compress(b'{"text": "One"}\n' * 20),
    "a.jsonl.bz2": bz2.compress(b'{"text": "One"}\n' * 20),
    "a.jsonl.xz": lzma.compress(b'{"text": "One"}\n' * 20),
}


@given(st.sampled_from(sorted(SAMPLES)), st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_never_raises(tmp_path: Path, read: Read, name: str, data: st.DataObject) -> None:
    content = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = tmp_path / name
    path.write_bytes(content)
    documents, failures = read(path)
    path.unlink()
    assert documents or failures
    assert all(failure.reason in REASONS for failure in failures)
