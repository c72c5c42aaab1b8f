"""The data card: what the hub reads of it, what a Markdown reader sees in it, and that it quotes no document."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard, DatasetCardData
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ownlm.report.data_card import data_card
from ownlm.report.page import visible

MakeManifest = Callable[..., dict[str, Any]]


def read_tables(card: str) -> list[list[list[str]]]:
    """Every table as rows of cell texts, as a Markdown reader takes them."""
    tables: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(DatasetCard(card, ignore_metadata_errors=False).text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline" and tables and token.level > 3:
            tables[-1][-1].append("".join(child.content for child in token.children or []))
    return tables


def table_of(card: str, column: str) -> list[list[str]]:
    """The rows of the table whose head begins with ``column``."""
    return next(table[1:] for table in read_tables(card) if table[0][0] == column)


def number(cell: str) -> int:
    return int(cell.replace(",", "") or 0)


def test_the_hub_reads_its_header(make_manifest: MakeManifest):
    data = DatasetCard(data_card(make_manifest())).data
    assert isinstance(data, DatasetCardData)
    # Languages of one document in a hundred kept, the most frequent first.
    assert data.language == ["en", "de", "fr", "es", "it"]
    assert data.size_categories == ["10K<n<100K"]
    assert data.task_categories == ["text-generation"]
    assert data.license is None
    assert data.to_dict()["configs"] == [
        {"config_name": "default", "data_files": [{"split": "documents", "path": "documents/*.parquet"}]}
    ]


def test_a_code_that_yaml_takes_for_a_truth_value_stays_a_code(make_manifest: MakeManifest):
    manifest = make_manifest()
    manifest["languages"]["kept"] = {"no": 9, "und": 5, "": 3, "<b>": 2}
    assert DatasetCard(data_card(manifest)).data.language == ["no"]


@pytest.mark.parametrize(
    ("kept", "size"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**6, "1M<n<10M"), (10**9, "1B<n<10B"), (10**12, "n>1T")],
)
def test_sizes_are_those_of_the_hub(make_manifest: MakeManifest, kept: int, size: str):
    manifest = make_manifest()
    manifest["documents"]["kept"] = kept
    assert DatasetCard(data_card(manifest)).data.size_categories == [size]


def test_the_licence_is_the_recipes_or_the_owners_to_name(make_manifest: MakeManifest):
    manifest = make_manifest()
    card = data_card(manifest)
    assert card.startswith("---\n# license: name the licence here")
    assert "None is stated." in card
    manifest["recipe"]["license"] = "cc-by-4.0"
    card = data_card(manifest)
    assert DatasetCard(card).data.license == "cc-by-4.0"
    assert "None is stated." not in card


def test_its_sections_come_in_order(make_manifest: MakeManifest):
    card = data_card(make_manifest(2, hostile=True))
    tokens = MarkdownIt("commonmark").parse(DatasetCard(card).text)
    found = [(t.tag, tokens[i + 1].content) for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert [tag for tag, _ in found].count("h1") == 1
    assert [text for tag, text in found if tag == "h2"] == [
        "What it is",
        "How it was made",
        "Composition",
        "Personal and sensitive information",
        "Known limits",
        "Licence",
        "How to make it again",
    ]
    steps = ["Sources", "Filters", "Duplicates", "Personal data", "Decontamination", "Split"]
    assert [text for tag, text in found if tag == "h3"] == steps


def test_its_numbers_add_up(make_manifest: MakeManifest):
    manifest = make_manifest(3, sources=5)
    card = data_card(manifest)
    *sources, everything = table_of(card, "source")
    for column in (2, 3, 4):
        assert sum(number(row[column]) for row in sources) == number(everything[column])
    steps = table_of(card, "step")
    for before, after in pairwise(steps):
        assert number(before[1]) - number(after[2]) == number(after[1])
    assert number(steps[-1][1]) == manifest["documents"]["kept"]
    *splits, everything = table_of(card, "split")
    assert sum(number(row[1]) for row in splits) == number(everything[1]) == manifest["documents"]["kept"]
    assert sum(number(row[1]) for row in table_of(card, "language, as identified")) == manifest["documents"]["kept"]
    assert sum(number(row[1]) for row in table_of(card, "words")) == manifest["documents"]["kept"]
    rules = {row[0]: (row[1], number(row[2])) for row in table_of(card, "rule")}
    dropped = manifest["documents"]["dropped"]
    assert rules == {name: (rule, dropped.get(f"filter/{name}", 0)) for name, rule in manifest["rules"].items()}


def test_the_recipe_can_be_read_back(make_manifest: MakeManifest):
    manifest = make_manifest()
    manifest["recipe"]["filters"]["rules"]["odd"] = "text == '```' or x > 1 # ````"
    card = data_card(manifest)
    fences = [token for token in MarkdownIt("commonmark").parse(card) if token.type == "fence"]
    assert [token.info for token in fences] == ["yaml"]
    assert yaml.safe_load(fences[0].content) == manifest["recipe"]
    assert "Secrets are masked" not in card
    manifest["recipe"]["sources"][0]["sql"] = "**********"
    assert "Secrets are masked and must be put in again." in data_card(manifest)


@pytest.mark.parametrize("seed", range(3))
def test_it_quotes_no_document(make_manifest: MakeManifest, seed: int):
    manifest = make_manifest(seed, hits=30)
    card = data_card(manifest)
    texts = [sample["excerpt"] for samples in manifest["examples"].values() for sample in samples]
    texts += [
        document["excerpt"] for cluster in manifest["duplicates"]["examples"] for document in cluster["documents"]
    ]
    texts += [hit[key] for hit in manifest["contamination"]["hits"] for key in ("matched", "item_text")]
    assert texts
    for text in texts:
        assert text[:40] not in card


def test_it_says_what_was_left_in_and_what_was_not_looked_for(make_manifest: MakeManifest):
    manifest = make_manifest(hits=30)
    card = data_card(manifest)
    assert "left in the documents: IP addresses." in card
    assert "Not looked for: street addresses; names of people." in card
    left_in = sum(not hit["dropped"] for hit in manifest["contamination"]["hits"])
    assert f"{left_in} stand in documents that were not dropped for them" in card
    assert "is 0.8 or more were dropped as near-copies" in card


def test_parts_that_were_left_out_are_said_to_be_so(make_manifest: MakeManifest):
    manifest = make_manifest(tokens=False)
    manifest |= {"personal_data": {}, "rules": {}, "contamination": {"sets": {}, "hits": []}}
    manifest["recipe"]["duplicates"]["near"] = None
    card = data_card(manifest)
    for line in (
        "No filter was applied.",
        "Personal data and secrets were looked for, and none was found.",
        "No evaluation set was named",
        "Near-copies were not dropped.",
        "characters, to train language models on",
    ):
        assert line in card
    assert "documents with " in card
    assert "tokenizer of" not in card


def test_names_from_elsewhere_mean_just_themselves(make_manifest: MakeManifest):
    card = data_card(make_manifest(2, hostile=True))
    assert "web | <b>shop</b> ⟨U+202E⟩`x`" in [row[0] for row in table_of(card, "source")]
    html = MarkdownIt("commonmark").enable("table").render(DatasetCard(card).text)
    assert "<b>" not in html
    card.encode()


@given(st.text(min_size=1))
def test_any_name_is_one_cell_that_reads_as_it_is(name: str):
    from ownlm.report.markdown import inline_code, markdown_table, plain_text

    markdown = markdown_table(["name", "code"], [[plain_text(name), inline_code(name)], ["end", "end"]])
    rows = next(iter(read_tables(markdown)))
    line = " ".join(visible(name).split())
    assert rows[1:] == [[line, line], ["end", "end"]]
