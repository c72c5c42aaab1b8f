"""The page of a text as a model reads it: whole, local, honest about what it leaves out, and usable by mouse and keyboard."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from ownlm.report.explained import Candidate, Explanation, Guess, Head, Pattern, Place
from ownlm.report.explanation import (
    MOST_COLUMNS,
    explanation_report,
    percent,
    shown,
    write_explanation,
)
from ownlm.report.gray_png import gray_png

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = [
    "<script>alert(1)</script>",
    "\u202egnp",
    "</script><b>",
    '"quoted"',
    "\x00",
    "\n",
    "",
    " مرحبا",
    "{{ 7 * 7 }}",
]


def make_explanation(
    tokens: list[str], layers: int = 3, heads: int = 4, shown_tokens: int | None = None, kind: str = "causal"
) -> Explanation:
    """One with weights drawn at random; head 1 of layer 0 looks at the token before."""
    draw = np.random.default_rng(0)
    count = len(tokens)
    part = count if shown_tokens is None else shown_tokens
    patterns = [
        Pattern("F", "first token", "the first", count - 2),
        Pattern("P", "previous token", "the one before", 3),
    ]
    drawn = []
    for layer in range(layers):
        for head in range(heads):
            weights = np.tril(draw.random((part, part)))
            if (layer, head) == (0, 1):
                weights = np.eye(part, k=-1)
                weights[0, 0] = 1
            weights /= weights.sum(-1, keepdims=True)
            kept = np.round(np.sqrt(weights) * 255).astype(np.uint8)
            named = (1,) if (layer, head) == (0, 1) else ()
            drawn.append(Head(layer, head, (0.2, 1.0 if named else float("nan")), named, kept))
    best = [Candidate(text, number, 0.5) for number, text in enumerate(tokens)]
    if kind == "classes":
        places, guesses = [], []
    else:
        places = [Place(i, 2.5 + i, i, 0.125, best[:3]) for i in range(1, count)]
        places.append(Place(count, None, None, None, best[:3]))
        row = [Guess(best[place.position % count], place.rank, place.right) for place in places]
        guesses = [row] * (layers + 1)
    config = {"family": "llama", "layers": layers, "heads": heads, "kv_heads": heads, "width": 32}
    classes = {"<b>good</b>": 0.9, "bad": 0.1} if kind == "classes" else {}
    ids = list(range(count))
    return Explanation("a/<model>", config, kind, tokens, ids, places, guesses, patterns, drawn, part, classes)


class Outline(HTMLParser):
    """What a browser would see: tags in balance, ids, addresses, names of controls."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@contextmanager
