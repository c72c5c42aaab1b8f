"""Real prose in any amount: the PEPs, and copies of them edited by a seed so that few are near-duplicates."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from measure import PEERS

PEPS = PEERS.parent / "data" / "peps"


def documents(megabytes: float, seed: int = 0) -> Iterator[str]:
    """Texts of that many million bytes in all: the PEPs as they are, then copies with words and paragraphs changed."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(PEPS.glob("*.rst"))]
    vocabulary = sorted({word for text in texts[::10] for word in text.split() if word.isalpha()})
    draw = random.Random(seed)
    left = megabytes * 1e6
    first = True
    while left > 0:
        for text in texts:
            edited = text if first else edit(text, vocabulary, draw)
            yield edited
            left -= len(edited.encode())
            if left <= 0:
                return
        first = False


def edit(text: str, vocabulary: list[str], draw: random.Random) -> str:
    """The text with one word in eight replaced, and its paragraphs in another order."""
    paragraphs = text.split("\n\n")
    draw.shuffle(paragraphs)
    edited = []
    for paragraph in paragraphs:
        lines = [
            [draw.choice(vocabulary) if draw.random() < 0.12 else w for w in line.split(" ")]
            for line in paragraph.split("\n")
        ]
        edited.append("\n".join(" ".join(words) for words in lines))
    return "\n\n".join(edited)


def write_json_lines(path: Path, megabytes: float, seed: int = 0) -> int:
    """The documents as JSON Lines; returns the bytes of their texts."""
    size = 0
    with path.open("w", encoding="utf-8") as file:
        for text in documents(megabytes, seed):
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            size += len(text.encode())
    return size
