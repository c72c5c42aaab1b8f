"""The page: self-contained, escaped, accessible, and readable in light, dark and on a phone."""

from __future__ import annotations

import os
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ownlm.report.charts import LineChart
from ownlm.report.page import Figure, Report, Sample, Token

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
    return report


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
    page = Outline(report.html())
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count(evil) >= 16


def test_the_page_is_written_whole(tmp_path: Path):
    report = full_report()
    report.write(tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_text(encoding="utf-8") == report.html()


def test_the_same_report_is_the_same_page():
    assert full_report().html() == full_report().html()


def screenshot(page: Path, width: int, *, dark: bool = False) -> list[list[tuple[float, ...]]]:
    """The page as a browser shows it: rows of pixels."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium here to look at the page with")
    image = page.with_name(f"shot-{width}-{dark}.png")
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    profile = f"--user-data-dir={page.parent / 'profile'}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", profile, *theme]
    shot = [f"--screenshot={image}", f"--window-size={width},1400", page.as_uri()]
    environment = {**os.environ, "HOME": str(page.parent)}
    subprocess.run([browser, *options, *shot], check=True, capture_output=True, timeout=120, env=environment)
    from matplotlib.image import imread

    return imread(image)[:, :, :3].tolist()


def test_a_browser_shows_it_in_light_and_dark(tmp_path: Path):
    path = tmp_path / "report.html"
    full_report().write(path)
    light, dark = screenshot(path, 1000), screenshot(path, 1000, dark=True)
    assert min(light[2][2]) > 0.9
    assert max(dark[2][2]) < 0.2
    # Something is drawn on both: the text is dark on light, and light on dark.
    assert min(min(pixel) for row in light[:200] for pixel in row) < 0.3
    assert max(max(pixel) for row in dark[:200] for pixel in row) > 0.7


def test_nothing_runs_over_the_edge_of_a_narrow_window(tmp_path: Path):
    report = full_report()
    report.table("Wide", [f"column {i}" for i in range(20)], [["x" * 40] * 20])
    report.note("hash " + "9" * 300)
    path = tmp_path / "report.html"
    report.write(path)
    # Headless chromium has no window narrower than 500 pixels.
    rows = screenshot(path, 500)
    assert all(max(abs(a - b) for a, b in zip(row[-2], rows[0][-2], strict=True)) < 0.02 for row in rows)
