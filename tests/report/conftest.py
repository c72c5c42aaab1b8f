"""A realistic manifest of a data build, with texts as bad as the web's, for the report's and the card's tests."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

Pixels = NDArray[np.float32]
RULES = {
    "too_short": "words < 50",
    "too_long": "words > 100000",
    "odd_word_length": "mean_word_length < 3 or mean_word_length > 10",
    "symbols": "hash_ratio > 0.1 or ellipsis_ratio > 0.1",
    "bullets": "bullet_lines > 0.9",
    "no_stop_words": "stop_words < 2",
    "few_letters": "alphabetic_words < 0.8",
    "repeated_lines": "duplicate_lines > 0.3",
    "repeated_2grams": "top_2gram > 0.2",
    "curly_braces": "braces > 0",
    "lorem_ipsum": "lorem_ipsum > 0",
    "other_language": "language not in ['en', 'de'] or language_confidence < 0.65",
}
LANGUAGES = re.findall(
    r"\w+",
    "en de fr es it nl pt pl sv da fi cs hu ro ru uk el tr ar he "
    "fa hi bn ta th vi id ja ko zh ca eu gl hr sk sl et lv lt no",
)
HOSTILE = (
    "<script>alert('hello')</script><img src=x onerror=alert(1)> & friends",
    "invoice\u202egnp.exe looks like a picture, and the rest of the line runs the other way",
    "A" * 395,
    "NUL \x00 bell \x07 escape \x1b[31mred\x1b[0m delete \x7f next line \x85 end",
    "Family: 👨‍👩‍👧‍👦, flag: 🏴󠁧󠁢󠁥󠁮󠁧󠁿, skin: 👍🏽, and Z̷̢̛̟̦a̸̡̟l̶̨̛g̷̡o̴",
    "مرحبا بالعالم، هذا نص من اليمين إلى اليسار مع English في الوسط.",
    "half a pair \ud800 and the other \udc00",
    "| a | table |\n|---|---|\n`code` ```fence``` [link](javascript:alert(1)) # no heading\n---\nlicense: mit",
    "</style></title></p></details></table>]]><!-- ",
    "{{ 7 * 7 }} {% for x in y %} ${x} %s %d",
)
WEIGHTS = {
    "filter/too_short": 40,
    "filter/few_letters": 14,
    "filter/too_long": 0.2,
    "duplicate/near": 30,
    "duplicate/exact": 22,
}
WEIGHTS |= {"unreadable/archive-bomb": 0.01, "unreadable/not-utf8": 0.5, "unreadable/password": 0.1}
WEIGHTS |= {"contaminated/hellaswag": 0.02, "contaminated/gsm8k": 0.02, "personal-data/secret": 0.02}
SENTENCES = (
    "We shipped the parcel on Monday and the courier has left a note at your door.",
    "The reset link is valid for one hour; please ask for a new one if it has run out.",
    "Our opening hours are from nine to five, except on public holidays.",
    "Click here to accept all cookies and subscribe to our newsletter.",
    "The boiling point of water falls as the pressure of the air above it falls.",
    "Refunds reach your account within five working days of the return.",
    "Die Lieferung verzögert sich leider um zwei Tage, wir bitten um Entschuldigung.",
)


def take_screenshot(page: Path, width: int, height: int = 1400, *, dark: bool = False) -> Pixels:
    """The page as a browser shows it: float32[height, width, 3]."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no chromium here to look at the page with")
    image = page.with_name(f"shot-{width}-{dark}.png")
    theme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    profile = f"--user-data-dir={page.parent / 'profile'}"
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", profile, *theme]
    shot = [f"--screenshot={image}", f"--window-size={width},{height}", page.as_uri()]
    environment = {**os.environ, "HOME": str(page.parent)}
    subprocess.run([browser, *options, *shot], check=True, capture_output=True, timeout=120, env=environment)
    from matplotlib.image import imread

    return imread(image)[:, :, :3]


@pytest.fixture
def screenshot() -> Callable[..., Pixels]:
    """Draws a page in a browser: ``screenshot(path, width, height, dark=...)``."""
    return take_screenshot


@pytest.fixture
def make_manifest() -> Callable[..., dict[str, Any]]:
    """Makes a manifest whose numbers add up: ``make_manifest(seed, sources=..., rules=..., hits=...)``."""
    return build_manifest


def build_manifest(
    seed: int = 1,
    *,
    documents: int = 48_210,
    sources: int = 3,
    rules: int = 8,
    languages: int = 12,
    hits: int = 9,
    hostile: bool = False,
    tokens: bool = True,
) -> dict[str, Any]:
    """A manifest as a build writes it, drawn with a seed."""
    return _Maker(random.Random(seed), hostile).make(documents, sources, rules, languages, hits, tokens)


