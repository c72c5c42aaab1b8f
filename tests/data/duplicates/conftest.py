"""Fingerprint files, and brute force to compare with."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from ownlm.data.duplicates import DuplicateOptions, fingerprint, schema

Write = Callable[..., list[Path]]
Sets = Callable[..., list[set[tuple[str, ...]]]]
Near = Callable[..., dict[tuple[int, int], float]]


def _write(folder: Path, texts: Sequence[str], options: DuplicateOptions, shard: int = 50) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for start in range(0, len(texts), shard):
        part = texts[start : start + shard]
        paths.append(folder / f"{start:06}.arrow")
        with pa.OSFile(str(paths[-1]), "wb") as sink, pa.ipc.new_file(sink, schema(options)) as writer:
            # Two batches a file.
            for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                writer.write_batch(fingerprint(pa.array(half, pa.large_string()), options))
    return paths


def _sets(texts: Sequence[str], ngram: int = 5) -> list[set[tuple[str, ...]]]:
    found = []
    for text in texts:
        words = re.findall(r"[^\W_]+", text.lower())
        runs = {tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)}
        found.append(runs or ({tuple(words)} if words else set()))
    return found


def _near(sets: list[set[tuple[str, ...]]], threshold: float = 0.8) -> dict[tuple[int, int], float]:
    found = {}
    for i, a in enumerate(sets):
        for j in range(i):
            b = sets[j]
            if a and b and min(len(a), len(b)) >= 0.49 * max(len(a), len(b)):
                index = len(a & b) / len(a | b)
                if index >= threshold:
                    found[j, i] = index
    return found


@pytest.fixture(scope="session")
def write_shards() -> Write:
    """Writes texts as fingerprint files of some documents each."""
    return _write


@pytest.fixture(scope="session")
def sets_of() -> Sets:
    """The sets of word n-grams of ASCII texts, in plain Python."""
    return _sets


@pytest.fixture(scope="session")
def near_of() -> Near:
    """Every pair with a Jaccard index at or above the threshold, by comparing all."""
    return _near


@pytest.fixture(scope="session")
def edited(shared_data: Path) -> list[str]:
    """Real texts with seeded copies: words replaced, left out and put in, ends cut off, paragraphs in another order."""
    draw = random.Random(11)
    sources = [path.read_text(encoding="utf-8") for path in sorted((shared_data / "peps").glob("*.rst"))[::14]]
    wiki = (shared_data / "wikitext2" / "wiki.valid.tokens").read_text(encoding="utf-8").split("\n")
    sources += [line for line in wiki if len(line) > 400][::16]
    words = sorted({word for text in sources for word in text.split() if word.isascii() and word.isalpha()})
    texts = []
    for source in sources:
        base = re.sub(r"[^\x00-\x7f]", "", source)[: draw.randint(300, 9000)]
        texts.append(base)
        for _ in range(draw.randint(0, 6)):
            texts.append(_edit(base, words, draw))
    texts += ["", "!!!", "...", "one two", "One, two!", "  !!!\n"]
    draw.shuffle(texts)
    return texts


def _edit(text: str, words: list[str], draw: random.Random) -> str:
    kind = draw.choice(["words", "words", "drop", "add", "cut", "order", "space", "case"])
    pieces = text.split(" ")
    rate = draw.choice([0.002, 0.005, 0.01, 0.02, 0.04, 0.08])
    if kind == "words":
        return " ".join(draw.choice(words) if draw.random() < rate else piece for piece in pieces)
    if kind == "drop":
        return " ".join(piece for piece in pieces if draw.random() > rate)
    if kind == "add":
        return " ".join(f"{piece} {draw.choice(words)}" if draw.random() < rate else piece for piece in pieces)
    if kind == "cut":
        return " ".join(pieces[: int(len(pieces) * draw.uniform(0.6, 1.0))])
    if kind == "order":
        paragraphs = text.split("\n\n")
        draw.shuffle(paragraphs)
        return "\n\n".join(paragraphs)
    if kind == "space":
        return text.replace(" ", "\n ") + "\n"
    return text.upper()
