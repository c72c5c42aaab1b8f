"""A task of questions that no two texts share by chance, and documents to plant them in."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from ownlm.evaluate.kinds.choice import ChoiceTask
from ownlm.evaluate.seen.datasets import Document
from ownlm.evaluate.task import Item

SYLLABLES = ["ka", "mi", "no", "ta", "re", "lo", "su", "pe", "vi", "da", "go", "fu", "zi", "ba", "ne"]


def made_up(draw: random.Random, count: int) -> list[str]:
    """Words that stand in no dictionary, so that each tells much."""
    return ["".join(draw.choices(SYLLABLES, k=draw.randint(3, 4))) for _ in range(count)]


@pytest.fixture(scope="session", name="made_up")
def made_up_words() -> Callable[[random.Random, int], list[str]]:
    """``made_up``."""
    return made_up


@pytest.fixture(scope="session")
def task() -> ChoiceTask:
    """Multiple choice, whose template says the same around every question."""
    return ChoiceTask(
        name="riddles",
        data="riddles.jsonl",
        prompt="Read the following question with great care and choose the right answer.\nQuestion: {{ q }}\nAnswer:",
        choices="{{ options }}",
        answer="{{ gold }}",
    )


@pytest.fixture(scope="session")
def make_items() -> Callable[[int], list[Item]]:
    """So many items, drawn with a seed."""

    def make(count: int, seed: int = 0) -> list[Item]:
        draw = random.Random(seed)
        rows = [
            {
                "q": "Why did the " + " ".join(made_up(draw, 9)) + "?",
                "options": [" ".join(made_up(draw, 3)) for _ in range(3)],
                "gold": draw.randrange(3),
            }
            for _ in range(count)
        ]
        return [Item(row, f"riddles.jsonl:{number}") for number, row in enumerate(rows, 1)]

    return make


@pytest.fixture(scope="session")
def documents_of() -> Callable[[Sequence[str]], list[Document]]:
    """Texts as documents."""
    return lambda texts: [
        Document(f"id{number}", f"train.jsonl:{number}", text) for number, text in enumerate(texts, 1)
    ]
