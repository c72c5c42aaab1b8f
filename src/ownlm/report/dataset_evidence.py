"""The data report's evidence: the texts themselves, beside what they were dropped for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from ..units import format_number, plural
from .dataset_facts import (
    Manifest,
    as_count,
    by_frequency,
    format_share,
    hits_left_in,
    leaks,
    place_of,
    reason_name,
    shortened,
)
from .page import BarRow, Excerpt, Report

# Characters of a text that are shown: of samples, of copies, and of each side of a hit, of which there are many.
SAMPLE, COPY, HIT = 400, 400, 300
MOST_CLUSTERS, MOST_COPIES, MOST_HITS, MOST_COMMON, MOST_FAILURES = 20, 6, 200, 20, 100
# So many hits of a set, or failures in all, are shown unfolded.
FEW_HITS, FEW_FAILURES = 4, 20

Runs = list[tuple[str, bool]]


def reason_samples(manifest: Manifest, reason: str) -> list[Excerpt]:
    """What a reason removed, with the values that explain it."""
    return [
        Excerpt(
            place_of(sample),
            [(shortened(str(sample["excerpt"]), SAMPLE), False)],
            [(str(name), shortened(_fact(value), 80)) for name, value in sample["shown"].items()],
        )
        for sample in manifest["examples"].get(reason, [])
    ]


def add_duplicates(report: Report, manifest: Manifest) -> None:
    """The counts of copies, and clusters of them side by side."""
    report.section("Duplicates")
    duplicates = manifest["duplicates"]
    rows = [
        ["Clusters of copies", duplicates["clusters"]],
        ["Documents in them", duplicates["documents"]],
        ["Dropped as exact copies", duplicates["exact"]],
        ["Dropped as near-copies", duplicates["near"]],
        ["Repeated paragraphs cut from documents", duplicates["paragraphs"]],
    ]
    if not any(count for _, count in rows):
        report.note("No copies were found.")
        return
    note = "Clusters hold all documents read, those dropped for an earlier reason among them."
    report.table("Copies", ["what", "count"], rows, note)
    # Those first in which something was kept: they show what deduplication did.
    examples = sorted(duplicates["examples"], key=lambda cluster: not any(d["kept"] for d in cluster["documents"]))
    examples = examples[:MOST_CLUSTERS]
    if not examples:
        return
    text = "A cluster is a chain of copies: at least one of it is kept, unless all were dropped for an earlier reason, and "
    text += "several are where they are not alike enough to each other. "
    report.note(text + "What the others say and the first does not is marked.")
    for number, cluster in enumerate(examples):
        if number < 2:
            _add_cluster(report, cluster)
    if examples[2:]:
        with report.fold(f"{plural(len(examples) - 2, 'more cluster')}"):
            for cluster in examples[2:]:
                _add_cluster(report, cluster)


def _add_cluster(report: Report, cluster: Mapping[str, Any]) -> None:
    documents = sorted(cluster["documents"], key=lambda document: not document["kept"])
    first = shortened(str(documents[0]["excerpt"]), COPY) if documents else ""
    excerpts = []
    for number, document in enumerate(documents[:MOST_COPIES]):
        text = shortened(str(document["excerpt"]), COPY)
        runs = [(text, False)] if number == 0 else marked(text, first, shared=False)
        jaccard = document.get("jaccard")
        facts = [] if jaccard is None else [("Jaccard", f"{jaccard:.3f}")]
        badge = "kept" if document["kept"] else "dropped"
        excerpts.append(Excerpt(place_of(document), runs, facts, badge, good=True if document["kept"] else None))
    size = int(cluster.get("size", len(documents)))
    more = size - len(excerpts)
    about = f"{more:,} more in this cluster are not shown." if more else ""
    title = f"Cluster {str(cluster['cluster'])[:12]}: {plural(size, 'document')}"
    report.side_by_side(title, excerpts, about)


def add_contamination(report: Report, manifest: Manifest) -> None:
    """What was found of each evaluation set, and every hit beside the item it repeats."""
    report.section("Evaluation sets")
    sets, hits = manifest["contamination"]["sets"], manifest["contamination"]["hits"]
    if not sets:
        report.note("The recipe names no evaluation set, so nothing is known of items that stand in the documents.")
        return
    keys = ("items", "unchecked", "hits", "documents")
    rows = [[name, *(found[key] for key in keys)] for name, found in sets.items()]
    if len(rows) > 1:
        rows.append(["All", *(sum(found[key] for found in sets.values()) for key in keys[:3]), None])
    note = "Unchecked items are too short or too common to be looked for."
    report.table("What was found", ["set", "items", "unchecked", "hits", "documents with a hit"], rows, note)
    if not sum(found["hits"] for found in sets.values()):
        report.note("No item was found in the documents.")
    else:
        _add_leaks(report, manifest, sum(found["hits"] for found in sets.values()))
    common = [hit for hit in hits if hit.get("verdict", "leak") != "leak"]
    if common:
        with report.fold(f"Too common to be a leak: {plural(len(common), 'place')}"):
            report.note("These stand in so many documents, and without their answers, that they count as public text.")
            for hit in common[:MOST_COMMON]:
                _add_hit(report, hit, "document, common text", None)


def _add_leaks(report: Report, manifest: Manifest, total: int) -> None:
    """Every leak that is listed, by set."""
    listed, left_in = leaks(manifest)[:MOST_HITS], hits_left_in(manifest)
    if left_in:
        report.note(f"In {left_in:,} of the {len(listed):,} hits listed, the document was not dropped.", warning=True)
    fewer = f" {len(listed):,} of {total:,} hits are shown." if len(listed) < total else ""
    report.note("What both texts say is marked." + fewer)
    for name in dict.fromkeys(hit["set"] for hit in listed):
        of_set = [hit for hit in listed if hit["set"] == name]
        with report.fold(f"{shortened(str(name), 80)}: {plural(len(of_set), 'hit')}", opened=len(of_set) <= FEW_HITS):
            for hit in of_set:
                if hit["dropped"]:
                    _add_hit(report, hit, "document, dropped", None)
                elif left_in:
                    _add_hit(report, hit, "document, not dropped", False)
                else:
                    _add_hit(report, hit, "document, these words cut out", None)


def _add_hit(report: Report, hit: Mapping[str, Any], badge: str, good: bool | None) -> None:
    matched, item = shortened(str(hit["matched"]), HIT), shortened(str(hit["item_text"]), HIT)
    score = [("score", _fact(float(hit["score"])))]
    document = Excerpt(place_of(hit), marked(matched, item, shared=True), score, badge, good)
    evaluation = Excerpt(
        f"{hit['set']} · item {hit['item']}", marked(item, matched, shared=True), (), "evaluation item"
    )
    report.side_by_side(f"Item {shortened(str(hit['item']), 60)}", [document, evaluation])


def add_failures(report: Report, manifest: Manifest) -> None:
    """What could not be read, by reason, each entry named."""
    report.section("What could not be read")
    failures = manifest["failures"]
    count, reasons, listed = failures["count"], failures["reasons"], failures["first"][:MOST_FAILURES]
    if not count:
        report.note("Everything could be read.")
        return
    most = max(reasons.values(), default=0) or 1
    rows = [
        BarRow(reason_name(f"unreadable/{reason}"), [("lost", number / most)], [number, format_share(number, count)])
        for reason, number in by_frequency(reasons)
    ]
    rows.append(BarRow("All", values=[as_count(reasons), format_share(as_count(reasons), count)], level=-1))
    report.bars("By reason", ["reason", "entries", "share"], rows)
    for reason, number in by_frequency(reasons):
        entries = [entry for entry in listed if entry["reason"] == reason]
        if not entries:
            continue
        of = f" of {number:,}" if len(entries) < number else ""
        title = f"{reason_name(f'unreadable/{reason}')}: {len(entries):,}{of}"
        with report.fold(title, opened=len(listed) <= FEW_FAILURES):
            table = [[place_of(entry), shortened(str(entry["message"]), 300)] for entry in entries]
            report.table(title, ["where", "what is wrong"], table)
    if len(listed) < count:
        report.note(f"{len(listed):,} of {count:,} are listed here; all of them are in failures.jsonl.")


def marked(text: str, other: str, *, shared: bool) -> Runs:
    """A text in runs, those marked that ``other`` has too (``shared``), or those that it has not.

    A single word in common is chance; two in a row are the least that is marked.
    """
    parts, others = _WORDS.findall(text), _WORDS.findall(other)
    matcher = SequenceMatcher(None, [p.lower() for p in parts], [p.lower() for p in others], autojunk=False)
    same = [False] * len(parts)
    for block in matcher.get_matching_blocks():
        words = sum(not part.isspace() for part in parts[block.a : block.a + block.size])
        if words >= 2 or not shared:
            same[block.a : block.a + block.size] = [True] * block.size
    flags = [s if shared else not s for s in same]
    return list(_merged(parts, flags))


# A Chinese, Japanese or Korean character is a word of its own.
_WORDS = re.compile(
    r"\s+|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\w\s]"
)


def _merged(parts: Sequence[str], flags: Sequence[bool]) -> Iterator[tuple[str, bool]]:
    """Neighbours of one kind as one run; white space alone is never marked at a run's end."""
    run, flag = "", False
    for number, (part, wanted) in enumerate(zip(parts, flags, strict=True)):
        if part.isspace():
            after = number + 1 < len(flags) and flags[number + 1]
            wanted = flag and after
        if wanted != flag and run:
            yield run, flag
            run = ""
        run, flag = run + part, wanted
    if run:
        yield run, flag


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format_number(value) if isinstance(value, (int, float)) else str(value)
