"""A small index serves most of these tests; what they share lies beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ownlm.data.contamination.index import EvaluationIndex
from ownlm.data.contamination.sets import Item

sys.path.insert(0, str(Path(__file__).parent))

from contamination_samples import METAL, PASSAGE, TOWER


@pytest.fixture(scope="session")
def items() -> list[Item]:
    """A multiple-choice question, a reading question, a text of its own and two that cannot be checked."""
    return [
        Item("school", "7", METAL, ("mercury",), choices=("iron", "mercury", "copper", "zinc"), letter="b"),
        Item("reading", "a1", TOWER, ("1889", "in 1889"), PASSAGE),
        Item("held-out", "3", "The lighthouse keeper counted nineteen herons on the frozen estuary before breakfast."),
        Item("school", "8", "Why?", ("because",)),
        Item("school", "9", "What is it of?", ("it",)),
    ]


@pytest.fixture(scope="session")
def index(items: list[Item]) -> EvaluationIndex:
    return EvaluationIndex.build(items)
