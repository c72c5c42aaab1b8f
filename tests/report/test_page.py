"""The page: self-contained, escaped, accessible, and readable in light, dark and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ownlm.report.charts import LineChart
from ownlm.report.page import BarRow, Excerpt, Figure, Report, Sample, Token, visible

Pixels = NDArray[np.float32]
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Outline(HTMLParser):
    """What a browser would see: tags in balance, ids, links, text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def full_report() -> Report:
    """A page with one of everything."""
    report = Report("A report", subtitle="runs/one")
    report.summary("It went well.")
    report.figures([Figure("Loss", "1.19", "37% lower", good=True), Figure("Bias", "0.2", "higher", good=False)])
    report.section("Curves")
    report.chart(LineChart("Loss", {"training": [(1, 3.0), (2, 2.0)]}, caption="Lower is better."))
    report.chart(LineChart("Rate", {"rate": [(1, 1e-4), (2, 2e-4)]}))
    report.section("Data", "What became of it.")
    report.table("Ledger", ["source", "tokens", "kept"], [["a.txt", 1234, True], ["b.txt", None, False]], note="Done.")
    report.compare([Sample("Hello?", "Hm.", "Hello!\n\nHow can I help?")])
    report.tokens([Token("Hi", 7, 0, False), Token(" there", 8, 1, True)])
    report.note("Mind this.", warning=True)
    report.section("Bars")
    rows = [
        BarRow("Filters", values=[3], level=-1),
        BarRow("short", [("lost", 0.25)], [3], "words < 50", 0, "1 sample", [cut()]),
    ]
    report.bars("Reasons", ["reason", "documents"], rows, [("lost", "dropped")], "Why they went.")
    report.bars("Lengths", ["words", "documents"], [BarRow("1", [("first", 1)], [7])], narrow=True)
    report.bars("Languages", ["language", "documents"], [BarRow("en", [("first", 1)], [7])], narrow=True)
    with report.fold("More of it"):
        report.side_by_side("Copies", [cut(), cut()], "Two of them.")
        report.note("Inside the fold.")
    report.note("After the fold.")
    return report


def cut() -> Excerpt:
    return Excerpt("web · a.txt:3", [("the same ", False), ("words", True)], [("words", "12")], "kept", good=True)


def test_the_page_is_whole_and_holds_everything():
    page = Outline(full_report().html())
    for text in ("A report", "runs/one", "It went well.", "37% lower", "Curves", "1,234", "–", "Hello?", "Mind this."):
        assert text in page.text
    assert page.tags.count("svg") == 2
    assert page.tags.count("h1") == 1


def test_the_page_loads_and_runs_nothing():
    page = Outline(full_report().html())
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert "@import" not in page.text
    assert "url(" not in page.text.replace("url(#", "")


def test_every_id_is_there_once():
    ids = Outline(full_report().html()).ids
    assert len(ids) == len(set(ids))


def test_whatever_a_model_wrote_is_text():
    evil = '<script>alert(1)</script><img src=x onerror="y">'
    report = Report(evil, evil)
    report.summary(evil)
    report.figures([Figure(evil, evil, evil)])
    report.section(evil, evil)
    report.table(evil, [evil], [[evil]], note=evil)
    report.compare([Sample(evil, evil, evil)], before=evil, after=evil)
    report.tokens([Token(evil, 1, 0, True)])
    report.chart(LineChart(evil, {evil: [(1, 1.0)]}, caption=evil))
    report.note(evil)
    excerpt = Excerpt(evil, [(evil, False), (evil, True)], [(evil, evil)], evil)
    report.bars(
        evil, [evil, evil], [BarRow(evil, [("first", 1)], [evil], evil, 0, evil, [excerpt])], [("first", evil)], evil
    )
    with report.fold(evil):
        report.side_by_side(evil, [excerpt], evil)
    page = Outline(report.html())
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count(evil) >= 48


def test_the_page_is_written_whole(tmp_path: Path):
    report = full_report()
    report.write(tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == report.html()


def test_the_same_report_is_the_same_page():
    assert full_report().html() == full_report().html()


def test_a_browser_shows_it_in_light_and_dark(tmp_path: Path, screenshot: Callable[..., Pixels]):
    path = tmp_path / "report.html"
    full_report().write(path)
    light, dark = screenshot(path, 1000), screenshot(path, 1000, dark=True)
    assert light[2, 2].min() > 0.9
    assert dark[2, 2].max() < 0.2
    # Something is drawn on both: the text is dark on light, and light on dark.
    assert light[:200].min() < 0.3
    assert dark[:200].max() > 0.7


def test_nothing_runs_over_the_edge_of_a_narrow_window(tmp_path: Path, screenshot: Callable[..., Pixels]):
    report = full_report()
    report.table("Wide", [f"column {i}" for i in range(20)], [["x" * 40] * 20])
    report.note("hash " + "9" * 300)
    path = tmp_path / "report.html"
    report.write(path)
    # Headless chromium has no window narrower than 500 pixels.
    pixels = screenshot(path, 500)
    assert np.abs(pixels[:, -2] - pixels[0, -2]).max() < 0.02


def test_a_fold_holds_what_was_added_inside_it():
    page = full_report().html()
    fold = page[page.index('<details class="fold">') : page.rindex("</details>")]
    assert "Copies" in fold
    assert "Inside the fold." in fold
    assert "After the fold." not in fold
    assert page.index("After the fold.") > page.rindex("</details>")


def test_bars_are_as_wide_as_their_shares_and_stand_in_a_table():
    page = full_report().html()
    assert '<i class="lost" style="width:25%"></i>' in page
    table = page[page.index('aria-label="Reasons"') : page.index('aria-label="Lengths"')]
    assert '<th scope="col">reason</th><th scope="col" class="number">documents</th>' in table
    assert table.count('<th scope="row"') == 2
    # Two narrow ones in a row stand side by side.
    assert page.count('<div class="charts">') == 2


def test_the_contents_link_to_every_section():
    report = full_report()
    assert "<nav" not in report.html()
    report.contents()
    page = Outline(report.html())
    links = [link.removeprefix("#") for link in page.links if link.startswith("#section-")]
    assert links == ["section-1", "section-2", "section-3"]
    assert set(links) <= set(page.ids)


def test_what_cannot_be_seen_is_named():
    assert visible("a\x00b\x1b\x85\u202ec\u2066d\ud800") == "a⟨U+0000⟩b⟨U+001B⟩⟨U+0085⟩⟨U+202E⟩c⟨U+2066⟩d⟨U+D800⟩"
    # Line ends and tabs, right-to-left letters, and the joiners inside emoji are part of the text.
    for text in ("a\tb\r\nc", "مرحبا", "👩\u200d👧", "می\u200cخواهم"):
        assert visible(text) == text
    report = Report("Odd \x00", "docs/\u202efdp.exe")
    report.summary("half \udc00")
    assert "docs/⟨U+202E⟩fdp.exe" in report.html().encode().decode()
