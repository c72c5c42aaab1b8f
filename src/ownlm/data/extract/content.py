"""Content to text: the one function that the extraction stage calls for every document."""

from __future__ import annotations

import re
from collections.abc import Callable

from ...errors import OwnlmError
from ..sources.records import DOCX, HTML, MARKDOWN, PDF, RST, TEXT
from .encoding import decode
from .options import ExtractOptions
from .repair import repair
from .result import Extracted, ExtractError

__all__ = ["ExtractError", "ExtractOptions", "Extracted", "extract_text", "repair"]

# YAML front matter, as Jekyll began it and most site generators read it: metadata, not text.
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.{0,20000}?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.S)
_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+?)[ \t]*$", re.M | re.I)
_KEY = re.compile(r"^[\w-]+[ \t]*:", re.M)


def extract_text(content: bytes | str, media: str, charset: str | None, options: ExtractOptions) -> Extracted:
    """The clean text of a document.

    Args:
        content: its bytes, or its text where the container told the encoding.
        media: its media type; parameters after ``;`` are ignored.
        charset: the encoding that the container or the server declares, or None.
        options: the recipe's ``extract`` section.

    Raises:
        ExtractError: with a short stable reason; see there.
    """
    kind = media.split(";")[0].strip().lower()
    try:
        if not content:
            raise ExtractError("empty", "there is nothing in it")
        found = _reader(kind)(content, charset, options)
    except (ExtractError, OwnlmError, MemoryError):
        raise
    except Exception as error:
        # The libraries' own mistakes on bad input must not end a build.
        raise ExtractError("damaged", f"it could not be read ({type(error).__name__})") from error
    text = repair(found.text, options)
    if not text.strip():
        raise ExtractError("empty", "there is nothing but white space in it")
    title = " ".join(repair(found.title, options).split()) if found.title else None
    return Extracted(text, title or None, found.note)


Reader = Callable[[bytes | str, str | None, ExtractOptions], Extracted]


def _reader(kind: str) -> Reader:
    if kind in (HTML, "application/xhtml+xml"):
        return _from_page
    if kind == PDF:
        return _from_pdf
    if kind == DOCX:
        return _from_docx
    if kind == MARKDOWN:
        return _from_markdown
    if kind in (TEXT, RST):
        return _from_text
    raise ExtractError("unsupported", f"there is no reader for {kind or 'an unnamed kind of content'}")


def _from_text(content: bytes | str, charset: str | None, options: ExtractOptions) -> Extracted:
    if isinstance(content, str):
        return Extracted(content)
    decoded = decode(content, charset)
    return Extracted(decoded.text, None, decoded.note)


def _from_markdown(content: bytes | str, charset: str | None, options: ExtractOptions) -> Extracted:
    found = _from_text(content, charset, options)
    text = found.text.removeprefix("\ufeff").replace("\r\n", "\n")
    matter = _FRONT_MATTER.match(text)
    if not matter or not _KEY.search(matter[1]):
        return found
    title = _TITLE.search(matter[1])
    rest = text[matter.end() :]
    return Extracted(rest, title[1].strip("\"'") if title else None, (*found.note, "front matter was left out"))


def _from_page(content: bytes | str, charset: str | None, options: ExtractOptions) -> Extracted:
    from .page import extract_page

    found = _from_text(content, charset, options)
    page = extract_page(found.text, options)
    return Extracted(page.text, page.title, (*found.note, *page.note))


def _from_pdf(content: bytes | str, charset: str | None, options: ExtractOptions) -> Extracted:
    from .pdf import extract_pdf

    return extract_pdf(_bytes(content))


def _from_docx(content: bytes | str, charset: str | None, options: ExtractOptions) -> Extracted:
    from .word import extract_docx

    return extract_docx(_bytes(content))


def _bytes(content: bytes | str) -> bytes:
    if isinstance(content, str):
        raise ExtractError("damaged", "bytes were expected, not text")
    return content
