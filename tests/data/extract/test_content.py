"""The one function for every kind of content."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.extract.content import ExtractError, ExtractOptions, extract_text
from ownlm.data.sources.records import DOCX, HTML, MARKDOWN, PDF, RST, TEXT

DEFAULT = ExtractOptions()


def test_plain_text_is_decoded_and_repaired() -> None:
    found = extract_text("caf\u00e9 “ça”  \r\nand\u00a0où\r\n".encode("cp1252"), TEXT, None, DEFAULT)
    assert found.text == "café “ça”\nand où"
    assert found.note == ("decoded as cp1252",)
    assert extract_text("Ã©tÃ© \ud83d", TEXT, None, DEFAULT).text == "été"
    assert extract_text("x\r\n", RST, None, ExtractOptions(repair=False)).text == "x\r\n"


def test_a_page_by_its_declared_encoding() -> None:
    markup = "<html><head><title>Заголовок</title></head><body><p>Просто текст.</p></body></html>"
    found = extract_text(markup.encode("koi8-r"), "text/html; charset=koi8-r", "koi8-r", DEFAULT)
    assert (found.title, found.text) == ("Заголовок", "Просто текст.")
    assert extract_text(markup, HTML, None, DEFAULT) == found


@pytest.mark.parametrize("end", ["---", "..."])
def test_front_matter(end: str) -> None:
    text = f'---\ntitle: "On bridges"\ntags: [a, b]\n{end}\n\n# Bridges\n\nText.\n'
    found = extract_text(text.encode(), MARKDOWN, None, DEFAULT)
    assert found.text == "# Bridges\n\nText."
    assert found.title == "On bridges"
    assert found.note == ("front matter was left out",)
    windows = extract_text(text.replace("\n", "\r\n").encode("utf-8-sig"), MARKDOWN, None, DEFAULT)
    assert windows.text == found.text


@pytest.mark.parametrize(
    "text", ["---\n\nA rule, then text.\n\n---\n\nMore.", "---\ntitle: never closed", "# Only text"]
)
def test_what_is_no_front_matter(text: str) -> None:
    assert extract_text(text, MARKDOWN, None, DEFAULT).text == text


@pytest.mark.parametrize(
    ("content", "media", "reason"),
    [
        (b"", TEXT, "empty"),
        ("", HTML, "empty"),
        (b" \r\n\t\xc2\xa0 ", TEXT, "empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\r", TEXT, "not-text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\r", HTML, "not-text"),
        (b"<html></html>", HTML, "no-text"),
        (b"hello", PDF, "damaged"),
        (b"hello", DOCX, "damaged"),
        ("hello", PDF, "damaged"),
        (b"hello", "image/png", "unsupported"),
        (b"hello", "", "unsupported"),
    ],
)
def test_reasons(content: bytes | str, media: str, reason: str) -> None:
    with pytest.raises(ExtractError) as caught:
        extract_text(content, media, None, DEFAULT)
    assert caught.value.reason == reason
    assert caught.value.message
    assert not caught.value.message.endswith(".")


def test_pdf(make_pdf: Callable[..., bytes]) -> None:
    content = make_pdf([[(72, 700, 12, "Hello there, world.")]], title="A greeting")
    found = extract_text(content, PDF, None, DEFAULT)
    assert (found.text, found.title) == ("Hello there, world.", "A greeting")


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=200)),
    st.sampled_from([TEXT, HTML, MARKDOWN, PDF, DOCX]),
    st.sampled_from([None, "utf-16", "latin1", "gbk"]),
)
def test_anything_gives_text_or_an_error(content: bytes | str, media: str, charset: str | None) -> None:
    try:
        found = extract_text(content, media, charset, DEFAULT)
    except ExtractError as error:
        assert error.reason in ("empty", "not-text", "no-text", "damaged")
    else:
        found.text.encode()
        assert found.text.strip()