def open_browser() -> Iterator[Any]:
    """A headless Chromium; without one the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium here to look at the page with")
    with playwright.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        try:
            yield window
        finally:
            window.close()


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 64)])
def test_a_gray_image_is_what_any_reader_reads(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    kind, content = gray_png(pixels).split(",")
    assert kind == "data:image/png;base64"
    read = imread(io.BytesIO(base64.b64decode(content)), format="png")
    np.testing.assert_array_equal(np.round(read * 255).astype(np.uint8).reshape(*shape, -1)[:, :, 0], pixels)


def test_the_page_is_whole_and_loads_nothing() -> None:
    html = explanation_report(make_explanation([f"t{n} " for n in range(12)])).html()
    page = Outline(html)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert sum(tag == "img" for tag, _ in page.tags) == 12 + 1
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
        assert not any(name.startswith("on") for name in attributes)
    names = [attributes.get("aria-label") for tag, attributes in page.tags if tag == "button"]
    assert "layer 0, head 1: previous token 100%" in names
    for text in ("Bits per token", "What comes next", "Attention", "logit lens", "Jain and Wallace", "a view"):
        assert text in page.text


def test_only_the_pages_own_script_may_run() -> None:
    html = explanation_report(make_explanation(HOSTILE)).html()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    script = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert policy is not None and len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    allowed = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert policy[1] == allowed
    assert "fetch(" not in script[0] and "innerHTML" not in script[0]


def test_whatever_stands_in_a_token_is_text() -> None:
    page = Outline(explanation_report(make_explanation(HOSTILE)).html())
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "alert(1)" in page.text and "\u202e" not in page.text and "\x00" not in page.text
    data = re.search(r'id="attention">(.*?)</script>', explanation_report(make_explanation(HOSTILE)).html(), re.S)
    assert data is not None
    assert json.loads(data[1])["tokens"] == [shown(token) for token in HOSTILE]


def test_tokens_on_their_own_are_seen() -> None:
    assert [shown(text) for text in (" a", "\n", "\t", "", "\x00")] == ["·a", "⏎", "⇥", "∅", "⟨U+0000⟩"]
    assert [percent(share) for share in (1.0, 0.432, 0.0234, 0.0001, 0.9996, 0.0, 1e-9)] == [
        "100%",
        "43%",
        "2.3%",
        "<0.1%",
        "100%",
        "0%",
        "<0.1%",
    ]


def test_what_is_left_out_is_said() -> None:
    explanation = make_explanation([f" t{n}" for n in range(90)], shown_tokens=20)
    page = Outline(explanation_report(explanation).html())
    assert "The maps are of the first 20 of 90 tokens" in page.text
    assert f"The table is of the first {MOST_COLUMNS - 1} places and the last" in page.text
    assert "what follows" in page.text


def test_a_model_of_classes_has_its_classes(tmp_path: Path) -> None:
    path = write_explanation(make_explanation([" it", " is"] * 4, kind="classes"), tmp_path / "page.html")
    page = Outline(path.read_text())
    assert "Which class" in page.text and "<b>good</b>" in page.text and "90.00%" in page.text
    assert "Bits per token" not in page.text and "after each layer" not in page.text.lower().split("attention", 1)[1]


def test_thirty_layers_of_nine_heads_are_a_small_page() -> None:
    html = explanation_report(make_explanation([f" t{n}" for n in range(64)], layers=30, heads=9)).html()
    # Weights drawn at random are as hard to compress as any.
    assert len(html) < 2_500_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_to_complain_of(tmp_path: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    path = write_explanation(make_explanation([f" t{n}" for n in range(12)]), tmp_path / "page.html")
    with open_browser() as window:
        # Axe is put into the page, which lets no script in but its own.
        page = window.new_page(color_scheme=scheme, bypass_csp=True)
        page.goto(path.as_uri())
        page.locator(".chosen").wait_for()
        options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        found = axe.Axe().run(page, options=options).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found] == []


@pytest.mark.parametrize(("width", "dark"), [(1100, False), (1100, True), (380, False)])
def test_it_looks_as_it_should(
    screenshot: Callable[..., NDArray[np.float32]], tmp_path: Path, width: int, dark: bool
) -> None:
    path = write_explanation(make_explanation([f" t{n}" for n in range(12)]), tmp_path / "page.html")
    pixels = screenshot(path, width, 2600, dark=dark)
    # Dark on light, or light on dark; and colour on it.
    assert (np.median(pixels) < 0.2) == dark
    assert (pixels.max(-1) - pixels.min(-1) > 0.3).mean() > 0.005


def test_a_head_is_chosen_and_its_pairs_are_read(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    explanation = make_explanation([f" t{n}" for n in range(12)])
    path = write_explanation(explanation, tmp_path / "page.html")
    with open_browser() as window:
        page = window.new_page(viewport={"width": 390, "height": 800})
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path.as_uri())
        pair = page.locator(".pair")
        # The first named head stands there at once.
        playwright.expect(page.locator(".chosen h3")).to_have_text("layer 0, head 1: previous token 100%")
        playwright.expect(pair).to_have_text("11 “·t11” looks at 10 “·t10” with 100% of its weight")
        page.get_by_role("button", name="layer 2, head 3").click()
        playwright.expect(page.locator(".chosen h3")).to_have_text("layer 2, head 3")
        weights = (explanation.heads[11].weights / 255.0) ** 2
        best = int(weights[11].argmax())
        share = weights[11, best]
        expected = f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.1f}%"
        playwright.expect(pair).to_have_text(f"11 “·t11” looks at {best} “·t{best}” with {expected} of its weight")
        page.locator(".looks button").nth(5).click()
        playwright.expect(pair).to_contain_text("5 “·t5” looks at")
        page.locator(".large").press("ArrowUp")
        playwright.expect(pair).to_contain_text("4 “·t4” looks at")
        strongest = page.locator(".pairs tr").first.inner_text().split("\t")
        row, column = np.unravel_index(weights[1:].argmax(), weights[1:].shape)
        assert strongest[:2] == [f"{row + 1} ·t{row + 1}", f"{column} ·t{column}"]
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert problems == []
