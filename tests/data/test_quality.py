"""The quality model against its definition worked out plainly, and its files."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ownlm.data.quality import QualityModel, train_quality, train_quality_files
from ownlm.data.regression import Examples, fit, minimize, roc_area
from ownlm.data.words import find_words, ngrams
from ownlm.errors import DamagedError, DataError, UserError

GOOD, BAD = (
    re.findall(r"\w+", text)
    for text in (
        "the council will repair a bridge before winter and publish its cost for every district",
        "click here to win free prizes now limited offer buy cheap pills best deal ever",
    )
)


def texts(words: list[str], count: int, seed: int) -> list[str]:
    """Sentences drawn from some words, with one in six from either kind."""
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(GOOD + BAD) if draw.random() < 0.17 else draw.choice(words) for _ in range(12))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def model() -> QualityModel:
    return train_quality(texts(GOOD, 300, 1), texts(BAD, 200, 2))


def column(values: list[str]) -> pa.LargeStringArray:
    return pa.array(values, pa.large_string())


def test_it_tells_good_from_bad(model: QualityModel) -> None:
    about = model.about
    assert about["auc"] > 0.99
    assert about["auc_low"] <= about["auc"] <= about["auc_high"]
    assert (about["good"], about["bad"], about["held_out_good"], about["held_out_bad"]) == (300, 200, 60, 40)
    scores = model.score(column([*texts(GOOD, 50, 3), *texts(BAD, 50, 4), "", "unheard of"]))
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores[:50] > 0.5).mean() > 0.95
    assert (scores[50:100] < 0.5).mean() > 0.95


def test_a_score_is_the_logistic_function_of_its_words_and_pairs(model: QualityModel) -> None:
    text = "Click, the bridge! Click the COUNCIL"
    words = re.findall(r"\w+", text.lower())

    def bucket(phrase: str) -> int:
        found = find_words(column([phrase]), "letters")
        hashes = found.hashes if " " not in phrase else ngrams(found, 2)[0]
        return int(hashes[0]) >> (64 - 18)

    features = [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]
    logit = sum(float(model.weights[bucket(feature)]) for feature in features) / math.sqrt(len(features)) + model.bias
    assert model.score(column([text]))[0] == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-4)


def test_neighbours_and_order_do_not_matter(model: QualityModel) -> None:
    good, bad = texts(GOOD, 300, 1), texts(BAD, 200, 2)
    batch = model.score(column([*good, "", *bad]))
    assert batch.tolist() == [float(model.score(column([text]))[0]) for text in (*good, "", *bad)]
    random.Random(7).shuffle(good)
    again = train_quality([*good, good[0]], reversed(bad))
    assert again.fingerprint == model.fingerprint
    assert again.about == model.about


def test_files(model: QualityModel, tmp_path: Path) -> None:
    for name, words, seed in (("good", GOOD, 1), ("bad", BAD, 2)):
        count = {"good": 300, "bad": 200}[name]
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts(words, count, seed))
        (tmp_path / f"{name}.jsonl").write_text(rows)
    about = train_quality_files([tmp_path / "good.jsonl"], [tmp_path / "bad.jsonl"], tmp_path / "model")
    assert about == model.about == json.loads((tmp_path / "model" / "quality.json").read_text())
    loaded = QualityModel.load(tmp_path / "model")
    assert loaded.fingerprint == model.fingerprint
    assert loaded.score(column(GOOD)).tolist() == model.score(column(GOOD)).tolist()
    weights = tmp_path / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(DamagedError, match="damaged"):
        QualityModel.load(tmp_path / "model")
    with pytest.raises(UserError, match="no quality model"):
        QualityModel.load(tmp_path)


def test_too_few_or_the_same_texts() -> None:
    with pytest.raises(DataError, match="1 bad texts are too few"):
        train_quality(texts(GOOD, 30, 1), ["spam", "spam", " "])
    both = texts(GOOD, 30, 1)
    with pytest.raises(DataError, match="the same text is good and bad"):
        train_quality(both, [*texts(BAD, 30, 2), both[4]])


def test_regression_finds_the_minimum() -> None:
    """The gradient of the loss, by the definition and dense, is nothing at the weights that come out."""
    draw = np.random.default_rng(3)
    dense = draw.normal(size=(80, 6)) * (draw.random((80, 6)) < 0.6)
    labels = draw.random(80) < 1 / (1 + np.exp(-dense @ np.arange(-2.0, 4.0)))
    rows, columns = np.nonzero(dense)
    cells = Examples(rows.astype(np.int32), columns.astype(np.int32), dense[rows, columns].astype(np.float32), 80)
    weights, bias = fit(cells, labels, 6, 0.5)
    weight = np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())
    error = weight * (1 / (1 + np.exp(-(dense @ weights + bias))) - labels)
    assert np.abs(dense.T @ error + 0.5 / 80 * weights).max() < 1e-5
    assert abs(error.sum()) < 1e-5


def test_a_curved_valley() -> None:
    scale = 10.0 ** np.arange(5)
    found = minimize(lambda x: (float((scale * (x - 1) ** 2).sum()), 2 * scale * (x - 1)), np.zeros(5))
    assert found == pytest.approx(np.ones(5), abs=1e-3)


def test_area_by_counting_pairs() -> None:
    draw = np.random.default_rng(4)
    scores = draw.integers(0, 20, 200) / 20
    labels = draw.random(200) < 0.3
    scores[labels] += 0.2
    area, low, high = roc_area(scores, labels)
    pairs = [(a > b) + (a == b) / 2 for a in scores[labels] for b in scores[~labels]]
    assert area == pytest.approx(np.mean(pairs))
    # The interval's width, by drawing the documents again and again.
    draws = []
    for _ in range(400):
        chosen = np.concatenate([draw.choice(np.flatnonzero(kind), kind.sum()) for kind in (labels, ~labels)])
        draws.append(roc_area(scores[chosen], labels[chosen])[0])
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(draws), rel=0.15)
    assert roc_area(np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True]))[0] == 1
    assert roc_area(np.arange(60) / 60, np.arange(60) >= 30)[1] == pytest.approx(0.9)
