"""Decontamination on planted leaks and hard negatives, beside plain n-gram overlap; and the speed on clean text.

    python benchmarks/contamination.py --data ../shared/data

The thresholds were chosen on ARC-Easy, XQuAD, LAMBADA and COPA with odd seeds, which draw other quotations, formulae
and lists than even ones. The other sets with seeds 6 and 8 are what the figures are for; one rule, that an answer
counts less where many items ask the same question, came after a look at those sets with seed 2. The rules compared
with:

- 13-gram: any run of N words in common, N the 5th percentile of the set's lengths, from 8 to 13 (Brown et al. 2020,
  appendix C); over question and answer, and over the passage as well.
- 8-gram: half, or 70%, of the question's and the answer's runs of 8 words (Chowdhery et al. 2022, section 8).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "data" / "contamination"))

from planted import Planted, plant

from ownlm.data.contamination.index import EvaluationIndex
from ownlm.data.contamination.judge import LEAK, judge, not_checkable
from ownlm.data.contamination.scan import scan
from ownlm.data.contamination.sets import Item
from ownlm.data.words import find_words

CHOSEN_ON = ("arc_easy", "xquad", "lambada", "copa")
HELD_OUT = ("hellaswag", "boolq", "winogrande", "squad2", "policyqa")
Grams = set[tuple[str, ...]]


def grams_of(words: list[str], n: int) -> Grams:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def text_of(item: Item, passage: bool) -> list[str]:
    return words_of(" ".join([item.passage] * passage + [item.question, *item.answers[:1]]))


def any_gram(planted: Planted, passage: bool) -> list[bool]:
    """The 13-gram rule."""
    by_set: dict[str, list[list[str]]] = defaultdict(list)
    for item in planted.items:
        by_set[item.set].append(text_of(item, passage))
    known: dict[int, Grams] = defaultdict(set)
    for texts in by_set.values():
        n = int(np.clip(np.percentile([len(words) for words in texts], 5), 8, 13))
        for words in texts:
            known[n] |= grams_of(words, n)
    documents = [words_of(document.text) for document in planted.documents]
    return [any(grams_of(words, n) & grams for n, grams in known.items()) for words in documents]


def gram_share(planted: Planted, least: float, n: int = 8) -> list[bool]:
    """A share of an item's n-grams."""
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    sizes = []
    for number, item in enumerate(planted.items):
        grams = grams_of(text_of(item, False), n)
        sizes.append(len(grams))
        for gram in grams:
            holders[gram].append(number)
    flagged = []
    for document in planted.documents:
        found: Counter[int] = Counter()
        for gram in grams_of(words_of(document.text), n) & holders.keys():
            found.update(holders[gram])
        flagged.append(any(count >= least * sizes[number] for number, count in found.items()))
    return flagged


def ours(planted: Planted, ngram: int) -> tuple[list[bool], EvaluationIndex]:
    index = EvaluationIndex.build(planted.items, ngram=ngram)
    hits = scan(pa.array([document.text for document in planted.documents], pa.large_string()), index)
    leaks = hits.filter(pa.compute.equal(judge(hits, planted.options), LEAK))
    dropped = set(leaks["document"].to_pylist())
    return [number in dropped for number in range(len(planted.documents))], index


def summary(planted: Planted, flagged: list[bool]) -> dict[str, Any]:
    """Recall, precision, and the share flagged of each kind."""
    kinds: dict[str, list[bool]] = defaultdict(list)
    for document, flag in zip(planted.documents, flagged, strict=True):
        kinds[("+ " if document.item else "- ") + document.kind].append(flag)
    true = sum(flag for document, flag in zip(planted.documents, flagged, strict=True) if document.item)
    positives = sum(document.item is not None for document in planted.documents)
    return {
        "recall": round(true / positives, 4),
        "precision": round(true / max(sum(flagged), 1), 4),
        "kinds": {kind: round(sum(flags) / len(flags), 3) for kind, flags in sorted(kinds.items())},
    }


def compare(data: Path, names: tuple[str, ...], seed: int, each: int) -> tuple[dict[str, Any], EvaluationIndex]:
    """Every rule on the same documents."""
    with tempfile.TemporaryDirectory() as folder:
        planted = plant(data, Path(folder), names, seed, each)
    flagged, index = ours(planted, 3)
    rules = {
        "ownlm": flagged,
        "ownlm, seeds of 5 words": ours(planted, 5)[0],
        "13-gram": any_gram(planted, passage=False),
        "13-gram with passage": any_gram(planted, passage=True),
        "8-gram, half": gram_share(planted, 0.5),
        "8-gram, 70%": gram_share(planted, 0.7),
    }
    positives = sum(document.item is not None for document in planted.documents)
    return {
        "sets": list(names),
        "seed": seed,
        "items": len(planted.items),
        "not_checkable": len(not_checkable(index, planted.options)),
        "positives": positives,
        "negatives": len(planted.documents) - positives,
        "rules": {name: summary(planted, flags) for name, flags in rules.items()},
    }, index


def speed(data: Path, index: EvaluationIndex) -> dict[str, Any]:
    """Megabytes of clean text a CPU second, and what is found there."""
    peps = [path.read_text() for path in sorted((data / "peps").glob("*.rst"))]
    posts = [path.read_text() for path in sorted((data / "brand_voice_18f" / "18f_posts").glob("*.md"))]
    wiki = (data / "wikitext2" / "wiki.test.tokens").read_text().split("\n \n")
    figures: dict[str, Any] = {}
    for name, texts in (("PEPs", peps[:200]), ("18F posts", posts), ("WikiText-2 test", wiki)):
        column = pa.array(texts, pa.large_string())
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        best = [float("inf"), float("inf")]
        for _ in range(3):
            began = time.process_time()
            words = find_words(column, "letters")
            found = time.process_time()
            hits = scan(column, index, words)
            ended = time.process_time()
            best = [min(best[0], found - began), min(best[1], ended - found)]
        strong = int((hits["score"].to_numpy() >= 0.6).sum())
        figures[name] = {
            "megabytes": round(megabytes, 1),
            "words_mb_s": round(megabytes / best[0], 1),
            "scan_mb_s": round(megabytes / best[1], 1),
            "both_mb_s": round(megabytes / sum(best), 1),
            "leaks": strong,
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[1].parent / "shared" / "data")
    parser.add_argument("--each", type=int, default=50, help="documents of each kind")
    parser.add_argument("--seeds", type=int, nargs="+", default=[6, 8])
    arguments = parser.parse_args()
    runs = [compare(arguments.data, HELD_OUT, seed, arguments.each)[0] for seed in arguments.seeds]
    runs.append(compare(arguments.data, CHOSEN_ON, 1, arguments.each)[0])
    every, index = compare(arguments.data, CHOSEN_ON + HELD_OUT, arguments.seeds[0], arguments.each)
    print(json.dumps({"runs": [*runs, every], "clean": speed(arguments.data, index)}))


if __name__ == "__main__":
    main()
