"""The data report: every number on the page follows from the manifest and adds up, and no text harms the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ownlm.report.dataset import dataset_report
from ownlm.report.dataset_facts import discrepancies, stages

MakeManifest = Callable[..., dict[str, Any]]
SIZES: dict[str, Any] = {"rules": 60, "languages": 40, "hits": 200, "sources": 9}
SECTIONS = [
    "From read to kept",
    "Why documents were dropped",
    "Lengths and languages",
    "By source",
    "Splits",
    "Duplicates",
    "Personal data and secrets",
    "Evaluation sets",
    "What could not be read",
    "Recipe",
]


class Page(HTMLParser):
    """Headings, tables (by name: rows of cell texts) and tags of a page, whose tags must be in balance."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.headings: list[tuple[int, str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self._name = ""
        self._cell: list[str] | None = None
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "meta":
            return
        self._open.append(tag)
        if dict(attrs).get("role") == "region":
            self._name = str(dict(attrs)["aria-label"])
            self.tables[self._name] = []
        if tag == "tr":
            self.tables[self._name].append([])
        if tag in ("td", "th"):
            self._cell = []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag in ("td", "th"):
            assert self._cell is not None
            self.tables[self._name][-1].append("".join(self._cell).strip())
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            self._cell.append(data)
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            self.headings[-1] = (self.headings[-1][0], self.headings[-1][1] + data)

    def rows(self, name: str) -> dict[str, list[str]]:
        """A table's rows without its head and without what is folded under them, by their first cell."""
        return {row[0]: row[1:] for row in self.tables[name][1:] if len(row) > 1}

    def numbers(self, name: str, column: int) -> dict[str, int]:
        """One column of a table as numbers, a dash being nothing."""
        return {label: as_number(cells[column]) for label, cells in self.rows(name).items()}


def as_number(cell: str) -> int:
    return 0 if cell in ("–", "") else int(cell.replace(",", ""))


def page_of(manifest: dict[str, Any]) -> Page:
    return Page(dataset_report(manifest, "data/one").html())


@pytest.mark.parametrize("size", [{}, SIZES, {"documents": 40, "rules": 2, "hits": 0, "tokens": False, "sources": 1}])
def test_the_funnel_adds_up_from_read_to_the_splits(make_manifest: MakeManifest, size: dict[str, Any]):
    manifest = make_manifest(3, **size)
    page = page_of(manifest)
    left, lost = page.numbers("Documents", 0), page.numbers("Documents", 2)
    steps = [name for name in left if name not in manifest["splits"]]
    assert steps[0] == "Read"
    assert steps[-1] == "Kept"
    for before, after in pairwise(steps):
        assert left[before] - lost[after] == left[after]
    assert left["Read"] == manifest["documents"]["read"]
    assert left["Kept"] == manifest["documents"]["kept"] == sum(left[name] for name in manifest["splits"])
    assert sum(lost.values()) == sum(manifest["documents"]["dropped"].values())


def test_reasons_add_up_by_stage_and_in_all(make_manifest: MakeManifest):
    manifest = make_manifest(4, **SIZES)
    html = dataset_report(manifest).html()
    counts = Page(html).numbers("Reasons", 0)
    for stage in stages(manifest):
        if stage.reasons:
            assert counts[stage.loss] == stage.lost == sum(count for _, count in stage.reasons)
    assert counts["Dropped in all"] + counts["Kept"] == counts["Read"] == manifest["documents"]["read"]
    headings = {stage.loss for stage in stages(manifest)} | {"Dropped in all", "Kept", "Read"}
    assert sum(n for name, n in counts.items() if name not in headings) == counts["Dropped in all"]
    # Widths of bars are relative to the most frequent reason.
    assert '<i class="lost" style="width:100%"></i>' in html


