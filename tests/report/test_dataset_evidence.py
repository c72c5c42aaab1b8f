"""The report's evidence: what is marked in two texts that stand side by side."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ownlm.report.dataset_evidence import marked


def test_what_two_texts_share_is_marked():
    runs = marked("He said: the capital of France is Paris.", "What is the capital of France? Paris", shared=True)
    assert [text for text, wanted in runs if wanted] == ["the capital of France"]
    assert "".join(text for text, _ in runs) == "He said: the capital of France is Paris."
    runs = marked("the red fox ran far", "The brown fox ran", shared=False)
    assert runs == [("the ", False), ("red", True), (" fox ran ", False), ("far", True)]
    assert marked("法国的首都是巴黎", "首都是哪里", shared=True) == [
        ("法国的", False),
        ("首都是", True),
        ("巴黎", False),
    ]
    assert marked("", "anything", shared=True) == []


@given(st.text(), st.text(), st.booleans())
def test_marking_changes_no_text(text: str, other: str, shared: bool):
    runs = marked(text, other, shared=shared)
    assert "".join(run for run, _ in runs) == text
    assert all(run for run, _ in runs)
    assert all(before != after for (_, before), (_, after) in pairwise(runs))


@given(st.text())
def test_a_text_differs_in_nothing_from_itself(text: str):
    assert not any(wanted for _, wanted in marked(text, text, shared=False))
