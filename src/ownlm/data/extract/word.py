"""Word documents (.docx): paragraphs, headings, lists, tables and footnotes in the order of the document.

Structure is written as Markdown writes it: ``#`` before a heading, ``-`` before a list's item, ``|`` between a table's
cells, ``[^1]`` at a footnote. Deleted text, field codes, comments, headers and footers are left out; inserted text,
links and text boxes are kept (ECMA-376, part 1, chapter 17).
"""

from __future__ import annotations

import io
import itertools
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from ...errors import MissingExtra
from .result import Extracted, ExtractError

# Of all members together, which python-docx holds in memory, and of those that are parsed.
_MOST_BYTES = 512 << 20
_MOST_XML = 64 << 20
_MOST_MEMBERS = 10_000
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
# What is not part of the text: deletions, codes of fields, properties, and the second form of what stands in a box.
_SKIPPED = (f"{_W}del", f"{_W}moveFrom", f"{_W}instrText", f"{_W}pPr", f"{_W}rPr", f"{_W}sdtPr", f"{_MC}Fallback")
_HEADING = re.compile(r"^heading (\d)$", re.I)
_NOTES = (("footnote", "[^{}]"), ("endnote", "[^e{}]"))


def extract_docx(content: bytes) -> Extracted:
    """The text of a Word document, a blank line between paragraphs.

    Raises:
        ExtractError: ``damaged``, ``encrypted``, ``unsupported`` for the format before 2007, ``archive-bomb``, or
            ``no-text``.
    """
    _check_archive(content)
    try:
        from docx import Document
        from docx.opc.exceptions import PackageNotFoundError
        from lxml.etree import XMLSyntaxError
    except ImportError:
        raise MissingExtra("reading Word documents", "data") from None
    try:
        document = Document(io.BytesIO(content))
        reader = _Reader(document)
        text = reader.text()
        title = " ".join(str(document.core_properties.title or "").split())
    except (PackageNotFoundError, XMLSyntaxError, zipfile.BadZipFile, KeyError, ValueError, AttributeError) as error:
        raise ExtractError("damaged", f"this is not a Word document that can be read: {_first_line(error)}") from None
    except RecursionError:
        raise ExtractError("damaged", "tables are nested too deep in it") from None
    if not text.strip():
        raise ExtractError("no-text", "the document has no text")
    return Extracted(text, title or reader.title)


def _check_archive(content: bytes) -> None:
    """Raises ``ExtractError`` before anything is decompressed."""
    if content.startswith(_OLE):
        if _ENCRYPTED_PACKAGE in content:
            raise ExtractError("encrypted", "the document is protected by a password")
        raise ExtractError("unsupported", "it is in the format that Word had before 2007; save it as .docx")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        raise ExtractError("damaged", "this is not a Word document: it is no zip archive, or a broken one") from None
    if any(member.flag_bits & 1 for member in members):
        raise ExtractError("encrypted", "parts of the document are encrypted")
    # A member never gives more bytes than are stated here.
    parsed = sum(member.file_size for member in members if member.filename.lower().endswith((".xml", ".rels")))
    if len(members) > _MOST_MEMBERS or parsed > _MOST_XML or sum(member.file_size for member in members) > _MOST_BYTES:
        raise ExtractError("archive-bomb", "the document expands to more than is read")


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0][:200] or type(error).__name__


class _Reader:
    """Walks a document's XML; what python-docx's own paragraphs leave out (insertions, boxes, controls) is kept."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._levels: dict[str, int] = {}
        self._titles: set[str] = set()
        for style in document.styles.element.iter(f"{_W}style"):
            identity, name = style.get(f"{_W}styleId"), style.find(f"{_W}name")
            shown = "" if name is None else name.get(f"{_W}val") or ""
            if found := _HEADING.match(shown):
                self._levels[identity] = int(found[1])
            elif shown.lower() == "title":
                self._titles.add(identity)
        self.title: str | None = None

    def text(self) -> str:
        """All blocks, then the notes."""
        blocks = list(self._blocks(self._document.element.body))
        for kind, mark in _NOTES:
            blocks += self._notes(kind, mark)
        pieces: list[str] = []
        for before, block in itertools.pairwise(["", *blocks]):
            # The items of a list stand close together.
            items = all(x.lstrip().startswith("- ") for x in (before, block))
            pieces += ["\n" if items else "\n\n" if before else "", block]
        return "".join(pieces)

    def _blocks(self, parent: Any) -> Iterator[str]:
        for element in parent:
            if element.tag == f"{_W}p":
                if block := self._paragraph(element):
                    yield block
            elif element.tag == f"{_W}tbl":
                if rows := self._table(element):
                    yield rows
            elif element.tag not in _SKIPPED:
                # Content controls and the like hold blocks.
                yield from self._blocks(element)

    def _paragraph(self, element: Any) -> str:
        text = "".join(self._runs(element)).strip()
        if not text:
            return ""
        properties = element.find(f"{_W}pPr")
        if properties is None:
            return text
        style = properties.find(f"{_W}pStyle")
        name = "" if style is None else style.get(f"{_W}val") or ""
        if level := self._levels.get(name):
            return f"{'#' * level} {text}"
        if name in self._titles and self.title is None:
            self.title = text
        if (numbering := properties.find(f"{_W}numPr")) is not None:
            depth = numbering.find(f"{_W}ilvl")
            return "  " * _number(depth) + f"- {text}"
        return text

    def _runs(self, parent: Any) -> Iterator[str]:
        for element in parent:
            tag = element.tag
            if tag == f"{_W}t":
                yield element.text or ""
            elif tag == f"{_W}tab":
                yield "\t"
            elif tag in (f"{_W}br", f"{_W}cr"):
                yield "\n"
            elif tag == f"{_W}noBreakHyphen":
                yield "-"
            elif tag == f"{_W}txbxContent":
                yield "\n" + "\n".join(self._blocks(element)) + "\n"
            elif tag in (f"{_W}footnoteReference", f"{_W}endnoteReference"):
                mark = dict(_NOTES)[tag.removeprefix(_W).removesuffix("Reference")]
                yield mark.format(element.get(f"{_W}id"))
            elif tag not in _SKIPPED:
                yield from self._runs(element)

    def _table(self, element: Any) -> str:
        rows = []
        for row in element.iter(f"{_W}tr"):
            if _owner(row, f"{_W}tbl") is not element:
                continue
            cells = [
                " ".join(" ".join(self._blocks(cell)).split())
                for cell in row.iter(f"{_W}tc")
                if _owner(cell, f"{_W}tr") is row
            ]
            if any(cells):
                rows.append(f"| {' | '.join(cells)} |")
        return "\n".join(rows)

    def _notes(self, kind: str, mark: str) -> Iterator[str]:
        from lxml import etree

        for relation in self._document.part.rels.values():
            if not relation.is_external and relation.reltype.endswith(f"/{kind}s"):
                parser = etree.XMLParser(resolve_entities=False, no_network=True)
                for note in etree.fromstring(relation.target_part.blob, parser).iter(f"{_W}{kind}"):
                    # The first two are the lines that part notes from the text.
                    if not note.get(f"{_W}type") and (text := " ".join(" ".join(self._blocks(note)).split())):
                        yield f"{mark.format(note.get(f'{_W}id'))}: {text}"


def _owner(element: Any, tag: str) -> Any:
    """The nearest element of a kind around this one."""
    return next(element.iterancestors(tag), None)


def _number(element: Any) -> int:
    value = "" if element is None else element.get(f"{_W}val") or ""
    return min(int(value), 8) if value.isdecimal() else 0
