"""Web pages: the article beside what other tools find, and markup that breaks parsers."""

from __future__ import annotations

import gzip
import json
import random
import re
import statistics
from collections import Counter
from pathlib import Path

import pytest
import trafilatura
from hypothesis import given, settings
from hypothesis import strategies as st
from resiliparse.extract.html2text import extract_plain_text

from ownlm.data.extract.encoding import decode
from ownlm.data.extract.options import ExtractOptions
from ownlm.data.extract.page import extract_page
from ownlm.data.extract.result import ExtractError

MAIN, ALL = ExtractOptions(), ExtractOptions(html="all")


def paragraph(name: str) -> str:
    return "<p>" + " ".join(f"Here {name} number {i} is told about in {name} words." for i in range(4)) + "</p>"


ARTICLE = "".join(paragraph(name) for name in ("rain", "snow", "wind", "hail"))


def page(body: str, head: str = "") -> str:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>"


def shingles(text: str) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[i : i + 4]) for i in range(max(1, len(words) - 3)) if words)


def f1(found: dict[str, str], gold: dict[str, str]) -> float:
    """As the article extraction benchmark defines it: of the means over pages of precision and recall."""
    precision, recall = [], []
    for name, text in gold.items():
        ours, right = shingles(found[name]), shingles(text)
        both = sum((ours & right).values())
        precision.append(both / max(1, sum(ours.values())))
        recall.append(both / max(1, sum(right.values())))
    p, r = statistics.mean(precision), statistics.mean(recall)
    return 2 * p * r / (p + r)


def test_real_pages_beside_other_tools(shared_data: Path) -> None:
    folder = shared_data / "dirty_web"
    gold = {k: v["articleBody"] for k, v in json.loads((folder / "article_extraction_gold.json").read_text()).items()}
    pages = {
        k: decode(gzip.decompress((folder / "article_extraction" / f"{k}.html.gz").read_bytes())).text for k in gold
    }
    ours = f1({k: extract_page(markup, MAIN).text for k, markup in pages.items()}, gold)
    theirs = f1(
        {k: trafilatura.extract(v, favor_precision=True, include_comments=False) or "" for k, v in pages.items()}, gold
    )
    plain = f1({k: extract_plain_text(v, main_content=True, post_meta=False) for k, v in pages.items()}, gold)
    assert ours > max(theirs, plain) + 0.01
    assert ours > 0.98


def test_title_and_text() -> None:
    head = "<title>Weather | The Planet</title><meta property='og:title' content='All the  weather'>"
    found = extract_page(
        page(f"<nav><a href=/>Home</a></nav><article><h1>All the weather</h1>{ARTICLE}</article>", head), MAIN
    )
    assert found.title == "All the weather"
    assert found.text.split("\n") == re.findall("<p>(.*?)</p>", ARTICLE)
    assert extract_page(page(f"<h1>Head line</h1>{ARTICLE}", "<title>Site</title>"), MAIN).title == "Head line"
    assert extract_page(page(f"<h1>a</h1><h1>b</h1>{ARTICLE}", "<title>Site</title>"), MAIN).title == "Site"
    assert extract_page(page(ARTICLE), MAIN).title is None


def test_all_that_is_visible() -> None:
    body = f"<nav><a href=/>Home</a></nav>{ARTICLE}<footer>Imprint</footer>"
    text = extract_page(page(body), ALL).text
    assert "Home" in text
    assert "Imprint" in text
    assert "Imprint" not in extract_page(page(body), MAIN).text


@pytest.mark.parametrize(
    "hidden",
    [
        "<p hidden>SPAM</p>",
        "<p style='color: red; DISPLAY : none'>SPAM</p>",
        "<div style='visibility:hidden'><p>SPAM</p></div>",
        "<script>SPAM</script>",
        "<style>SPAM</style>",
        "<template><p>SPAM</p></template>",
        "<noscript>SPAM</noscript>",
        "<!-- SPAM -->",
        "<svg><text>SPAM</text></svg>",
        "<p>Fine words <span class='tooltip'>SPAM</span> go on.</p>",
    ],
)
def test_what_is_hidden(hidden: str) -> None:
    for options in (MAIN, ALL):
        text = extract_page(page(f"<article>{ARTICLE}{hidden}{paragraph('fog')}</article>"), options).text
        assert "SPAM" not in text
        assert "fog number 3" in text


def test_joiners_survive(sentences: dict[str, str]) -> None:
    persian = sentences["fa"]
    for written in (persian, persian.replace("\u200c", "&zwnj;"), persian.replace("\u200c", "&#8204;")):
        body = f"<article>{ARTICLE}<p>{written}</p><p>👩&#x200d;💻 is at work and the rest of it follows here.</p></article>"
        text = extract_page(page(body), MAIN).text
        assert persian in text
        assert "👩\u200d💻" in text


def test_code_and_tables_and_lists() -> None:
    body = f"""<article>{ARTICLE}<pre>def f(x):
    if x:

        return 1</pre><ul><li>one thing</li><li>another</li></ul>
        <table><tr><td>cell a</td><td>cell b</td></tr></table>{paragraph("fog")}</article>"""
    text = extract_page(page(body), MAIN).text
    assert "def f(x):\n    if x:\n" in text
    assert "        return 1" in text
    assert "- one thing\n- another" in text
    assert "| cell a | cell b |" in text
    assert "cell a" not in extract_page(page(body), ExtractOptions(tables=False)).text


NO_TEXT = [
    "<html><head><title>T</title></head><body></body></html>",
    "<html><body><script>document.write('hello there')</script></body></html>",
    "<html><frameset cols='20%,80%'><frame src=a.html><noframes>No frames</noframes></frameset></html>",
    "<!-- nothing -->",
    "<html>",
    " ",
    "<img src=a.png alt=''>",
]


