"""Charts: sound SVG whose text is text, whose colours are the page's, and which say in words what they show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from ownlm.report.charts import MOST_POINTS, BarChart, LineChart, inline_svg

SVG = "{http://www.w3.org/2000/svg}"
FALLING = [(step, 3.0 - step / 100) for step in range(1, 101)]


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip() for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_line_chart_is_sound_svg_with_its_text_as_text():
    svg = LineChart("Loss", {"training": FALLING, "held out": [(0, 3.1), (100, 2.2)]}, smooth=("training",)).svg()
    shown = texts(svg)
    assert {"step", "training", "held out", "2.20"} <= set(shown)


def test_a_chart_says_in_words_what_it_shows():
    chart = LineChart("Loss", {"training": [(1, 3.0), (2, 1.5), (3, 2.0)]})
    assert chart.describe() == "training: 3.00 at step 1, 2.00 at step 3, lowest 1.50 at step 2."
    root = ET.fromstring(chart.svg())
    assert root.get("role") == "img"
    named = {node.get("id"): node.text for node in root if node.tag in (f"{SVG}title", f"{SVG}desc")}
    assert [named[name] for name in str(root.get("aria-labelledby")).split()] == ["Loss", chart.describe()]


def test_every_colour_is_a_variable_of_the_page():
    svg = LineChart("Loss", {f"line {i}": FALLING for i in range(6)}, markers=("line 0",)).svg()
    svg += BarChart("Tokens", [("trained", 3), ("masked", 1)]).svg()
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b(?!\))", re.sub(r'(href="|url\()#[^")]*', "", svg)) == []
    assert {f"var(--series-{i})" for i in range(1, 7)} <= set(re.findall(r"var\(--series-\d\)", svg))


def test_nothing_is_loaded_from_elsewhere():
    svg = LineChart("Loss", {"training": FALLING}).svg()
    links = re.findall(r'(?:href|src)="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
    assert links
    assert all(link.startswith("#") for link in links)


def test_the_same_chart_is_drawn_the_same():
    chart = LineChart("Loss", {"training": FALLING}, smooth=("training",))
    assert chart.svg() == chart.svg()


@pytest.mark.parametrize("points", [[], [(1, 2.0)], [(1, float("nan")), (2, float("inf"))], [(1, 0.0), (2, 0.0)]])
def test_few_or_odd_points_are_drawn_too(points: list[tuple[float, float]]):
    ET.fromstring(LineChart("Loss", {"training": points}).svg())


def test_a_long_run_is_thinned_and_ends_where_it_ended():
    long = [(step, 1.0 + step / 1e5) for step in range(50_000)]
    chart = LineChart("Loss", {"training": long})
    svg = chart.svg()
    lines = [node.get("d", "") for node in ET.fromstring(svg).iter(f"{SVG}path")]
    assert max(line.count("L") for line in lines) <= MOST_POINTS
    assert "1.50" in texts(svg)
    assert "lowest 1.00 at step 0" in chart.describe()


def test_a_running_mean_of_a_constant_is_that_constant():
    svg = LineChart("Loss", {"training": [(step, 2.0) for step in range(200)]}, smooth=("training",)).svg()
    assert "2.00" in texts(svg)


def test_names_are_text_and_never_markup():
    svg = LineChart("<b>&", {"<script>alert(1)</script>": FALLING, "$x_1$": FALLING}).svg()
    root = ET.fromstring(svg)
    assert not list(root.iter(f"{SVG}script"))
    assert {"<script>alert(1)</script>", "$x_1$"} <= set(texts(svg))


def test_bars_show_their_amounts_and_shares():
    svg = BarChart("Tokens", [("trained", 720_000), ("masked", 280_000), ("dropped", 0)]).svg()
    assert {"trained", "720.0k · 72.0%", "280.0k · 28.0%", "0 · 0.0%"} <= set(texts(svg))


def test_a_funnel_shows_shares_of_the_first():
    svg = BarChart("Documents", [("read", 200), ("kept", 50)], unit="documents", funnel=True).svg()
    assert {"200 · 100.0%", "50 · 25.0%"} <= set(texts(svg))


def test_no_bars_are_no_error():
    chart = BarChart("Tokens", [])
    ET.fromstring(chart.svg())
    assert chart.describe() == "No values."


def test_two_charts_on_a_page_share_no_id():
    svg = LineChart("Loss", {"training": FALLING}).svg()
    first, second = inline_svg(svg, "chart-1"), inline_svg(svg, "chart-2")
    ids = [re.findall(r'\bid="([^"]*)"', one) for one in (first, second)]
    assert not set(ids[0]) & set(ids[1])
    used = re.findall(r'(?:url\(#|href="#)([^")]*)', first)
    assert used
    assert set(used) <= set(ids[0])


def test_a_logarithmic_axis_has_plain_numbers():
    wide = LineChart("Rank", {"rank": [(0, 40_000), (1, 200), (2, 3)]}, log=True).svg()
    assert ">10,000<" in wide and ">10<" in wide
    narrow = LineChart("Rank", {"rank": [(0, 40), (1, 60)]}, log=True).svg()
    assert ">50<" in narrow
    assert "math" not in wide + narrow
