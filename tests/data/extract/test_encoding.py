"""Decoding: marks, declarations, detection over real passages, and content that is no text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.extract.encoding import decode, python_name
from ownlm.data.extract.result import ExtractError

# The encodings that old pages and files in these languages are in, with the name that decodes them.
ENCODINGS = [
    ("cp1252", "fr", "cp1252"),
    ("cp1252", "de", "cp1252"),
    ("cp1252", "es", None),
    ("cp1252", "it", "cp1252"),
    ("latin-1", "pt", "cp1252"),
    ("latin-1", "sv", "cp1252"),
    ("cp1250", "pl", None),
    ("cp1250", "cs", None),
    ("iso8859-2", "hu", None),
    ("cp1251", "ru", "cp1251"),
    ("cp1251", "uk", "cp1251"),
    ("cp1251", "bg", "cp1251"),
    ("koi8-r", "ru", None),
    ("iso8859-5", "ru", None),
    ("cp866", "ru", None),
    ("cp1253", "el", None),
    ("cp1254", "tr", None),
    ("cp1255", "he", None),
    ("cp1256", "ar", None),
    ("cp874", "th", None),
    ("shift_jis", "ja", "cp932"),
    ("euc_jp", "ja", "euc_jp"),
    ("iso2022_jp", "ja", "iso2022_jp"),
    ("gb18030", "zh-hans", "gb18030"),
    ("gbk", "zh-hans", "gb18030"),
    ("big5", "zh-hant", "big5hkscs"),
    ("euc_kr", "ko", "cp949"),
    ("utf-16-le", "ru", "utf-16-le"),
    ("utf-16-be", "ru", "utf-16-be"),
    ("utf-16-le", "de", "utf-16-le"),
    ("utf-16-be", "ko", "utf-16-be"),
    ("utf-8", "hi", "utf-8"),
]


@pytest.mark.parametrize(("encoding", "language", "found"), ENCODINGS)
def test_detection(encoding: str, language: str, found: str | None, sentences: dict[str, str]) -> None:
    text = sentences[language] + "\n"
    decoded = decode(text.encode(encoding))
    assert decoded.text == text
    assert found is None or decoded.encoding == found


def test_detection_of_excerpts(sentences: dict[str, str]) -> None:
    draw = random.Random(0)
    right = total = 0
    for encoding, language, _ in ENCODINGS:
        words = sentences[language].split(" ")
        for _ in range(5):
            text = " ".join(draw.choices(words, k=30)) + "\n"
            if text.isascii():
                continue
            total += 1
            right += decode(text.encode(encoding, "ignore")).text == text.encode(encoding, "ignore").decode(encoding)
    assert total > 140
    assert right / total >= 0.95


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(encoding: str, sentences: dict[str, str]) -> None:
    for text in sentences.values():
        # A mark is believed before any declaration.
        assert decode(text.encode(encoding), "koi8-r").text == text


def test_labels_mean_what_the_web_means() -> None:
    # https://encoding.spec.whatwg.org/#names-and-labels, and Python's supersets of what it names.
    labels = {
        "latin1": "cp1252",
        "ISO-8859-1": "cp1252",
        "us-ascii": "cp1252",
        "iso-8859-9": "cp1254",
        "gb2312": "gb18030",
        "x-gbk": "gb18030",
        "ks_c_5601-1987": "cp949",
        "x-sjis": "cp932",
        "windows-31j": "cp932",
        " UTF8 ": "utf_8",
        '"utf-8"': "utf_8",
        "windows-874": "cp874",
        "tis-620": "cp874",
        "koi8": "koi8_r",
        "macintosh": "mac_roman",
        "iso-8859-8-i": "iso8859_8",
    }
    assert {label: python_name(label) for label in labels} == labels
    for label in ("", "none", "utf-7", "rot13", "hex", "idna", "base64", "unicode_escape"):
        assert python_name(label) is None


def test_declared_by_the_server_or_the_document(sentences: dict[str, str]) -> None:
    russian = sentences["ru"]
    assert decode(russian.encode("cp866"), "ibm866").text == russian
    page = f"<html><head><meta charset='koi8-r'></head>{russian}"
    assert decode(page.encode("koi8-r")).text == page
    page = f"<html><head><META http-equiv=Content-Type content='text/html; charset=windows-1251'></head>{russian}"
    assert decode(page.encode("cp1251")).text == page
    page = f'<?xml version="1.0" encoding="ISO-8859-5"?><html>{russian}</html>'
    assert decode(page.encode("iso8859-5")).text == page


def test_wrong_declarations(sentences: dict[str, str]) -> None:
    for language in ("fr", "ru", "ja"):
        text = f"<meta charset=iso-8859-1>{sentences[language]}"
        assert decode(text.encode(), "iso-8859-1").text == text
    # Servers say latin1 of everything.
    text = f"<p>{sentences['ru']}</p>"
    assert decode(text.encode("cp1251"), "iso-8859-1").text == text
    text = sentences["ja"]
    assert decode(text.encode("shift_jis"), "utf-8").text == text
    assert decode("naïve".encode("cp1252"), "no such encoding").text == "naïve"
    # A meta element that can be read as single bytes is not in UTF-16.
    assert decode("<meta charset=utf-16><p>é".encode()).text == "<meta charset=utf-16><p>é"


def test_bytes_that_windows_left_undefined() -> None:
    decoded = decode(b"caf\xe9 \x81 \x93x\x94", "latin1")
    assert decoded.text == "caf\xe9 \x81 \u201cx\u201d"


def test_damaged_utf8(sentences: dict[str, str]) -> None:
    text = sentences["ru"].rstrip(".") * 3
    content = text.encode()
    cut = decode(content[:-1])
    assert cut.text == text[:-1] + "\ufffd"
    assert cut.note == ("1 places are not valid utf_8",)
    spliced = decode(content[:101] + b"\xff" + content[101:])
    assert spliced.text.count("\ufffd") <= 3
    assert spliced.encoding == "utf_8"


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        b"%PDF-1.7 and more",
        b"PK\x03\x04",
        bytes(range(256)) * 20,
        random.Random(0).randbytes(5000),
        b"\x7fELF" + bytes(100),
        b"\0" * 100,
    ],
)
def test_binary_content(content: bytes) -> None:
    with pytest.raises(ExtractError) as caught:
        decode(content)
    assert caught.value.reason == "not-text"


def test_nothing() -> None:
    with pytest.raises(ExtractError) as caught:
        decode(b"")
    assert caught.value.reason == "empty"


def test_stray_control_characters_are_text() -> None:
    text = "A page\x00 that lost\x07 a few bytes" + " among very many others" * 10
    assert decode(text.encode()).text == text


@settings(deadline=None)
@given(st.text(min_size=1))
def test_any_utf8_comes_back(text: str) -> None:
    try:
        content = text.encode()
    except UnicodeEncodeError:
        return
    try:
        decoded = decode(content)
    except ExtractError as error:
        assert error.reason == "not-text"
    else:
        if decoded.encoding in ("ascii", "utf-8") and not content.startswith(
            (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
        ):
            assert decoded.text == text


@settings(deadline=None)
@given(st.binary(max_size=400), st.sampled_from([None, "utf-8", "latin1", "gbk", "utf-16", "iso-2022-jp", "x"]))
def test_any_bytes_give_text_or_an_error(content: bytes, charset: str | None) -> None:
    try:
        decode(content, charset).text.encode("utf-8", "surrogatepass")
    except ExtractError as error:
        assert error.reason in ("empty", "not-text")