@pytest.mark.parametrize("markup", NO_TEXT)
def test_pages_without_text(markup: str) -> None:
    for options in (MAIN, ALL):
        with pytest.raises(ExtractError) as caught:
            extract_page(markup, options)
        assert caught.value.reason == "no-text"


@pytest.mark.parametrize("tag", ["div", "span", "b", "table><tr><td", "ul><li", "blockquote", "font size=1"])
def test_deep_nesting(tag: str) -> None:
    for depth in (300, 1500, 100_000):
        for markup in (ARTICLE + f"<{tag}>" * depth + "deepest", f"<{tag}>" * depth + ARTICLE + "deepest"):
            for options in (MAIN, ALL):
                text = extract_page(page(markup), options).text
                assert "hail number 3 is told about" in text


MANY = "".join(f"<p>Paragraph {i} tells of hail number {i % 7} in this town.</p>" for i in range(2000))


@pytest.mark.parametrize("behind", [0, 1000])
@pytest.mark.parametrize(
    ("begin", "end"), [("<div>", "</div>"), ("<div> <section>\n<span>", "</span></section></div>")]
)
def test_wrappers_without_end_change_nothing(begin: str, end: str, behind: int) -> None:
    cut = len(MANY) - behind * len("<p>Paragraph 1000 tells of hail number 3 in this town.</p>")
    inside, outside = ARTICLE + MANY[:cut], MANY[cut:]
    plain = extract_page(page(f"{begin}{inside}{end}{outside}"), MAIN)
    assert plain.note == ()
    times = 1500 // begin.count("<")
    assert extract_page(page(f"{begin * times}{inside}{end * times}{outside}"), MAIN) == plain


def test_elements_that_stand_in_too_many_others_are_read_in_a_simpler_way() -> None:
    # What is said, or said about them, between them cannot be left out.
    for between in ("<div class=a>", "<div>a ", "<blockquote>"):
        found = extract_page(page(between * 1500 + ARTICLE + MANY), MAIN)
        assert found.note == ("too deeply nested: all visible text was kept",)
        assert "hail number 3 is told about" in found.text and "Paragraph 1999 tells" in found.text
    # Many elements, or deep ones, are no trouble alone.
    for markup in (MANY * 3, "<div class=a>" * 1500 + ARTICLE):
        assert extract_page(page(ARTICLE + markup), MAIN).note == ()


def test_a_nested_pop_up_with_the_page_in_it_stays() -> None:
    popups = "<div class=read-more>" * 200
    assert "hail number 3 is told about" in extract_page(page(f"{popups}{ARTICLE}{MANY}"), MAIN).text


def test_markup_that_takes_parsers_long() -> None:
    attributes = " ".join(f"a{i}=1" for i in range(100_000))
    picture = "<img src='data:image/png;base64," + "A/+=" * 100_000 + "'>"
    for extra in (
        f"<div {attributes}>",
        picture,
        "<script>" * 50_000 + "</script>",
        "<a " * 100_000 + ">",
        "<" * 300_000,
    ):
        text = extract_page(page(f"{ARTICLE}{extra}"), MAIN).text
        assert "hail number 3 is told about" in text


def test_a_page_of_many_elements() -> None:
    rows = "".join(f"<p>Paragraph {i} of a very long page that goes on and on.</p>" for i in range(40_000))
    found = extract_page(page(f"<article>{rows}</article>"), MAIN)
    assert "Paragraph 39999 of" in found.text
    assert found.note == ("a very large page: its main text was found in a simpler way",)


def test_markup_that_is_none() -> None:
    assert extract_page("just a line of text", MAIN).text == "just a line of text"
    assert extract_page("<p>hello", MAIN).text == "hello"
    assert extract_page("1 < 2 and 3 > 2", MAIN).text == "1 < 2 and 3 > 2"


def test_broken_markup() -> None:
    xhtml = (
        f"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'><body><![CDATA[x]]>{ARTICLE}</body></html>"
    )
    for markup in (
        ARTICLE.replace("</p>", ""),
        f"<table><tr><td>{ARTICLE}",
        f"</div></html>{ARTICLE}",
        f"<html><html><body><head><body>{ARTICLE}",
        ARTICLE.replace("Here", "He\0re"),
        xhtml,
    ):
        text = extract_page(markup, MAIN).text
        assert text.count("rain number 1 is told about") == 1
        assert "hail number 3 is told about" in text


TAGS = [
    "<div>",
    "</p>",
    "<p>",
    "</div>",
    "<table>",
    "<tr>",
    "<td>",
    "</b>",
    "<b>",
    "words ",
    "<li>",
    "<form>",
    "</html>",
]
TAGS += [
    "<body>",
    "<h1>",
    "<svg>",
    "<math>",
    "<select>",
    "<option>",
    "<script>",
    "</script>",
    "<!--",
    "-->",
    "&amp;",
    "<a href='",
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TAGS), st.text(max_size=5)), max_size=60).map("".join))
def test_any_markup_gives_text_or_an_error(markup: str) -> None:
    for options in (MAIN, ALL):
        try:
            assert extract_page(markup, options).text.strip()
        except ExtractError as error:
            assert error.reason == "no-text"


def test_a_soup_of_tags() -> None:
    draw = random.Random(1)
    markup = "".join(draw.choices(TAGS[:17], k=30_000))
    assert "words" in extract_page(markup, MAIN).text


def test_the_same_page_gives_the_same_text() -> None:
    markup = page(f"<article>{ARTICLE}</article>")
    first = extract_page(markup, MAIN)
    extract_page(page(f"<div>{paragraph('other')}</div>"), MAIN)
    assert extract_page(markup, MAIN) == first
