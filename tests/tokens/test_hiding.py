"""Hidden tokens: which are chosen, and what they become."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.tokens.batch import Batch
from ownlm.tokens.hiding import Hiding
from ownlm.tokens.tokenizer import Tokenizer
from ownlm.tokens.vocabulary import Vocabulary

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES += ["al", "##pha", "be", "##ta", "##s", "river", "house", "tree", "moon", "reads", "##ing", "a", "the"]
CLS, SEP, MASK = 2, 3, 4


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    pieces = {piece: number for number, piece in enumerate(PIECES)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token="[UNK]"))
    backend.add_special_tokens(PIECES[:5])
    return Vocabulary.of(Tokenizer(backend, names={"mask_token": "[MASK]"}))


def batch_of(documents: list[list[int]], pieces: list[int]) -> Batch:
    starts = np.cumsum([0, *map(len, documents)]).tolist()
    tokens = torch.tensor([token for document in documents for token in document])
    positions = torch.cat([torch.arange(len(document)) for document in documents])
    ones = torch.ones(len(tokens))
    return Batch(tokens, positions, tuple(starts), tokens.roll(-1), ones, tuple(pieces))


def hiding(vocabulary: Vocabulary, **changes: Any) -> Hiding:
    usual: dict[str, Any] = {"share": 0.15, "replace": (0.8, 0.1, 0.1), "whole_words": False}
    return Hiding(vocabulary, MASK, **usual | changes)


words = st.lists(st.integers(5, len(PIECES) - 1), min_size=1, max_size=40)
documents = st.lists(words.map(lambda ids: [CLS, *ids, SEP]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=100)
@given(documents, st.floats(0.01, 0.99), st.booleans(), st.integers(0, 10**6))
def test_each_document_hides_its_share_and_nothing_special(
    vocabulary: Vocabulary, rows: list[list[int]], share: float, whole: bool, step: int
) -> None:
    batch = batch_of(rows, list(range(len(rows))))
    hidden, chosen = hiding(vocabulary, share=share, whole_words=whole).hide(batch, (7, step))
    tokens = batch.tokens.numpy()
    assert (hidden[~chosen] == tokens[~chosen]).all()
    assert not chosen[tokens < 5].any() and not (np.isin(hidden, [0, 1, 2, 3]) & chosen).any()
    for row, (a, b) in zip(rows, zip(batch.document_starts, batch.document_starts[1:], strict=False), strict=True):
        wanted = max(1, round(share * (len(row) - 2)))
        told = int(chosen[a:b].sum())
        if not whole:
            assert told == wanted
            continue
        # By brute force: a word is a piece and the "##" pieces after it.
        groups: list[list[int]] = []
        for place in range(1, len(row) - 1):
            follows = PIECES[row[place]].startswith("##") and groups and groups[-1][-1] == place - 1
            groups[-1].append(place) if follows else groups.append([place])
        for group in groups:
            assert len({bool(chosen[a + place]) for place in group}) == 1
        assert wanted <= told < wanted + max(map(len, groups))


@settings(deadline=None, max_examples=50)
@given(documents, st.booleans(), st.randoms(use_true_random=False))
def test_what_is_hidden_does_not_depend_on_the_packing(
    vocabulary: Vocabulary, rows: list[list[int]], whole: bool, random: Any
) -> None:
    order, how = list(range(len(rows))), hiding(vocabulary, whole_words=whole)
    together = how.hide(batch_of(rows, order), (1, 3))
    random.shuffle(order)
    shuffled = batch_of([rows[i] for i in order], order)
    again = how.hide(shuffled, (1, 3))
    starts = np.cumsum([0, *map(len, rows)])
    for place, i in enumerate(order):
        a, b = shuffled.document_starts[place], shuffled.document_starts[place + 1]
        for found, expected in zip(again, together, strict=True):
            assert (found[a:b] == expected[starts[i] : starts[i + 1]]).all()


@pytest.mark.parametrize("replace", [(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_replacements_come_in_their_shares(vocabulary: Vocabulary, replace: tuple[float, float, float]) -> None:
    rows = [[CLS, *([5 + i % 13 for i in range(200)]), SEP] for _ in range(300)]
    batch = batch_of(rows, list(range(300)))
    hidden, chosen = hiding(vocabulary, replace=replace).hide(batch, (0, 1))
    tokens, n = batch.tokens.numpy(), int(chosen.sum())
    assert n == 300 * 30

    def near(found: float, expected: float) -> None:
        # Four standard deviations of a binomial.
        assert found == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5)

    masked, other, kept = replace
    near((hidden[chosen] == MASK).mean(), masked)
    # A random token is the same one in 13 times.
    near((hidden[chosen] == tokens[chosen]).mean(), kept + other / 13)
    if other:
        counts = np.bincount(hidden[chosen & (hidden != MASK) & (hidden != tokens)], minlength=len(PIECES))[5:]
        expected = counts.sum() / 13
        assert abs(counts - expected).max() < 5 * expected**0.5


def test_every_place_is_as_likely_in_every_turn_and_independent_of_others(vocabulary: Vocabulary) -> None:
    batch = batch_of([[CLS, *([5 + i % 13 for i in range(40)]), SEP]], [17])
    turns = [hiding(vocabulary).hide(batch, (5, turn))[1][1:-1] for turn in range(2000)]
    counts = np.sum(turns, axis=0)
    # Six of forty in each turn.
    assert abs(counts - 300).max() < 5 * (300 * 0.85) ** 0.5
    # Two places are chosen together as often as drawing six without putting back gives.
    pairs = np.array(turns, float).T @ np.array(turns, float)
    apart = pairs[~np.eye(40, dtype=bool)]
    expected = 2000 * (6 * 5) / (40 * 39)
    assert abs(apart - expected).max() < 6 * expected**0.5
    others = [hiding(vocabulary).hide(batch_of([batch.tokens.tolist()], [piece]), (5, 0))[1] for piece in range(200)]
    assert len({tuple(row.tolist()) for row in others}) > 190


def test_draws_are_the_same_on_every_machine(vocabulary: Vocabulary) -> None:
    # Written down once; a change would break resuming runs that were started before it.
    batch = batch_of([[CLS, *range(5, 18), SEP], [CLS, *range(17, 4, -1), SEP]], [3, 11])
    hidden, chosen = hiding(vocabulary, share=0.5, replace=(0.4, 0.4, 0.2)).hide(batch, (1, 2))
    assert np.flatnonzero(chosen).tolist() == [3, 5, 8, 10, 11, 13, 18, 20, 22, 23, 25, 26]
    assert hidden[chosen].tolist() == [4, 4, 4, 16, 4, 4, 10, 14, 11, 13, 4, 4]


def test_a_batch_with_nothing_to_hide(vocabulary: Vocabulary) -> None:
    batch = batch_of([[CLS, SEP], [CLS, 1, SEP]], [0, 1])
    hidden, chosen = hiding(vocabulary).hide(batch, (0, 0))
    assert hidden.tolist() == batch.tokens.tolist() and not chosen.any()
    mixed = batch_of([[CLS, SEP], [CLS, 6, SEP], [CLS, SEP]], [0, 1, 2])
    assert hiding(vocabulary, share=0.01).hide(mixed, (0, 0))[1].tolist() == [False] * 3 + [True] + [False] * 3
