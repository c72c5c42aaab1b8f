"""Unigram vocabularies: the same steps by brute force, and the library's trainer beside them."""

from __future__ import annotations

import csv
import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ownlm.tokens import unigram
from ownlm.tokens.substrings import LONGEST_PIECE
from ownlm.tokens.train_bpe import bytes_per_token, train_tokenizer
from ownlm.tokens.unigram import train_unigram

Scores = dict[str, float]


def words_of(seed: int) -> dict[str, int]:
    draw = random.Random(seed)
    stems = ["".join(draw.choices("abcd", k=draw.randint(2, 4))) for _ in range(6)]
    return Counter("".join(draw.choices(stems, k=draw.randint(1, 2))) for _ in range(60))


def digamma(value: float) -> float:
    """As the difference of the logarithm of the gamma function over a small step."""
    step = 1e-4 * max(1.0, value)
    return (math.lgamma(value + step) - math.lgamma(value - step)) / (2 * step)


def ways(word: str, pieces: Scores) -> list[list[str]]:
    found = []
    for places in itertools.product([False, True], repeat=len(word) - 1):
        bounds = [0, *(i + 1 for i, cut in enumerate(places) if cut), len(word)]
        way = [word[begin:end] for begin, end in itertools.pairwise(bounds)]
        if all(piece in pieces for piece in way):
            found.append(way)
    return found


def total(way: list[str], scores: Scores) -> float:
    return sum(scores[piece] for piece in way)


def seeds(counts: dict[str, int]) -> Scores:
    times: Counter[str] = Counter()
    longer: dict[str, Counter[str]] = {}
    for word, count in counts.items():
        for begin, end in itertools.combinations(range(len(word) + 1), 2):
            times[word[begin:end]] += count
            if end < len(word):
                longer.setdefault(word[begin:end], Counter())[word[end]] += count
    chosen = {
        piece: float(count * len(piece))
        for piece, count in times.items()
        if len(piece) == 1 or (count > 1 and max(longer.get(piece, {"": 0}).values()) < count)
    }
    return {piece: math.log(weight / sum(chosen.values())) for piece, weight in chosen.items()}


def estimated(scores: Scores, counts: dict[str, int]) -> Scores:
    expected: Counter[str] = Counter()
    for word, times in counts.items():
        all_ways = ways(word, scores)
        chances = [math.exp(total(way, scores)) for way in all_ways]
        for way, chance in zip(all_ways, chances, strict=True):
            for piece in way:
                expected[piece] += times * chance / sum(chances)
    kept = {p: max(expected[p], 0.5) for p in scores if len(p) == 1 or expected[p] >= 0.5}
    return {piece: digamma(count) - digamma(sum(kept.values())) for piece, count in kept.items()}


def worth(scores: Scores, counts: dict[str, int]) -> Scores:
    """What the text loses with each piece that has another way to be written and is used."""
    used: Counter[str] = Counter()
    for word, times in counts.items():
        for piece in max(ways(word, scores), key=lambda way: total(way, scores)):
            used[piece] += times
    lost = {}
    for piece in (piece for piece in scores if len(piece) > 1 and used[piece]):
        others = max((w for w in ways(piece, scores) if w != [piece]), key=lambda way: total(way, scores))
        if total(others, scores) > scores[piece]:
            continue
        own, tokens = used[piece], sum(used.values())
        after = tokens + own * (len(others) - 1)
        likelihood = sum(math.log((used[other] + own) / after) for other in others)
        lost[piece] = own * (math.log(own / tokens) - likelihood + len(others) - 1)
    return lost


def reference(counts: dict[str, int], size: int) -> Scores:
    scores = seeds(counts)
    characters = {piece for piece in scores if len(piece) == 1}
    wanted = int(size * 1.1)

    def prune(most: int) -> Scores:
        lost = worth(scores, counts)
        best = sorted(lost, key=lambda piece: -lost[piece])[: most - len(characters)]
        return {piece: scores[piece] for piece in scores if piece in characters or piece in best}

    while True:
        scores = estimated(estimated(scores, counts), counts)
        if len(scores) <= wanted:
            break
        scores = prune(max(wanted, int(len(scores) * 0.75)))
    return estimated(prune(size), counts) if len(scores) > size else scores


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_same_as_every_step_by_brute_force(seed: int) -> None:
    counts = words_of(seed)
    assert max(map(len, counts)) <= 8 < LONGEST_PIECE
    for size in (8, 14, 200):
        expected = reference(counts, size)
        pieces = train_unigram(counts, size)
        assert dict(pieces) == pytest.approx(expected, abs=2e-5)
        assert len(pieces) <= size
        assert pieces == sorted(pieces, key=lambda row: (-row[1], row[0]))


def test_the_order_of_the_words_changes_nothing() -> None:
    counts = words_of(9)
    shuffled = random.Random(1).sample(sorted(counts), len(counts))
    for size in (6, 20, 100):
        assert train_unigram({word: counts[word] for word in shuffled}, size) == train_unigram(counts, size)


def test_every_character_is_there_even_of_words_that_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"abab": 9, "ab": 5, "xyz": 1}
    monkeypatch.setattr(unigram, "MOST_CHARACTERS", 7)
    assert {"a", "b", "x", "y", "z", "ab"} <= {piece for piece, _ in train_unigram(counts, 8)}
    assert len(train_unigram(counts, 5)) == 5


def test_little_text() -> None:
    assert train_unigram({"a": 1}, 1) == [("a", pytest.approx(0.0, abs=1e-5))]
    assert [piece for piece, _ in train_unigram({"aa": 3, "": 2}, 9)] == ["aa", "a"]


def library(texts: list[str], vocab_size: int) -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    line_ends = pre_tokenizers.Split("\n", "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([line_ends, pre_tokenizers.Metaspace(prepend_scheme="first")])
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=["<unk>", "<|endoftext|>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    return backend


@pytest.mark.parametrize("name", ["shakespeare", "banking"])
def test_tokens_are_as_long_as_the_librarys(name: str, shared_data: Path) -> None:
    if name == "shakespeare":
        text = (shared_data / "tinyshakespeare" / "input.txt").read_text()
        texts, held_out = [text[:400_000]], [text[400_000:450_000]]
    else:
        with (shared_data / "banking77" / "train.csv").open() as file:
            rows = [row[0] for row in csv.reader(file)]
        texts, held_out = rows[:6000], rows[6000:7000]
    ours = train_tokenizer(texts, 2000, "unigram", specials=["<|endoftext|>"])
    theirs = library(texts, 2000)
    for sample in (texts[:2000], held_out):
        size = sum(len(text.encode()) for text in sample)
        assert bytes_per_token(ours, sample) > 0.99 * size / sum(len(theirs.encode(text).ids) for text in sample)