def test_sources_splits_lengths_and_languages_add_up(make_manifest: MakeManifest):
    manifest = make_manifest(5, **SIZES)
    page = page_of(manifest)
    for column in range(4):
        numbers = page.numbers("Documents by source", column)
        assert numbers.pop("All") == sum(numbers.values())
    for column in (0, 2, 3):
        numbers = page.numbers("Splits", column)
        assert numbers.pop("All") == sum(numbers.values())
    measured = sum(n for reason, n in manifest["documents"]["dropped"].items() if not reason.startswith("unreadable/"))
    lengths = [sum(page.numbers("Lengths", column).values()) for column in (0, 1)]
    names = ("Languages", "Less frequent languages")
    languages = [sum(sum(page.numbers(name, column).values()) for name in names) for column in (0, 1)]
    assert lengths == languages == [manifest["documents"]["kept"], measured]


def test_numbers_that_do_not_add_up_are_said_to_be_so(make_manifest: MakeManifest):
    manifest = make_manifest()
    assert discrepancies(manifest) == []
    assert "do not add up" not in page_of(manifest).text
    manifest["documents"]["kept"] += 1
    assert len(discrepancies(manifest)) == 3
    assert page_of(manifest).text.count("These numbers do not add up") == 3


def test_the_summary_says_how_much_was_kept_and_why_the_rest_went():
    page = page_of(by_hand())
    assert "10 documents, 20 kB of text, were read from 1 source. 6 of them, 60.0%, were kept." in page.text
    assert (
        "Why the other 4 went: 1 could not be read (“not utf8”); 3 filtered out (most often “too_short”, 2)."
        in page.text
    )


def by_hand() -> dict[str, Any]:
    """Ten documents, worked out by hand."""
    dropped = {"unreadable/not-utf8": 1, "filter/too_short": 2, "filter/symbols": 1}
    splits = {
        "train": {"documents": 4, "tokens": None, "characters": 4000},
        "validation": {"documents": 2, "tokens": None, "characters": 1000},
        "test": {"documents": 0, "tokens": None, "characters": 0},
    }
    languages = {"kept": {"en": 5, "de": 1}, "dropped": {"en": 3}}
    lengths = {"kept": {"7": 4, "9": 2}, "dropped": {"0": 1, "1": 2}}
    source = {"documents": {"read": 10, "kept": 6, "dropped": dropped}, "splits": splits, "languages": languages}
    return {
        "format": 1,
        "recipe": {"sources": [{"name": "mail", "path": "mail"}]},
        "documents": {"read": 10, "kept": 6, "dropped": dropped},
        "bytes": 20_000,
        "splits": splits,
        "sources": {"mail": {**source, "lengths": lengths, "weight": 1.0, "epochs": None}},
        "languages": languages,
        "lengths": lengths,
        "duplicates": {"clusters": 0, "documents": 0, "exact": 0, "near": 0, "paragraphs": 0, "examples": []},
        "pii": {},
        "personal_data": {},
        "contamination": {"sets": {}, "hits": []},
        "failures": {
            "count": 1,
            "reasons": {"not-utf8": 1},
            "first": [{"source": "mail", "file": "a.txt", "line": 0, "reason": "not-utf8", "message": "byte 0xe9"}],
        },
        "examples": {
            "filter/too_short": [
                {"id": "0", "source": "mail", "file": "b.txt", "line": 7, "shown": {"words": 12}, "excerpt": "Thanks!"}
            ]
        },
        "rules": {"too_short": "words < 50", "symbols": "hash_ratio > 0.1", "idle": "braces > 0"},
        "tokenizer": None,
    }


def test_a_reason_stands_with_its_expression_its_values_and_what_it_removed():
    html = dataset_report(by_hand()).html()
    row = html[html.index("<span>too_short</span>") :]
    sample = row[: row.index("</details>")]
    for text in (
        "<code>words &lt; 50</code>",
        "1 sample of what it removed",
        "mail · b.txt:7",
        "words <strong>12</strong>",
        "Thanks!",
    ):
        assert text in sample
    page = Page(html)
    assert page.rows("Rules without effect") == {"idle": ["braces > 0"]}
    assert page.rows("not utf8: 1") == {"mail · a.txt": ["byte 0xe9"]}


def test_lengths_leave_out_no_bin_between_the_shortest_and_the_longest():
    page = page_of(by_hand())
    names = ["none", "1", "2–3", "4–7", "8–15", "16–31", "32–63", "64–127", "128–255", "256–511"]
    assert list(page.rows("Lengths")) == names
    assert page.rows("What the documents kept are like") == {"mail": ["64–127", "en 83.3%, de 16.7%"]}


