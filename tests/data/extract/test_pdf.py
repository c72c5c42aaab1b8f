"""Text of PDF files whose lines are known, made by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ownlm.data.extract.pdf import extract_pdf
from ownlm.data.extract.result import ExtractError

Line = tuple[float, float, float, str]
PdfMaker = Callable[..., bytes]


def column(lines: list[str], top: float = 700, leading: float = 14, left: float = 72, size: float = 11) -> list[Line]:
    return [(left, top - leading * i, size, line) for i, line in enumerate(lines)]


LONG = [
    "The committee met on Tuesday to hear what had become of the plans for the harbour and of",
    "the money that was set aside for them, and it was told that neither could be found in any of",
    "the places where they ought to have been.",
]


def test_lines_become_paragraphs(make_pdf: PdfMaker) -> None:
    page = column(["Minutes"], top=760, size=18) + column(LONG) + column(LONG, top=640)
    paragraph = " ".join(LONG)
    found = extract_pdf(make_pdf([page], title="Minutes of the harbour committee"))
    assert found.text == f"Minutes\n\n{paragraph}\n\n{paragraph}"
    assert found.title == "Minutes of the harbour committee"
    assert found.note == ()


def test_a_short_line_and_an_indent_end_a_paragraph(make_pdf: PdfMaker) -> None:
    lines = column([*LONG, *LONG])
    assert extract_pdf(make_pdf([lines])).text == " ".join(LONG) + "\n\n" + " ".join(LONG)
    full = [line.ljust(90, "x") + "." for line in LONG]
    lines = [(72 + (20 if i == 3 else 0), y, size, text) for i, (_, y, size, text) in enumerate(column([*full, *full]))]
    assert extract_pdf(make_pdf([lines])).text == " ".join(full) + "\n\n" + " ".join(full)


def test_divided_words_are_joined(make_pdf: PdfMaker) -> None:
    divided = ["They spoke of a small-", "mindedness, of communi-", "cation between New York-", "Boston and the sea."]
    text = extract_pdf(make_pdf([column(divided)])).text
    # A hyphen before a capital stays; one before a small letter divided a word, in all likelihood.
    assert text == "They spoke of a smallmindedness, of communication between New York-Boston and the sea."


def test_running_lines_are_left_out(make_pdf: PdfMaker) -> None:
    pages = []
    for number in range(1, 6):
        header = [(72, 805, 9, "Harbour Board - Annual Report" if number % 2 else "Part 2: Money")]
        footer = [(290, 30, 9, f"{number} of 5")]
        body = [line.replace("Tuesday", f"day {number}") for line in LONG]
        pages.append([*header, *footer, *column(body)])
    text = extract_pdf(make_pdf(pages)).text
    assert "Annual Report" not in text
    assert "of 5" not in text
    assert "Part 2" not in text
    assert [p[:34] for p in text.split("\n\n")] == [f"The committee met on day {n} to hear" for n in range(1, 6)]


def test_a_repeated_line_in_the_middle_stays(make_pdf: PdfMaker) -> None:
    pages = [[(72, 805, 9, f"Page {i}"), *column(["Refrain.", *LONG])] for i in range(4)]
    text = extract_pdf(make_pdf(pages)).text
    assert text.count("Refrain.") == 4
    assert "Page" not in text


def test_a_sentence_goes_on_over_the_page(make_pdf: PdfMaker) -> None:
    first = [(72, 760, 11, "Heading"), *column(LONG[:2])]
    second = column([*LONG[2:], "Another one begins here."])
    text = extract_pdf(make_pdf([first, second])).text
    assert " ".join(LONG) in text


def test_bullets_begin_lines(make_pdf: PdfMaker) -> None:
    text = extract_pdf(make_pdf([column(["Bring:", "• a coat", "• a hat", "1. and a map", "of the town"])])).text
    assert text.split("\n\n") == ["Bring:", "• a coat", "• a hat", "1. and a map of the town"]


def test_passwords(make_pdf: PdfMaker) -> None:
    page = column(LONG)
    with pytest.raises(ExtractError) as caught:
        extract_pdf(make_pdf([page], password="secret"))
    assert caught.value.reason == "encrypted"
    # Only what may be done with it is restricted: anyone may read it.
    assert extract_pdf(make_pdf([page], password="")).text == " ".join(LONG)


def test_pages_without_text(make_pdf: PdfMaker) -> None:
    with pytest.raises(ExtractError) as caught:
        extract_pdf(make_pdf([[], []]))
    assert caught.value.reason == "no-text"
    assert extract_pdf(make_pdf([[], column(LONG)])).note == ("1 of 2 pages have no text",)


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4\n%%EOF", b"hello", b"%PDF-1.7\n" + b"\0" * 5000])
def test_damaged(content: bytes) -> None:
    with pytest.raises(ExtractError) as caught:
        extract_pdf(content)
    assert caught.value.reason == "damaged"


def test_every_truncation_gives_text_or_an_error(make_pdf: PdfMaker) -> None:
    content = make_pdf([column(LONG)])
    for length in range(0, len(content), 37):
        try:
            extract_pdf(content[:length])
        except ExtractError as error:
            assert error.reason in ("damaged", "no-text")


def test_titles_that_are_none(make_pdf: PdfMaker) -> None:
    for title in ("untitled", "Microsoft Word - Letter 3", "scan0001.tif", "---"):
        assert extract_pdf(make_pdf([column(LONG)], title=title)).title is None
