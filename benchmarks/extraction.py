"""Main text of real pages beside trafilatura and resiliparse, and the speed of repairing plain text.

    python benchmarks/extraction.py                    the 90 pages of ../shared/data/dirty_web
    python benchmarks/extraction.py --pages CHECKOUT   all pages of the public article-extraction-benchmark

F1, precision and recall are that benchmark's: over the 4-shingles of a page's words, precision and recall averaged over
pages, F1 of the two averages; ``page_f1`` is the mean of the pages' own F1. ``halves`` are the F1 of every other page.
Speed is megabytes of HTML, or of text, for each second of CPU time.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import PEERS

DATA = PEERS.parent / "data"

Extractor = Callable[[bytes], str]


def read_pages(folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Pages and the text of their articles, by name; from our copy or from a checkout."""
    if (folder / "ground-truth.json").is_file():
        gold_file, pages = folder / "ground-truth.json", folder / "html"
    else:
        gold_file, pages = folder / "article_extraction_gold.json", folder / "article_extraction"
    gold = {name: row["articleBody"] for name, row in sorted(json.loads(gold_file.read_text()).items())}
    return {name: gzip.decompress((pages / f"{name}.html.gz").read_bytes()) for name in gold}, gold


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """The runs of four words, or all words of a shorter text."""
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[i : i + 4]) for i in range(max(1, len(words) - 3)) if words)


def scores(found: dict[str, str], gold: dict[str, str]) -> dict[str, float]:
    """Precision, recall and F1 as the benchmark averages them; pages without a shingle count for neither."""
    precision, recall, f1 = [], [], []
    for name, text in found.items():
        ours, right = shingles(text), shingles(gold[name])
        both = sum((ours & right).values())
        if ours:
            precision.append(both / sum(ours.values()))
        if right:
            recall.append(both / sum(right.values()))
        f1.append(2 * both / (sum(ours.values()) + sum(right.values())) if ours or right else 1.0)
    p, r = statistics.mean(precision), statistics.mean(recall)
    mean = {"f1": 2 * p * r / (p + r), "precision": p, "recall": r, "page_f1": statistics.mean(f1)}
    return {key: round(value, 4) for key, value in mean.items()}


def measured(extract: Extractor, pages: dict[str, bytes], gold: dict[str, str]) -> dict[str, Any]:
    """One extractor's scores and speed; the first page is read once before, for what loads on first use."""
    extract(next(iter(pages.values())))
    began = time.process_time()
    found = {name: extract(content) for name, content in pages.items()}
    seconds = time.process_time() - began
    names = list(found)
    halves = [scores({name: found[name] for name in names[i::2]}, gold)["f1"] for i in range(2)]
    speed = sum(map(len, pages.values())) / 1e6 / seconds
    return scores(found, gold) | {"halves": halves, "megabytes_per_second": round(speed, 2)}


def extractors() -> dict[str, Extractor]:
    """Ours, and each peer with each of its options that could suit."""
    import trafilatura
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import detect_encoding
    from resiliparse.parse.html import HTMLTree

    from ownlm.data.extract.content import ExtractError, ExtractOptions, extract_text
    from ownlm.data.sources.records import HTML

    logging.getLogger("trafilatura").addHandler(logging.NullHandler())
    options = ExtractOptions()

    def ours(content: bytes) -> str:
        try:
            return extract_text(content, HTML, None, options).text
        except ExtractError:
            return ""

    def peer_trafilatura(**choices: bool) -> Extractor:
        return lambda content: trafilatura.extract(content, include_comments=False, **choices) or ""

    def peer_resiliparse(**choices: bool) -> Extractor:
        return lambda content: extract_plain_text(
            HTMLTree.parse_from_bytes(content, detect_encoding(content, from_html_meta=True)),
            main_content=True,
            **choices,
        )

    return {
        "ours": ours,
        "trafilatura": peer_trafilatura(),
        "trafilatura precision": peer_trafilatura(favor_precision=True),
        "trafilatura recall": peer_trafilatura(favor_recall=True),
        "trafilatura fast": peer_trafilatura(fast=True),
        "resiliparse": peer_resiliparse(),
        "resiliparse plain": peer_resiliparse(alt_texts=False, list_bullets=False, comments=False, post_meta=False),
    }


def repair_speed(gold: dict[str, str]) -> dict[str, float]:
    """MB/s of repairing clean English, clean text of many languages, and text that all has to be repaired."""
    from ownlm.data.extract.content import ExtractOptions, repair

    options = ExtractOptions()
    peps = [path.read_text() for path in sorted((DATA / "peps").rglob("*.*")) if path.suffix in (".rst", ".txt")]
    pages = [text.replace("\u00a0", " ") for text in gold.values()]
    sets = {
        "ascii": [text for text in peps if text.isascii()],
        "unicode": [text for text in pages + peps if not text.isascii()],
        "mojibake": [text.encode().decode("cp1252", "ignore") for text in pages if not text.isascii()],
    }
    speeds = {}
    for name, texts in sets.items():
        seconds = []
        for _ in range(3):
            began = time.process_time()
            for text in texts:
                repair(text, options)
            seconds.append(time.process_time() - began)
        speeds[name] = round(sum(len(text.encode()) for text in texts) / 1e6 / min(seconds), 1)
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=Path, default=DATA / "dirty_web", help="a folder of pages with their articles")
    arguments = parser.parse_args()
    pages, gold = read_pages(arguments.pages)
    results = {name: measured(extract, pages, gold) for name, extract in extractors().items()}
    best = max(result["f1"] for name, result in results.items() if name != "ours")
    result = {
        "benchmark": "extraction",
        "pages": len(pages),
        **results,
        "f1_over_best_peer": round(results["ours"]["f1"] - best, 4),
        "repair_megabytes_per_second": repair_speed(gold),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
