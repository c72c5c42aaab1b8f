"""ROUGE and chrF against their public implementations, and by hand."""

from __future__ import annotations

import random

import pytest

from ownlm.evaluate.overlap import chrf, chrf_rows, rouge_l, rouge_n


def texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    words = ["the", "Cat", "sat", "on", "a", "mat", "größer", "it's", "12.5", "好", "dog,", "ran"]
    return [" ".join(rng.choices(words, k=rng.randint(0, 12))) for _ in range(count)]


def test_chrf_is_sacrebleus() -> None:
    metrics = pytest.importorskip("sacrebleu.metrics")
    for seed in range(30):
        found, right = texts(5, seed), texts(5, seed + 1000)
        expected = metrics.CHRF().corpus_score(found, [right]).score / 100
        assert float(chrf().of(chrf_rows(found, right).sum(0))) == pytest.approx(expected, abs=1e-9)


def test_rouge_is_its_packages() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"])
    for a, b in zip(texts(200, 1), texts(200, 2), strict=True):
        expected = scorer.score(b, a)
        assert rouge_n(a, [b], 1) == pytest.approx(expected["rouge1"].fmeasure)
        assert rouge_n(a, [b], 2) == pytest.approx(expected["rouge2"].fmeasure)
        assert rouge_l(a, [b]) == pytest.approx(expected["rougeL"].fmeasure)


def test_rouge_by_hand() -> None:
    found, right = "the cat sat on the mat", "the cat was on a mat"
    # the, cat, on, mat; of six words each
    assert rouge_n(found, [right], 1) == pytest.approx(4 / 6)
    # the cat; of five pairs each
    assert rouge_n(found, [right], 2) == pytest.approx(1 / 5)
    assert rouge_l(found, [right]) == pytest.approx(4 / 6)
    assert rouge_l("b a", ["a b"]) == pytest.approx(1 / 2)
    assert rouge_n(found, ["dog", found], 2) == 1 and rouge_n("", [right], 1) == 0 == rouge_l("", [""])
