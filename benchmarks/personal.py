"""Personal data: F1 on labelled texts, hits on clean paragraphs, and MB/s a core; a peer's recognizers beside them.

    python benchmarks/personal.py
    python benchmarks/personal.py --peer PRESIDIO/bin/python

A label and a find of its kind that overlap are a hit; ``strict`` counts the finds with the very same ends. The rules were
tuned on the even rows; the values labelled in the odd ones had been read before. The clean paragraphs are 5,000 from
WikiText-2, the Python proposals and a blog, of at least 100 characters, in the order of their SHA-256; those with an @
between letters are left out.
The peer is presidio-analyzer: its pattern recognizers for the same kinds, with the scores that they give by themselves.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"
LABELS = {
    "EMAIL_ADDRESS": "email",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip_address",
    "PHONE_NUMBER": "phone",
    "US_SSN": "national_id",
    "STREET_ADDRESS": "address",
    "PERSON": "person",
}
# One span: kind, start, end.
Spans = list[tuple[str, int, int]]
Find = Callable[[list[str], bool], list[Spans]]


def labelled() -> list[dict[str, Any]]:
    return json.loads((DATA / "pii" / "synth_dataset_v2.json").read_text())


def clean_paragraphs(count: int = 5000) -> list[str]:
    """Paragraphs of prose without an e-mail address, always the same ones."""
    files = [*DATA.glob("wikitext2/wiki.*"), *DATA.glob("peps/*.rst"), *DATA.glob("brand_voice_18f/*/*.md")]
    paragraphs = {part.strip() for file in files for part in re.split(r"\n\s*\n", file.read_text())}
    clean = [part for part in paragraphs if len(part) >= 100 and not re.search(r"\w@\w", part)]
    return sorted(clean, key=lambda part: hashlib.sha256(part.encode()).digest())[:count]


def ours(texts: list[str], everything: bool) -> list[Spans]:
    import pyarrow as pa

    from ownlm.data.personal.find import find_spans, spans_by_document
    from ownlm.data.personal.options import PersonalOptions

    options = PersonalOptions(names=everything, addresses=everything)
    spans = spans_by_document(find_spans(pa.array(texts, pa.large_string()), options))
    return [[(span.kind, span.start, span.end) for span in spans.get(i, [])] for i in range(len(texts))]


def theirs(texts: list[str], everything: bool) -> list[Spans]:
    import presidio_analyzer.predefined_recognizers as recognizers

    names = [
        "EmailRecognizer",
        "CreditCardRecognizer",
        "IbanRecognizer",
        "IpRecognizer",
        "PhoneRecognizer",
        "UsSsnRecognizer",
    ]
    chosen = [getattr(recognizers, name)() for name in names]
    result = []
    for text in texts:
        found = [
            r for each in chosen for r in each.analyze(text, each.supported_entities, None) or [] if r.score >= 0.4
        ]
        result.append([(LABELS[r.entity_type], r.start, r.end) for r in found if r.entity_type in LABELS])
    return result


def quality(find: Find) -> dict[str, Any]:
    """F1, precision and recall of each kind on each half, and what was found where nothing is labelled."""
    rows = labelled()
    found = find([row["full_text"] for row in rows], True)
    report: dict[str, Any] = {}
    false_finds = []
    for half, name in enumerate(("even_rows", "odd_rows")):
        for kind in LABELS.values():
            hits = labels = false = strict = 0
            for row, spans in list(zip(rows, found, strict=True))[half::2]:
                gold = [s for s in row["spans"] if LABELS.get(s["entity_type"]) == kind]
                gold = [(s["start_position"], s["end_position"]) for s in gold]
                got = [(start, end) for spotted, start, end in spans if spotted == kind]
                labels += len(gold)
                strict += len(set(gold) & set(got))
                hits += sum(any(a < end and start < b for a, b in got) for start, end in gold)
                wrong = [(a, b) for a, b in got if not any(a < end and start < b for start, end in gold)]
                false += len(wrong)
                if kind not in ("address", "person"):
                    false_finds += [f"{kind}: {row['full_text'][a:b]}" for a, b in wrong]
            f1 = 2 * hits / (hits + false + labels) if hits else 0.0
            row_of_kind = {"f1": round(f1, 3), "labels": labels, "hits": hits, "strict": strict, "false": false}
            report.setdefault(kind, {})[name] = row_of_kind
    return {"kinds": report, "false_finds": sorted(false_finds)[:20], "false_finds_in_all": len(false_finds)}


def clean(find: Find) -> dict[str, Any]:
    paragraphs = clean_paragraphs()
    found = [
        f"{kind}: {part[start:end]}"
        for part, spans in zip(paragraphs, find(paragraphs, False), strict=True)
        for kind, start, end in spans
    ]
    per_thousand = round(1000 * len(found) / len(paragraphs), 2)
    return {"paragraphs": len(paragraphs), "hits_per_thousand": per_thousand, "hits": found[:20]}


def speed(find: Find, megabytes: float) -> dict[str, float]:
    """MB/s of CPU time, on whole documents and on the labelled texts, which are short and full of personal data."""
    documents = [file.read_text() for file in sorted(DATA.glob("peps/*.rst"))]
    short = [row["full_text"] for row in labelled()]
    rates = {}
    for name, texts in (("documents", documents), ("dense", short * 8)):
        kept, size = [], 0
        for text in texts:
            if size > megabytes * 1e6:
                break
            kept.append(text)
            size += len(text.encode())
        find(kept[:3], False)
        best = 0.0
        for _ in range(3 if find is ours else 1):
            began = time.process_time()
            # Batches of 4 MB, as the pipeline has.
            step = max(1, len(kept) * 4_000_000 // max(size, 1))
            for i in range(0, len(kept), step):
                find(kept[i : i + step], False)
            best = max(best, size / 1e6 / (time.process_time() - began))
        rates[name] = round(best, 2)
    return rates


def measure(find: Find, megabytes: float) -> dict[str, Any]:
    return {**quality(find), "clean": clean(find), "megabytes_per_cpu_second": speed(find, megabytes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with presidio-analyzer")
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.as_peer:
        print(json.dumps(measure(theirs, 0.3)))
        return
    result: dict[str, Any] = {"benchmark": "personal", "ownlm": measure(ours, 12)}
    if arguments.peer:
        command = [arguments.peer, __file__, "--as-peer"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True, check=True)
        result["presidio"] = json.loads(done.stdout.strip().split("\n")[-1])
        speeds = [result[who]["megabytes_per_cpu_second"]["documents"] for who in ("ownlm", "presidio")]
        result["times_as_fast"] = round(speeds[0] / speeds[1], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