class _Maker:
    def __init__(self, draw: random.Random, hostile: bool) -> None:
        self.draw = draw
        self.hostile = hostile

    def make(self, documents: int, sources: int, rules: int, languages: int, hits: int, tokens: bool) -> dict[str, Any]:
        self.rules = {**RULES, **{f"rule_{n:02}": f"signal_{n} > 0.{n:02}" for n in range(12, 60)}}
        self.rules = dict(list(self.rules.items())[:rules])
        reasons = self.reasons()
        names = ["support", "web", "handbook", *(f"source-{n}" for n in range(3, sources))][:sources]
        if self.hostile:
            names[-1] = "web | <b>shop</b> \u202e`x`"
        shares = self.parts(documents, len(names), least=1, like=[3, 8, 1, *([1] * sources)])
        by_source = {
            name: self.source(share, reasons, languages, tokens) for name, share in zip(names, shares, strict=True)
        }
        total = _added(by_source.values())
        dropped = total["documents"]["dropped"]
        self.place_names = names
        copies = dropped.get("duplicate/exact", 0), dropped.get("duplicate/near", 0)
        return {
            "format": 1,
            "recipe": self.recipe(names, tokens),
            "documents": total["documents"],
            "bytes": documents * 4_321,
            "splits": total["splits"],
            "sources": by_source,
            "languages": total["languages"],
            "lengths": total["lengths"],
            "duplicates": {
                "clusters": sum(copies) // 2,
                "documents": sum(copies) + sum(copies) // 2,
                "exact": copies[0],
                "near": copies[1],
                "paragraphs": 3_207,
                "examples": [self.cluster(size) for size in (2, 3, 9, 2)],
            },
            "pii": {"email": 4_812, "phone": 1_930, "ip_address": 44, "secret": 3, "card": 0},
            "personal_data": {
                "email": {"found": 4_812, "documents": 3_100, "policy": "mask"},
                "phone": {"found": 1_930, "documents": 1_411, "policy": "replace"},
                "ip_address": {"found": 44, "documents": 40, "policy": "keep"},
                "secret": {"found": 3, "documents": 3, "policy": "drop"},
                "card": {"found": 0, "documents": 0, "policy": "mask"},
            },
            "contamination": self.contamination(hits, dropped),
            "failures": self.failures(dropped),
            "examples": {reason: [self.example(reason) for _ in range(3)] for reason in dropped if self.seen(reason)},
            "rules": self.rules,
            "tokenizer": {"kind": "bpe", "vocab_size": 8192, "bytes_per_token": 4.137} if tokens else None,
        }

    def reasons(self) -> list[str]:
        others = ["unreadable/not-utf8", "unreadable/password", "unreadable/archive-bomb", "personal-data/secret"]
        others += ["contaminated/hellaswag", "contaminated/gsm8k", "duplicate/exact", "duplicate/near"]
        others += ["duplicate/paragraphs", "tokens/too-long"]
        return [f"filter/{name}" for name in list(self.rules)[:-1]] + others

    def seen(self, reason: str) -> bool:
        return not reason.startswith("unreadable/")

    def parts(self, whole: int, count: int, least: int = 0, like: Sequence[float] = ()) -> list[int]:
        """A whole cut into so many parts, about as large as ``like`` says."""
        weights = [(like[n] if like else 1) * self.draw.uniform(0.6, 1) for n in range(count)]
        parts = [least + int((whole - least * count) * weight / sum(weights)) for weight in weights]
        parts[0] += whole - sum(parts)
        return parts

    def spread(self, whole: int, names: list[str], like: Sequence[float] = ()) -> dict[str, int]:
        return {name: part for name, part in zip(names, self.parts(whole, len(names), like=like), strict=True) if part}

    def source(self, read: int, reasons: list[str], languages: int, tokens: bool) -> dict[str, Any]:
        kept = int(read * self.draw.uniform(0.5, 0.8))
        dropped = self.spread(read - kept, reasons, [WEIGHTS.get(reason, 2) for reason in reasons])
        measured = sum(count for reason, count in dropped.items() if not reason.startswith("unreadable/"))
        validation, test = kept // 20, kept // 50
        counts = {"train": kept - validation - test, "validation": validation, "test": test}
        splits = {
            name: {"documents": n, "tokens": n * 912 if tokens else None, "characters": n * 3_801}
            for name, n in counts.items()
        }
        bins = [str(size) for size in range(18)]
        return {
            "documents": {"read": read, "kept": kept, "dropped": dropped},
            "splits": splits,
            "languages": {
                "kept": self.spread(kept, LANGUAGES[:languages], [1 / (n + 1) ** 2.5 for n in range(languages)]),
                "dropped": self.spread(measured, LANGUAGES[:languages], [1 / (n + 1) for n in range(languages)]),
            },
            "lengths": {
                "kept": self.spread(kept, bins[6:16], [1, 12, 40, 80, 60, 30, 14, 6, 2, 1]),
                "dropped": self.spread(measured, bins, [3, 4, 8, 18, 30, 44, 30, 22, 16, 12, 8, 5, 3, 2, 1, 1, 1, 2]),
            },
            "weight": self.draw.choice([1.0, 2.0, 0.5]),
            "epochs": self.draw.choice([None, 4.0]),
        }

    def text(self, sentences: int = 5) -> str:
        if self.hostile and self.draw.random() < 0.7:
            return self.draw.choice(HOSTILE)
        return " ".join(self.draw.choices(SENTENCES, k=sentences))[:400] + "…"

    def place(self) -> dict[str, Any]:
        file = f"mail/2024-{self.draw.randint(1, 12):02}/ticket-{self.draw.randint(1, 9999)}.html"
        if self.hostile:
            file = self.draw.choice([file, "x" * 300 + ".txt", "docs/\u202efdp.exe", "<b>.txt", "a.zip!" + "d/" * 140])
        source = self.draw.choice(self.place_names)
        return {
            "id": f"{self.draw.getrandbits(128):032x}",
            "source": source,
            "file": file,
            "line": self.draw.choice([0, 12]),
        }

    def example(self, reason: str) -> dict[str, Any]:
        shown = {"words": self.draw.randint(0, 49), "mean_word_length": 4.5312, "language": "en", "spam": True}
        return {**self.place(), "shown": shown if reason.startswith("filter/") else {}, "excerpt": self.text()}

    def cluster(self, size: int) -> dict[str, Any]:
        text = self.text()
        kept = {**self.place(), "kept": True, "jaccard": None, "excerpt": text}
        changed = text.replace("parcel", "package").replace("five", "seven") + " Sent from my phone."
        copies = [{**self.place(), "kept": False, "jaccard": 0.9312, "excerpt": changed} for _ in range(size - 1)]
        return {"cluster": kept["id"], "size": size, "documents": [*copies[:3], kept]}

    def contamination(self, hits: int, dropped: dict[str, int]) -> dict[str, Any]:
        found = [self.hit(number) for number in range(hits)]
        sets = {}
        for name, items in (("hellaswag", 10_042), ("gsm8k", 1_319), ("mmlu", 14_042)):
            of_set = [hit for hit in found if hit["set"] == name]
            # A document with a hit may have been dropped for an earlier reason, so that fewer are dropped for the set.
            sets[name] = {"items": items, "unchecked": items // 90, "hits": len(of_set), "documents": len(of_set)}
            for hit in of_set[: dropped.get(f"contaminated/{name}", 0)]:
                hit["dropped"] = True
        return {"sets": sets, "hits": found[:200]}

    def hit(self, number: int) -> dict[str, Any]:
        item = (
            "A train leaves the station at nine and travels at 80 miles an hour. How far has it gone by noon? 240 miles"
        )
        matched = (
            "Homework: a train leaves the station at nine and travels at 80 miles an hour, so by noon it has gone "
        )
        matched += f"240 miles. {self.text(1)}"
        where = self.place()
        document = where.pop("id")
        return {
            "set": ("hellaswag", "gsm8k")[number % 2],
            "item": str(number) if not self.hostile else f"{number}<i>",
            "document": document,
            **where,
            "score": round(self.draw.uniform(0.6, 1), 4),
            "matched": matched if not self.hostile else self.text() + matched,
            "item_text": item,
            "dropped": number % 7 != 3,
        }

    def failures(self, dropped: dict[str, int]) -> dict[str, Any]:
        prefix = "unreadable/"
        reasons = {reason.removeprefix(prefix): n for reason, n in dropped.items() if reason.startswith(prefix)}
        entries = []
        for number in range(min(100, sum(reasons.values()))):
            where = self.place()
            del where["id"]
            message = "this is not UTF-8 text: byte 0xe9 at position 1,204"
            message += f" near {self.text()}" if self.hostile else ""
            entries.append({**where, "reason": list(reasons)[number % len(reasons)], "message": message})
        return {"count": sum(reasons.values()), "reasons": reasons, "first": entries}

    def recipe(self, names: list[str], tokens: bool) -> dict[str, Any]:
        return {
            "sources": [
                {"name": name, "path": f"data/{number}", "sql": None, "weight": 1.0}
                for number, name in enumerate(names)
            ],
            "limits": {"max_document_bytes": 67_108_864, "seconds": 30.0},
            "filters": {"presets": ["web"], "rules": self.rules},
            "personal_data": {
                "policy": {"phone": "replace"},
                "names": False,
                "addresses": False,
                "regions": ["US", "DE"],
            },
            "duplicates": {"exact": True, "near": 0.8, "ngram": 5, "paragraphs": {"min_words": 20, "max_documents": 3}},
            "decontaminate": {
                "sets": [
                    {"name": "hellaswag", "path": "eval/hellaswag.jsonl"},
                    {"name": "gsm8k", "path": "eval/gsm8k.jsonl"},
                ],
                "action": "drop",
                "threshold": 0.6,
            },
            "split": {"validation": 0.05, "test": 0.02, "salt": "ownlm", "group": True},
            "tokenizer": {"kind": "bpe", "vocab_size": 8192} if tokens else None,
        }


def _added(values: Any) -> Any:
    """The sums of nested counts."""
    values = list(values)
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {
            key: _added([value[key] for value in values if key in value])
            for key in keys
            if key not in ("weight", "epochs")
        }
    return None if None in values else sum(values)
