"""Web archives: real ones good and damaged, written ones against public readers, and every way to break them."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.sources import REASONS, Failure, RawDocument, ReadLimits
from ownlm.data.sources.pages import content_type, read_page
from ownlm.data.sources.records import HTML, PDF, TEXT, Place, Unreadable
from ownlm.data.sources.streams import Budget, ByteStream, decompress
from ownlm.data.sources.warc import read_warc

warc = pytest.importorskip("fastwarc.warc")

Read = Callable[..., tuple[list[RawDocument], list[Failure]]]
PAGE = b"<!doctype html><title>T</title><p>Hello</p>"


def response(body: bytes = PAGE, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Type": "text/html; charset=utf-8"} | {k.replace("_", "-"): v for k, v in headers.items()}
    head = "".join(f"{key}: {value}\r\n" for key, value in fields.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def record(block: bytes, kind: str = "response", number: int = 1, length: int | None = None, **headers: str) -> bytes:
    fields = {
        "WARC-Type": kind,
        "WARC-Target-URI": f"http://example.com/{number}",
        "WARC-Date": "2024-01-01T00:00:00Z",
        "Content-Type": "application/http; msgtype=response" if kind == "response" else "text/plain",
        "Content-Length": str(len(block) if length is None else length),
    } | {key.replace("_", "-"): value for key, value in headers.items()}
    head = "".join(f"{key}: {value}\r\n" for key, value in fields.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + block + b"\r\n\r\n"


def read_bytes(content: bytes, kind: str = "warc", limits: ReadLimits | None = None, step: int = 1 << 20) -> tuple:
    budget = Budget(limits or ReadLimits(), len(content))
    file = io.BytesIO(content)
    stream = ByteStream(lambda size: file.read(min(size, step)))
    if content.startswith(b"\x1f\x8b"):
        stream = decompress(stream, "gz", budget)
    found = list(read_warc(stream, kind, Place("src", "x.warc"), budget))
    documents = [item for item in found if isinstance(item, RawDocument)]
    return documents, [(item.line, item.reason) for item in found if isinstance(item, Failure)]


# name: (numbers of the records that become documents, (record, reason) of the others that should have)
REAL = {
    "bad.arc": ([], [(1, "damaged-record"), (2, "damaged-record"), (3, "empty"), (4, "damaged-record")]),
    "example-bad-non-chunked.warc.gz": ([3], []),
    "example-bad.warc.gz.bad": ([2], [(6, "http-status")]),
    "example-digest.warc": ([], [(0, "empty")]),
    "example-iana.org-chunked.warc": ([2], []),
    "example-resource.warc.gz": ([3], []),
    "example-space-in-target-uri.warc.gz": ([], [(2, "other-media")]),
    "example-space-in-url.arc": ([], [(2, "truncated")]),
    "example-trunc.warc": ([], [(3, "damaged-record")]),
    "example-wget-bad-target-uri.warc.gz": ([3], []),
    "example-wrong-chunks.warc.gz": ([], [(1, "truncated")]),
    "example.arc": ([2], []),
    "example.arc.gz": ([2], []),
    "example.warc": ([3], []),
    "example.warc.gz": ([3], []),
    "post-test.warc.gz": ([], [(1, "other-media"), (3, "other-media"), (5, "other-media")]),
}


def test_real_files(shared_data: Path, read: Read) -> None:
    folder = shared_data / "dirty_web" / "warc"
    documents, failures = read(folder)
    assert {path.name for path in folder.iterdir()} == set(REAL)
    for name, (numbers, reasons) in REAL.items():
        found = [d for d in documents if d.file.startswith(f"{name}!")]
        assert [d.line for d in found] == numbers, name
        assert [d.file for d in found] == [f"{name}!{number}" for number in numbers]
        failed = [f for f in failures if f.file.split("!")[0] == name]
        assert [(f.line, f.reason) for f in failed] == reasons, name
    assert {d.url for d in documents} == {
        "http://example.com/",
        "http://example.com?example=1",
        "http://www.iana.org/",
    }
    assert all(d.media == HTML and (d.content or b"").lstrip()[:9].lower() == b"<!doctype" for d in documents)


@pytest.mark.parametrize("name", ["example.warc.gz", "example-iana.org-chunked.warc", "example-resource.warc.gz"])
def test_pages_are_those_of_a_public_reader(shared_data: Path, read: Read, name: str) -> None:
    path = shared_data / "dirty_web" / "warc" / name
    wanted = warc.WarcRecordType.response | warc.WarcRecordType.resource
    with path.open("rb") as file:
        theirs = [
            (found.headers["WARC-Target-URI"], found.http_charset, found.reader.read())
            for found in warc.ArchiveIterator(file, record_types=wanted, parse_http=True, auto_decode="all")
        ]
    documents, _ = read(path)
    # A resource has no HTTP headers, so that reader does not look for its encoding.
    assert [(d.url, d.content) for d in documents] == [(url, body) for url, _, body in theirs]
    assert all(d.charset == charset for d, (_, charset, _) in zip(documents, theirs, strict=True) if charset)


# Text with all that ends lines and records in it.
blocks_of_text = st.lists(
    st.sampled_from([b"\r\n", b"\n\n", b"WARC/1.0", b"\nWARC/1.0\r\n", b"a", b"\xe4"]), max_size=9
)


@given(st.lists(blocks_of_text.map(b"".join), max_size=5), st.integers(1, 99))
@settings(deadline=None)
def test_any_block_comes_back_with_its_place(blocks: list[bytes], step: int) -> None:
    content = b"".join(record(b"<html>" + block, "resource", Content_Type="text/html") for block in blocks)
    for packed in (content, gzip.compress(content)):
        documents, failures = read_bytes(packed, step=step)
        assert [d.content for d in documents] == [b"<html>" + block for block in blocks]
        assert failures == []
        cut = [content[d.begin : d.end] for d in documents]
        assert all(raw.startswith(b"WARC/1.0") and raw.endswith(b"<html>" + block) for raw, block in zip(cut, blocks))


def test_which_records_become_documents() -> None:
    content = b"".join(
        [
            record(b"software: x", "warcinfo"),
            record(response(), number=2),
            record(b"GET / HTTP/1.0\r\n\r\n", "request"),
            record(b"a resource", "resource", number=4),
            record(b"a conversion", "conversion", number=5, Content_Type="text/plain; charset=UTF-8"),
            record(b"note", "metadata"),
            record(response(status="404 Not Found"), number=7),
            record(response(b"{}", Content_Type="application/json"), number=8),
            record(response(b""), number=9),
            record(response(b"%PDF-1.4 ...", Content_Type="text/html"), number=10),
            record(response(b"unlabelled text", Content_Type=""), number=11),
            record(response(b"\x89PNG\0\0\0", Content_Type=""), number=12),
            record(b"log", "resource", WARC_Target_URI="<metadata://gnu.org/software/wget/warc/wget.log>"),
            record(b"no answer", number=14),
        ]
    )
    documents, failures = read_bytes(content)
    assert [(d.line, d.media, d.charset, d.url) for d in documents] == [
        (2, HTML, "utf-8", "http://example.com/2"),
        (4, TEXT, None, "http://example.com/4"),
        (5, TEXT, "utf-8", "http://example.com/5"),
        (10, PDF, None, "http://example.com/10"),
        (11, TEXT, None, "http://example.com/11"),
    ]
    assert documents[0].metadata == {"date": "2024-01-01T00:00:00Z"}
    assert documents[3].metadata["declared"] == "text/html"
    assert failures == [
        (7, "http-status"),
        (8, "other-media"),
        (9, "empty"),
        (12, "unsupported"),
        (14, "damaged-record"),
    ]


@pytest.mark.parametrize("damage", ["shorter", "longer", "none", "word", "magic", "rubbish"])
def test_a_broken_record_costs_only_itself(damage: str) -> None:
    good = [record(response(), number=number) for number in range(1, 5)]
    broken = {
        "shorter": record(response(), length=20),
        "longer": record(response(), length=len(response()) + 9),
        "none": record(response()).replace(b"Content-Length: ", b"Content-Size: "),
        "word": record(response()).replace(b"Content-Length: ", b"Content-Length: x"),
        "magic": record(response()).replace(b"WARC/1.0", b"WORC/1.0"),
        "rubbish": b"rubbish\nWARC/ is no header\n",
    }[damage]
    documents, failures = read_bytes(good[0] + good[1] + broken + good[2] + good[3], step=50)
    assert failures == [(3, "damaged-record")]
    expected = ["http://example.com/1", "http://example.com/2", "http://example.com/3", "http://example.com/4"]
    # A length that is too long takes in the beginning of the next record's header.
    assert [d.url for d in documents] == [u for u in expected if damage != "longer" or u != "http://example.com/3"]


def test_damage_in_a_gzip_member_costs_only_it() -> None:
    members = [gzip.compress(record(response(b"<p>" + bytes([65 + n]) * 500), number=n)) for n in range(6)]
    members[2] = members[2][:40] + b"\xff\xff\xff" + members[2][43:]
    members[4] = members[4][:-8] + b"\0\0\0\0" + members[4][-4:]
    documents, failures = read_bytes(b"".join(members), step=100)
    urls = [d.url for d in documents]
    # The checksum of the fifth is known to be wrong only when its record has been given.
    assert [url for url in urls if url != "http://example.com/4"] == [f"http://example.com/{n}" for n in (0, 1, 3, 5)]
    assert [reason for _, reason in failures] == ["damaged-record", "damaged-record"]


def test_a_cut_file(tmp_path: Path, read: Read) -> None:
    noise = random.Random(0).randbytes(300).hex().encode()
    content = record(response(), number=1) + record(response(noise), number=2)
    for name, raw in [("a.warc", content), ("b.warc.gz", gzip.compress(content))]:
        (tmp_path / name).write_bytes(raw[:-30])
    documents, failures = read(tmp_path)
    assert [d.file for d in documents] == ["a.warc!1", "b.warc.gz!1"]
    assert [(f.file, f.reason) for f in failures] == [("a.warc!2", "truncated"), ("b.warc.gz!2", "truncated")]


def test_large_records_are_passed_over() -> None:
    content = record(response(b"<p>" + b"x" * 5000), number=1) + record(response(), number=2)
    documents, failures = read_bytes(content, limits=ReadLimits(max_document_bytes=2000))
    assert [d.line for d in documents] == [2]
    assert failures == [(1, "too-large")]


def chunked(body: bytes, size: int = 10) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def deflated(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


def test_pages_in_chunks_and_compressed() -> None:
    brotli = pytest.importorskip("brotli")
    zstandard = pytest.importorskip("zstandard")
    budget = Budget(ReadLimits(), 1000)
    packed = {
        "gzip": gzip.compress(PAGE),
        "x-gzip": gzip.compress(PAGE),
        "deflate": zlib.compress(PAGE),
        " Deflate": deflated(PAGE),
        "br": brotli.compress(PAGE),
        "zstd": zstandard.ZstdCompressor().compress(PAGE),
        "identity": PAGE,
        "gzip, gzip": gzip.compress(gzip.compress(PAGE)),
        # As crawlers store it that expand a page and keep its headers.
        "GZIP": PAGE,
    }
    for encoding, body in packed.items():
        assert read_page(response(body, Content_Encoding=encoding), budget).body == PAGE
        both = response(chunked(body), Content_Encoding=encoding, Transfer_Encoding="chunked")
        assert read_page(both, budget).body == PAGE
    assert read_page(response(PAGE, Transfer_Encoding="chunked"), budget).body == PAGE


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"not HTTP", "damaged-record"),
        (response(PAGE, Content_Length="900"), "truncated"),
        (response(chunked(PAGE)[:-20], Transfer_Encoding="chunked"), "truncated"),
        (response(chunked(PAGE)[:-5], Transfer_Encoding="chunked"), "truncated"),
        (response(chunked(PAGE)[:-5] + b"zz\r\n", Transfer_Encoding="chunked"), "damaged-record"),
        (response(gzip.compress(PAGE)[:-9], Content_Encoding="gzip"), "truncated"),
        (response(b"\x1f\x8b\x08" + b"x" * 50, Content_Encoding="gzip"), "damaged-record"),
        (response(b"\xff" * 50, Content_Encoding="br"), "damaged-record"),
        (response(PAGE, Content_Encoding="compress"), "unsupported"),
        (response(gzip.compress(bytes(10**6)), Content_Encoding="gzip"), "too-large"),
        (response(zlib.compress(bytes(10**6)), Content_Encoding="deflate"), "too-large"),
    ],
)
def test_broken_pages(block: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_page(block, Budget(ReadLimits(max_document_bytes=10_000), len(block)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_pages_that_expand_share_what_a_file_may(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = record(response(pack(b"a" * (10 << 20)), Content_Encoding=encoding))
    documents, failures = read_bytes(bomb + bomb + record(response(PAGE)) + bomb)
    assert [document.content for document in documents] == [b"a" * (10 << 20), PAGE]
    assert failures == [(2, "archive-bomb"), (4, "archive-bomb")]


def test_media_types_as_servers_write_them() -> None:
    assert content_type("text/html; charset=UTF-8") == ("text/html", "utf-8")
    assert content_type('Text/HTML;Charset="iso-8859-1" ; x=y') == ("text/html", "iso-8859-1")
    assert content_type("text/html;") == ("text/html", None)
    assert content_type(" ") == (None, None)


def test_arc_records() -> None:
    block = response()
    header = b"filedesc://x.arc 0.0.0.0 20140101000000 text/plain 75\n"
    first = b"1 0 Test\nURL IP-address Archive-date Content-type Archive-length\n"
    content = header.replace(b"75", b"%d" % len(first)) + first + b"\n"
    for url in (b"http://example.com/a b c", b"http://example.com/d"):
        content += url + b" 1.2.3.4 20140101000000 text/html %d\n" % len(block) + block + b"\n"
    # Version 2 has more fields (result, checksum, location, offset, file name).
    content += (
        b"http://example.com/e 1.2.3.4 20140101000000 text/html 200 - - 0 x.arc %d\n" % len(block) + block + b"\n"
    )
    content += b"dns:example.com 1.2.3.4 20140101000000 text/dns 4\nx.y.\n"
    documents, failures = read_bytes(content, "arc")
    assert [(d.line, d.url) for d in documents] == [
        (2, "http://example.com/a b c"),
        (3, "http://example.com/d"),
        (4, "http://example.com/e"),
    ]
    assert failures == []
    assert all(d.content == PAGE and content[d.begin : d.end].endswith(PAGE) for d in documents)


SAMPLE = (
    record(response(), number=1) + record(b"text", "conversion", 2) + record(response(gzip.compress(PAGE)), number=3)
)


@given(st.booleans(), st.data())
@settings(max_examples=100, deadline=None)
def test_damage_never_raises(packed: bool, data: st.DataObject) -> None:
    content = bytearray(gzip.compress(SAMPLE) if packed else SAMPLE)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(2 if packed else 0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(3, len(content)))]
    documents, failures = read_bytes(bytes(content), data.draw(st.sampled_from(["warc", "arc"])))
    assert all(reason in REASONS for _, reason in failures)
    assert len(documents) <= 3
