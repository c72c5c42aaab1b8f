"""Text of Word documents, written by python-docx and by hand."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from docx import Document
from docx.oxml import parse_xml

from ownlm.data.extract.result import ExtractError
from ownlm.data.extract.word import extract_docx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


def saved(document: Any) -> bytes:
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def edited(content: bytes, edit: Callable[[str, bytes], bytes | None], extra: dict[str, bytes] | None = None) -> bytes:
    """A copy of an archive with its members changed, left out (None) or added."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if (member := edit(name, old.read(name))) is not None:
                new.writestr(name, member)
        for name, member in (extra or {}).items():
            new.writestr(name, member)
    return out.getvalue()


def reason(content: bytes) -> str:
    with pytest.raises(ExtractError) as caught:
        extract_docx(content)
    return caught.value.reason


def test_the_order_of_the_document() -> None:
    document = Document()
    document.add_heading("Report", 1)
    document.add_paragraph("First paragraph.")
    document.add_paragraph("one", style="List Bullet")
    table = document.add_table(rows=2, cols=2)
    for i, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"cell {i}"
    document.add_heading("Part", 2)
    document.add_paragraph("Last\tparagraph.\nSame one.")
    found = extract_docx(saved(document))
    assert found.text == (
        "# Report\n\nFirst paragraph.\n\none\n\n| cell 0 | cell 1 |\n| cell 2 | cell 3 |\n\n"
        "## Part\n\nLast\tparagraph.\nSame one."
    )
    assert found.title is None


def test_titles() -> None:
    document = Document()
    document.add_heading("The Title", 0)
    document.add_paragraph("Text.")
    assert extract_docx(saved(document)).title == "The Title"
    document.core_properties.title = "Its own title"
    assert extract_docx(saved(document)).title == "Its own title"


def test_lists_are_marked_where_they_are_numbered() -> None:
    document = Document()
    for text, depth in (("a", 0), ("b", 1), ("c", 0)):
        numbering = f"<w:pPr><w:numPr><w:ilvl w:val='{depth}'/><w:numId w:val='1'/></w:numPr></w:pPr>"
        document.element.body.append(parse_xml(f"<w:p {W}>{numbering}<w:r><w:t>{text}</w:t></w:r></w:p>"))
    assert extract_docx(saved(document)).text == "- a\n  - b\n- c"


def test_what_counts_as_text() -> None:
    document = Document()
    body = f"""<w:p {W} {MC}>
        <w:r><w:t xml:space="preserve">kept </w:t></w:r>
        <w:ins><w:r><w:t xml:space="preserve">inserted </w:t></w:r></w:ins>
        <w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>
        <w:hyperlink><w:r><w:t xml:space="preserve">linked </w:t></w:r></w:hyperlink>
        <w:r><w:instrText>PAGE</w:instrText></w:r>
        <w:sdt><w:sdtPr><w:alias/></w:sdtPr><w:sdtContent><w:r><w:t>chosen</w:t></w:r></w:sdtContent></w:sdt>
        <w:r><w:noBreakHyphen/></w:r>
        <mc:AlternateContent><mc:Choice><w:r><w:t>box</w:t></w:r></mc:Choice>
          <mc:Fallback><w:r><w:t>box again</w:t></w:r></mc:Fallback></mc:AlternateContent>
    </w:p>"""
    document.element.body.append(parse_xml(body))
    document.element.body.append(
        parse_xml(f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>Block.</w:t></w:r></w:p></w:sdtContent></w:sdt>")
    )
    assert extract_docx(saved(document)).text == "kept inserted linked chosen-box\n\nBlock."


def test_nested_tables() -> None:
    document = Document()
    cell = document.add_table(rows=1, cols=2).rows[0].cells[0]
    cell.text = "outer"
    cell.add_table(rows=1, cols=1).rows[0].cells[0].text = "inner"
    assert extract_docx(saved(document)).text == "| outer | inner | |  |"


def test_footnotes() -> None:
    document = Document()
    document.add_paragraph("Claim")._p.append(parse_xml(f'<w:r {W}><w:footnoteReference w:id="2"/></w:r>'))
    notes = f"""<w:footnotes {W}>
        <w:footnote w:type="separator" w:id="-1"><w:p><w:r><w:t>---</w:t></w:r></w:p></w:footnote>
        <w:footnote w:id="2"><w:p><w:r><w:footnoteRef/></w:r><w:r><w:t>Proof.</w:t></w:r></w:p></w:footnote>
    </w:footnotes>"""

    def edit(name: str, member: bytes) -> bytes:
        if name == "word/_rels/document.xml.rels":
            kind = b"http://schemas.openxmlformats.org/officeDocument/2006/relationships/footnotes"
            return member.replace(
                b"</Relationships>",
                b'<Relationship Id="rId99" Type="%b" Target="footnotes.xml"/></Relationships>' % kind,
            )
        if name == "[Content_Types].xml":
            kind = b"application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
            return member.replace(
                b"</Types>", b'<Override PartName="/word/footnotes.xml" ContentType="%b"/></Types>' % kind
            )
        return member

    content = edited(saved(document), edit, {"word/footnotes.xml": notes.encode()})
    assert extract_docx(content).text == "Claim[^2]\n\n[^2]: Proof."


def test_bad_files() -> None:
    document = Document()
    document.add_paragraph("Text.")
    good = saved(document)
    ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600)
    assert reason(ole + "EncryptedPackage".encode("utf-16-le")) == "encrypted"
    assert reason(ole) == "unsupported"
    assert reason(b"PK\x03\x04 but no zip") == "damaged"
    assert reason(good[: len(good) // 2]) == "damaged"
    assert reason(b"") == "damaged"
    assert reason(edited(good, lambda name, member: None if name == "word/document.xml" else member)) == "damaged"
    assert (
        reason(edited(good, lambda name, member: member[:50] if name == "word/document.xml" else member)) == "damaged"
    )
    assert reason(saved(Document())) == "no-text"


def test_an_archive_bomb_is_not_opened() -> None:
    document = Document()
    document.add_paragraph("Text.")
    zeros = bytes(65 << 20)
    content = edited(saved(document), lambda name, member: member, {"word/more.xml": zeros})
    assert len(content) < 1 << 20
    assert reason(content) == "archive-bomb"


def test_entities_are_not_expanded() -> None:
    document = Document()
    document.add_paragraph("Text.")
    bomb = b"".join(b'<!ENTITY e%d "%b">' % (i, b"&e%d;" % (i - 1) * 10 if i else b"boom") for i in range(9))

    def edit(name: str, member: bytes) -> bytes:
        if name != "word/document.xml":
            return member
        head, _, rest = member.partition(b"?>")
        return head + b"?><!DOCTYPE w:document [" + bomb + b"]>" + rest.replace(b"Text.", b"Text. &e8;")

    try:
        assert "boom" not in extract_docx(edited(saved(document), edit)).text
    except ExtractError as error:
        assert error.reason == "damaged"