def test_empty_parts_say_so_in_a_line():
    page = page_of(by_hand())
    for line in (
        "No copies were found.",
        "None was found.",
        "The recipe names no evaluation set",
        "The recipe names no tokenizer",
        "Nothing is held out for test.",
    ):
        assert line in page.text


def test_a_build_that_read_nothing_has_a_page(make_manifest: MakeManifest):
    manifest = by_hand()
    nothing: dict[str, Any] = {"read": 0, "kept": 0, "dropped": {}}
    for split in manifest["splits"].values():
        split.update(documents=0, characters=0)
    empty: dict[str, Any] = {"kept": {}, "dropped": {}}
    manifest |= {"documents": nothing, "sources": {}, "languages": empty, "lengths": empty, "bytes": 0, "examples": {}}
    manifest["failures"] = {"count": 0, "reasons": {}, "first": []}
    page = page_of(manifest)
    for line in (
        "Nothing was read",
        "No document was dropped.",
        "No document was measured.",
        "Everything could be read.",
    ):
        assert line in page.text


def test_sections_come_in_the_order_a_person_asks_and_headings_skip_no_level(make_manifest: MakeManifest):
    page = page_of(make_manifest(6, hostile=True, **SIZES))
    assert [text for level, text in page.headings if level == 2] == SECTIONS
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_table_has_a_name_and_named_columns_and_rows(make_manifest: MakeManifest):
    page = page_of(make_manifest(7, hostile=True))
    headers = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert set(headers) == {"col", "row"}
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == len(page.tables)
    for rows in page.tables.values():
        assert len(rows) > 1
        assert all(len(row) in (1, len(rows[0])) for row in rows)


@pytest.mark.parametrize("seed", range(5))
def test_texts_from_the_wild_are_text_and_nothing_else(make_manifest: MakeManifest, seed: int):
    html = dataset_report(make_manifest(seed, hostile=True), "data/\u202e<b>").html()
    page = Page(html)
    allowed = (
        "html head meta title style body main header h1 h2 h3 h4 p dl div dt dd section figure figcaption strong span"
    )
    allowed += " table thead tbody caption tr th td code i details summary blockquote mark nav ul li a article"
    assert {tag for tag, _ in page.tags} <= set(allowed.split())
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(str(a["href"]).startswith("#section-") for _, a in page.tags if "href" in a)
    for text in (
        "<script>alert('hello')</script>",
        "</style></title>",
        "{{ 7 * 7 }}",
        "👨‍👩‍👧‍👦",
        "مرحبا بالعالم",
        "⟨U+202E⟩",
    ):
        assert text in page.text
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    html.encode()


def test_a_large_page_stays_light_and_complete(make_manifest: MakeManifest):
    manifest = make_manifest(8, hostile=True, **SIZES)
    html = dataset_report(manifest).html()
    assert len(html.encode()) < 1_000_000
    page = Page(html)
    assert sum(text.startswith("Item ") for level, text in page.headings) == 200
    # What is long is folded, and the rest stays short enough to be read.
    assert sum(tag == "details" for tag, _ in page.tags) > 60
    unfolded = re.sub(r"<details(?! open| class=\"fold\" open).*?</details>", "", html, flags=re.DOTALL)
    assert unfolded.count("<tr") < 300


def test_long_texts_are_cut(make_manifest: MakeManifest):
    manifest = make_manifest(9)
    manifest["contamination"]["hits"][0] |= {"matched": "wort " * 100_000, "item_text": "字" * 100_000}
    manifest["failures"]["first"][0]["message"] = "x" * 100_000
    manifest["recipe"]["filters"]["rules"]["too_short"] = "y" * 100_000
    assert len(dataset_report(manifest).html().encode()) < 150_000


