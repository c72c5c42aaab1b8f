"""The lines around an article: which go, and which look like them and stay."""

from __future__ import annotations

import pytest

from ownlm.data.extract.agreement import compared
from ownlm.data.extract.boilerplate import trim

BODY = [
    "The council voted on Monday to rebuild the bridge that the flood took away last spring, after long talks.",
    "Work begins in May, the mayor said, and should be done before the winter comes again.",
]


def trimmed(lines: list[str], titles: tuple[str, ...] = (), links: tuple[str, ...] = ()) -> list[str]:
    text = trim("\n".join(lines), [compared(t) for t in titles], {compared(link) for link in links})
    return text.split("\n")


def test_the_headline_is_the_title_not_text() -> None:
    title = "Council votes to rebuild the bridge"
    assert trimmed([title, *BODY], (title,)) == BODY
    assert trimmed(["News", title.upper(), *BODY], (f"{title} | The Daily Planet",)) == BODY
    # A paragraph before it stays, and so does a line that only begins like it.
    assert trimmed([BODY[0], title, BODY[1]], (title,)) == BODY
    assert trimmed(["Council", *BODY], (title,)) == ["Council", *BODY]
    assert trimmed([title], (title,)) == [title]


@pytest.mark.parametrize(
    "line",
    ["By Jane Doe", "Published: 3 May 2019", "19/11/2019 às 20:13", "Updated 1:23 PM EST, 18 November 2019 10:30"],
)
def test_date_lines(line: str) -> None:
    assert trimmed([line, *BODY]) == BODY


def test_a_sentence_with_a_date_stays() -> None:
    assert trimmed(["By 2020 it was done.", *BODY])[0] == "By 2020 it was done."


@pytest.mark.parametrize(
    "line",
    [
        "Read more: The flood that took the bridge away",
        "[Related: The flood of the century]",
        "ADVERTISEMENT",
        "Filed under: Bridges |",
        "SEE ALSO: Ten bridges to see before you die",
        "You may also like...",
        "Comments",
        "Lire aussi : Le pont du village",
        "SOURCE: News agencies",
    ],
)
def test_labels_anywhere(line: str) -> None:
    assert trimmed([BODY[0], line, BODY[1]]) == BODY


def test_the_links_after_a_label() -> None:
    links = ("Ten bridges to see before you die", "The flood that came in spring")
    lines = [BODY[0], "Don't miss", f"{links[0]} [VIDEO]", links[1], BODY[1]]
    assert trimmed(lines, links=links) == BODY


@pytest.mark.parametrize(
    "line",
    [
        "Sign up for our newsletter to get the best of the week.",
        "Follow her on Twitter @jane.",
        "Reporting by Jane Doe; editing by John Roe",
        "Associated Press writer Jane Doe contributed to this report.",
        "© 2019 The Daily Planet. All rights reserved.",
        "___",
    ],
)
def test_appeals_and_credits_at_the_end(line: str) -> None:
    assert trimmed([*BODY, line]) == BODY
    assert trimmed([BODY[0], line, BODY[1]]) == [BODY[0], line, BODY[1]]


def test_bare_links_at_the_end() -> None:
    link = "Ten bridges to see before you die"
    assert trimmed([*BODY, link], links=(link,)) == BODY
    assert trimmed([*BODY, link]) == [*BODY, link]
    address = "https://example.org/bridges"
    assert trimmed([*BODY, address], links=(address,)) == [*BODY, address]


def test_a_paragraph_that_speaks_of_such_things_stays() -> None:
    paragraph = (
        "Readers who want to subscribe to the newspaper of the town can do so at the library, the editor said, and she "
        "hopes that the newsletter of the council will be printed there as well from next year on."
    )
    assert trimmed([*BODY, paragraph]) == [*BODY, paragraph]
    assert trimmed([*BODY, "Watching the river is what people do now."])[-1].startswith("Watching")


def test_an_article_of_nothing_else_keeps_a_line() -> None:
    assert trimmed(["Comments"]) == ["Comments"]
    assert trimmed(["Sign up now", "Subscribe today"]) == ["Sign up now"]


def test_long_lines() -> None:
    """None of the expressions tries a long line again from each of its places, which would take hours."""
    lines = ["by " * 200_000, "2019 " * 200_000, "(" * 500_000, "related " * 200_000, "follow " * 200_000]
    text = "\n".join([*lines, *reversed(lines)])
    assert trim(text, ["x" * 500_000], set()) == text
