"""PDF: lines as PDFium finds them, put together to paragraphs.

A PDF knows letters at places on a page, neither words nor paragraphs. PDFium finds the lines. Here running headers and
footers are left out, words that a line end divided are joined, and lines become paragraphs by what a reader goes by:
the space between them, a line that ends early, an indent, another size of letters, a bullet.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import MissingExtra
from .result import Extracted, ExtractError

# The parts of a page's height at its top and bottom where running lines stand.
_MARGIN = 0.12
# A line that stands in the margin of this share of the pages, numbers aside, is a running line. Books have another on
# left pages than on right ones.
_REPEATED = 0.4
# What PDFium gives for a hyphen at a line's end, in place of the line's end; and a line with such a hyphen or without.
_HYPHENS = "\x02\ufffe"
_LINE = re.compile(f"[^\r\n{_HYPHENS}]+[{_HYPHENS}]?")
_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
_BULLET = re.compile(r"^(?:[•‣▪●○◦■□–—*-]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s")
_SENTENCE_END = re.compile(r"[.!?…:;。！？][\"”’»)\]]*$")
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b", re.I)
# Programs write a file's name, or nothing of use, where a title should be.
_NO_TITLE = re.compile(r"^(?:untitled|title|document\d*|microsoft (?:word|powerpoint) - .*|.*\.\w{2,5}|\W*)$", re.I)


@dataclass(frozen=True)
class _Line:
    """A line of a page; places in points from the page's lower left corner, all 0 where they are not known."""

    text: str
    left: float = 0.0
    bottom: float = 0.0
    right: float = 0.0
    top: float = 0.0
    height: float = 0.0

    @property
    def size(self) -> float:
        return self.top - self.bottom

    @property
    def in_margin(self) -> bool:
        """Whether it stands where running headers and footers do."""
        middle = (self.top + self.bottom) / 2
        return self.height > 0 and not _MARGIN * self.height < middle < (1 - _MARGIN) * self.height


def extract_pdf(content: bytes) -> Extracted:
    """The text of a PDF, a blank line between paragraphs.

    Raises:
        ExtractError: ``damaged``, ``encrypted``, or ``no-text`` where pages hold only pictures.
    """
    try:
        import pypdfium2
    except ImportError:
        raise MissingExtra("reading PDF", "data") from None
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise ExtractError("encrypted", "the PDF is protected by a password") from None
        raise ExtractError("damaged", "this is not a PDF that can be read") from None
    try:
        pages, lost = [], 0
        for number in range(len(document)):
            try:
                pages.append(_page_lines(document[number]))
            except pypdfium2.PdfiumError:
                lost += 1
        title = _title(document)
    finally:
        document.close()
    if not pages:
        raise ExtractError("damaged", "the PDF has no page that can be read")
    text = "\n\n".join(_paragraphs(_without_running_lines(pages)))
    if not any(character.isalnum() for character in text):
        raise ExtractError("no-text", "the PDF has no text layer: its pages are pictures")
    empty = sum(not lines for lines in pages)
    notes = [f"{lost} pages are damaged"] * bool(lost) + [f"{empty} of {len(pages)} pages have no text"] * bool(empty)
    return Extracted(text, title, tuple(notes))


def _page_lines(page: Any) -> list[_Line]:
    height = page.get_height()
    letters = page.get_textpage()
    text = letters.get_text_range()
    # Places are asked for by number in UTF-16; where PDFium counts otherwise the lines have none.
    placed = _utf16(text) == letters.count_chars()
    astral = _utf16(text) != len(text)
    lines = []
    for found in _LINE.finditer(text):
        line = found[0]
        if bare := line.strip().translate(_LIGATURES):
            if placed:
                start = _utf16(text[: found.start()]) if astral else found.start()
                first = start + len(line) - len(line.lstrip())
                last = start + _utf16(line.rstrip()) - 1
                lines.append(_placed(bare, letters, first, last, height))
            else:
                lines.append(_Line(bare))
    letters.close()
    page.close()
    return lines


def _utf16(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _placed(text: str, letters: Any, first: int, last: int, height: float) -> _Line:
    # Some letters have no extent, so the line's height is that of the taller of a few.
    boxes = [letters.get_charbox(i, loose=True) for i in sorted({first, (first + last) // 2, last})]
    bottom, top = min(box[1] for box in boxes), max(box[3] for box in boxes)
    return _Line(text, boxes[0][0], bottom, boxes[-1][2], top, height)


def _title(document: Any) -> str | None:
    title = " ".join(str(document.get_metadata_value("Title") or "").split())
    return None if _NO_TITLE.match(title) else title


def _without_running_lines(pages: Sequence[list[_Line]]) -> list[list[_Line]]:
    """The pages without what the margins of many of them repeat."""
    times = Counter(name for lines in pages for name in {_running_name(line) for line in lines if line.in_margin})
    least = max(2, _REPEATED * len(pages))
    return [[x for x in lines if not (x.in_margin and times[_running_name(x)] >= least)] for lines in pages]


def _running_name(line: _Line) -> tuple[str, bool]:
    return _NUMBER.sub("#", line.text), line.bottom * 2 > line.height


def _paragraphs(pages: Sequence[list[_Line]]) -> Iterator[str]:
    paragraph = ""
    before: _Line | None = None
    for lines in pages:
        spacing, right = _shape(lines)
        for i, line in enumerate(lines):
            if before is not None and (_new_page(before, line) if i == 0 else _breaks(before, line, spacing, right)):
                yield paragraph
                paragraph = ""
            paragraph = _join(paragraph, line.text)
            before = line
    if paragraph:
        yield paragraph


def _shape(lines: Sequence[_Line]) -> tuple[float, float]:
    """The usual distance of a page's lines, and where its longer lines end."""
    distances = [a.bottom - b.bottom for a, b in itertools.pairwise(lines) if a.bottom > b.bottom]
    ends = sorted(line.right for line in lines)
    return statistics.median(distances) if distances else 0.0, ends[len(ends) * 9 // 10] if ends else 0.0


def _new_page(before: _Line, line: _Line) -> bool:
    return bool(_SENTENCE_END.search(before.text)) or not line.text[:1].islower() or bool(_BULLET.match(line.text))


def _breaks(before: _Line, line: _Line, spacing: float, right: float) -> bool:
    """Whether a paragraph ends between two lines of a page."""
    if _BULLET.match(line.text):
        return True
    ended = bool(_SENTENCE_END.search(before.text))
    distance = before.bottom - line.bottom
    if distance < -before.size:
        # Up again: another column, or something that stands elsewhere on the page.
        return _new_page(before, line)
    if spacing and (distance > 1.4 * spacing or abs(before.size - line.size) > 0.2 * max(before.size, line.size)):
        return True
    early = before.right < right - 0.15 * (right - before.left)
    indented = line.left > before.left + 0.5 * line.size
    return ended and (early or indented)


def _join(before: str, after: str) -> str:
    """Two lines of a paragraph as one; a word that was divided between them becomes whole."""
    if not before:
        return after
    if before[-1] in _HYPHENS or (before[-1] == "-" and before[-2:-1].isalpha() and after[:1].islower()):
        return before[:-1] + ("" if after[:1].islower() else "-") + after
    # Chinese and Japanese put no space between words.
    wide = "\u2e80" <= before[-1] <= "\u9fff" and "\u2e80" <= after[0] <= "\u9fff"
    return before + after if wide else f"{before} {after}"