def test_a_cluster_shows_the_kept_document_first_and_what_differs(make_manifest: MakeManifest):
    manifest = make_manifest()
    html = dataset_report(manifest).html()
    cluster = html[html.index("<article") : html.index("</article>")]
    kept, copy = cluster.index('<p class="badge">kept</p>'), cluster.index('<p class="badge">dropped</p>')
    assert kept < copy
    assert "Jaccard <strong>0.931</strong>" in cluster[copy:]
    assert "<mark>" not in cluster[kept:copy]
    assert "<mark>" in cluster[copy:]
    assert "5 more in this cluster are not shown." in html


def test_personal_data_that_stays_is_a_warning(make_manifest: MakeManifest):
    page = page_of(make_manifest())
    assert page.rows("By kind")["IP addresses"] == ["44", "40", "left as they are"]
    assert page.numbers("By kind", 0)["All"] == sum([4_812, 1_930, 44, 3, 0])
    assert "these were left in the documents: IP addresses." in page.text
    assert "Not looked for: street addresses; names of people." in page.text


def test_what_the_recipe_does_not_say_of_the_search_is_not_claimed():
    manifest = by_hand()
    assert "Not looked for" not in page_of(manifest).text
    manifest["recipe"]["personal_data"] = {"names": True, "addresses": False}
    assert "Not looked for: street addresses." in page_of(manifest).text


def test_documents_dropped_after_they_were_measured_are_explained():
    manifest = by_hand()
    for part in (manifest, manifest["sources"]["mail"]):
        part["documents"] = {
            **part["documents"],
            "kept": 5,
            "dropped": {**part["documents"]["dropped"], "tokens/too-long": 1},
        }
    # A split without documents need not be named.
    manifest["splits"] = manifest["sources"]["mail"]["splits"] = {
        "train": {"documents": 5, "tokens": 900, "characters": 4500}
    }
    page = page_of(manifest)
    assert "do not add up" not in page.text
    assert "Dropped later, when tokens were written: 1 of those shown as kept." in page.text
    assert "Nothing is held out for validation and test." in page.text


def test_hits_that_stay_are_a_warning_and_those_cut_out_are_not(make_manifest: MakeManifest):
    manifest = make_manifest(hits=30)
    left_in = sum(not hit["dropped"] for hit in manifest["contamination"]["hits"])
    assert left_in > 0
    page = page_of(manifest)
    assert f"In {left_in} of the 30 hits listed, the document was not dropped." in page.text
    assert page.text.count("document, not dropped") == left_in
    # Text that stands everywhere is no leak, and no reason to warn.
    manifest["contamination"]["hits"].append(manifest["contamination"]["hits"][3] | {"verdict": "common"})
    page = page_of(manifest)
    assert f"In {left_in} of the 30 hits listed" in page.text
    assert page.text.count("document, common text") == 1
    manifest["recipe"]["decontaminate"]["action"] = "cut"
    page = page_of(manifest)
    assert "was not dropped" not in page.text
    assert page.text.count("document, these words cut out") == left_in


def contrast(first: str, second: str) -> float:
    """The contrast of two colours as WCAG 2.2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_text_can_be_read_on_its_ground(make_manifest: MakeManifest):
    html = dataset_report(make_manifest()).html()
    for theme in re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL)[:2]:
        colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme))
        for ink in ("ink", "muted", "good", "bad", "series-1"):
            for paper in ("paper", "card"):
                assert contrast(colors[ink], colors[paper]) >= 4.5, (ink, paper)
        assert contrast(colors["ink"], colors["mark"]) >= 4.5
        assert contrast(colors["series-1"], colors["series-2"]) > 1


def test_nothing_runs_over_the_edge_of_a_narrow_window(
    make_manifest: MakeManifest, tmp_path: Path, screenshot: Callable[..., NDArray[np.float32]]
):
    path = tmp_path / "report.html"
    html = dataset_report(make_manifest(10, hostile=True, rules=9, hits=20), "x" * 300).html()
    path.write_text(html.replace("<details", "<details open"))
    pixels = screenshot(path, 500, 9000)
    assert np.abs(pixels[:, -2] - pixels[0, -2]).max() < 0.02


def test_the_same_manifest_is_the_same_page(make_manifest: MakeManifest):
    assert dataset_report(make_manifest(11)).html() == dataset_report(make_manifest(11)).html()
