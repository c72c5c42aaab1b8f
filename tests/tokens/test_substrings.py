"""The substrings of words against all of them, counted one by one."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ownlm.tokens.lattice import Edges
from ownlm.tokens.substrings import LONGEST_PIECE, Pieces, find_pieces

counted_words = st.dictionaries(st.text("abé▁", min_size=1, max_size=20), st.integers(1, 3), min_size=1, max_size=8)


def pieces_of(counts: dict[str, int], most: int = 10**6) -> tuple[Pieces, list[str], np.ndarray]:
    words = sorted(counts, key=lambda word: (-len(word), word))
    return (
        find_pieces(words, np.array([float(counts[word]) for word in words]), most),
        words,
        np.array(list(map(len, words))),
    )


def brute_force(counts: dict[str, int]) -> dict[str, int]:
    """Characters, and repeated substrings that different characters or a word's end follow, with their counts."""
    times: Counter[str] = Counter()
    followers: dict[str, set[object]] = defaultdict(set)
    for number, (word, count) in enumerate(counts.items()):
        for begin in range(len(word)):
            for end in range(begin + 1, min(len(word), begin + LONGEST_PIECE) + 1):
                times[word[begin:end]] += count
                # A word's end is different each time: what ends words is a piece whatever else follows it.
                followers[word[begin:end]].add(word[end] if end < len(word) else ("end", number, begin))
    return {
        piece: count
        for piece, count in times.items()
        if len(piece) == 1
        or (count >= 2 and (len(followers[piece]) > 1 or any(isinstance(f, tuple) for f in followers[piece])))
    }


@given(counted_words)
def test_they_are_the_repeated_ones_that_are_followed_by_different_characters(counts: dict[str, int]) -> None:
    pieces, _, _ = pieces_of(counts)
    texts = pieces.texts(np.arange(len(pieces.begin)))
    weights = {text: weight / len(text) for text, weight in zip(texts, pieces.weight.tolist(), strict=True)}
    assert weights == brute_force(counts)
    assert texts[: pieces.characters] == sorted({character for word in counts for character in word})


def rows(edges: Edges, texts: list[str]) -> set[tuple[int, int, str]]:
    assert [column.dtype.name for column in edges] == ["int32", "int16", "int8", "int32"]
    listed = [
        (word, end - length, texts[piece])
        for word, end, length, piece in zip(*(column.tolist() for column in edges), strict=True)
    ]
    assert len(set(listed)) == len(listed)
    return set(listed)


def places(words: list[str], texts: set[str]) -> set[tuple[int, int, str]]:
    return {
        (number, begin, word[begin:end])
        for number, word in enumerate(words)
        for begin in range(len(word))
        for end in range(begin + 1, len(word) + 1)
        if word[begin:end] in texts
    }


@given(counted_words)
def test_every_place_of_every_piece_is_found(counts: dict[str, int]) -> None:
    pieces, words, lengths = pieces_of(counts)
    texts = pieces.texts(np.arange(len(pieces.begin)))
    assert rows(pieces.in_words(lengths), texts) == places(words, set(texts))
    chosen = np.argsort(-pieces.length, kind="stable")
    longest_first = [texts[number] for number in chosen]
    inside = {row for row in places(longest_first, set(texts)) if row[2] != longest_first[row[0]]}
    assert rows(pieces.in_pieces(chosen), texts) == inside


def test_the_heaviest_are_kept() -> None:
    counts = {"abcab": 5, "xy": 4, "xz": 3, "hello": 2}
    pieces, _, _ = pieces_of(counts)
    order = np.argsort(-pieces.weight[pieces.characters :], kind="stable")[:3] + pieces.characters
    fewer, _, lengths = pieces_of(counts, most=3)
    texts = fewer.texts(np.arange(len(fewer.begin)))
    assert texts[fewer.characters :] == pieces.texts(np.sort(order)) == ["ab", "bcab", "abcab"]
    assert {text for _, _, text in rows(fewer.in_words(lengths), texts)} == set(texts)


def test_one_character_has_itself() -> None:
    pieces, _, lengths = pieces_of({"a": 1})
    assert pieces.texts(np.arange(1)) == ["a"] and pieces.characters == 1
    assert rows(pieces.in_words(lengths), ["a"]) == {(0, 0, "a")}
    assert rows(pieces.in_pieces(np.zeros(0, np.int64)), ["a"]) == set()
