"""Repeated paragraphs against counting them in a dictionary."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.duplicates import DuplicateOptions, ParagraphOptions, find_repeated_paragraphs, paragraphs


@pytest.mark.parametrize("together", [1, 10**6])
@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    st.lists(st.lists(st.sampled_from(["a", "a b", "A b!", "c d", "e f"]), max_size=4), min_size=1, max_size=8),
    st.integers(1, 3),
    st.randoms(use_true_random=False),
)
def test_one_copy_stays(write_shards: Any, together: int, documents: list[list[str]], most: int, draw: Any) -> None:
    options = DuplicateOptions(near=None, paragraphs=ParagraphOptions(min_words=2, max_documents=most))
    # A last line keeps the blank lines that divide.
    texts = ["\n\n".join([*one, "z"]) for one in documents]
    ranks = np.array(draw.sample(range(len(texts)), len(texts)))
    kept = np.array([draw.random() < 0.8 for _ in texts])
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(paragraphs, "_TOGETHER", together)
        cuts = find_repeated_paragraphs(write_shards(Path(folder), texts, options, 3), options, kept, ranks)
    holders: dict[str, set[int]] = {}
    for document in np.flatnonzero(kept).tolist():
        for piece in documents[document]:
            holders.setdefault(piece.lower().strip("!"), set()).add(document)
    expected = []
    for document in np.flatnonzero(kept).tolist():
        seen, place = set(), 0
        for piece in documents[document]:
            name = piece.lower().strip("!")
            common = len(holders[name]) > most and document != min(holders[name], key=lambda d: ranks[d])
            if " " in piece and (name in seen or common):
                expected.append((document, place, place + len(piece) + 2))
            seen.add(name)
            place += len(piece) + 2
    assert list(zip(cuts.documents.tolist(), cuts.starts.tolist(), cuts.ends.tolist(), strict=True)) == expected


def test_without_paragraphs_there_is_nothing_to_look_for() -> None:
    with pytest.raises(ValueError, match="paragraphs"):
        find_repeated_paragraphs([], DuplicateOptions(), np.zeros(0, bool), np.zeros(0, np.int64))
    cuts = find_repeated_paragraphs(
        [], DuplicateOptions(paragraphs=ParagraphOptions()), np.zeros(0, bool), np.zeros(0, np.int64)
    )
    assert len(cuts.documents) == 0
