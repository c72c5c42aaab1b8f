"""The counterfactual check against the plain definition, and its interval against simulation."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ownlm.evaluate import counterfactual
from ownlm.evaluate.counterfactual import Pair, Variant, answer_losses, counterfactual_gap, verdict
from ownlm.evaluate.score import Score, bootstrap_interval
from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer


@pytest.fixture(scope="module")
def model() -> Transformer:
    shape = {"family": "llama", "layers": 2, "width": 32, "heads": 4, "vocab_size": 50, "max_positions": 64}
    return random_model(config_from_user({**shape, "initializer_range": 0.3}), 0)


def drawn(seed: int) -> Variant:
    draw = random.Random(seed)
    ids = [draw.randrange(50) for _ in range(draw.randint(4, 30))]
    return Variant(ids, draw.randint(1, len(ids) - 1))


def one_by_one(model: Transformer, variant: Variant) -> float:
    logits = model.logits([variant.ids])[0]
    wanted = torch.tensor(variant.ids[variant.start :])
    return F.cross_entropy(logits[variant.start - 1 : -1], wanted).item()


def test_losses_are_those_of_each_variant_alone(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counterfactual, "PASS_TOKENS", 60)
    variants = [drawn(seed) for seed in range(12)]
    assert answer_losses(model, variants) == pytest.approx([one_by_one(model, v) for v in variants], abs=1e-5)


def test_the_gap_is_the_mean_difference_and_its_sign_names_the_less_likely(model: Transformer) -> None:
    pairs = [Pair(drawn(seed), drawn(100 + seed)) for seed in range(8)]
    gaps = [one_by_one(model, pair.first) - one_by_one(model, pair.second) for pair in pairs]
    score = counterfactual_gap(model, "task", pairs, "model")
    assert score.value == pytest.approx(np.mean(gaps), abs=1e-5)
    assert (score.n, score.task, score.model) == (8, "task", "model")
    assert score.low <= score.value <= score.high
    same = counterfactual_gap(model, "same", [Pair(pair.first, pair.first) for pair in pairs])
    assert (same.value, verdict(same)) == (0.0, "no difference found")


def test_verdicts() -> None:
    assert verdict(Score("t", "m", 0.2, 0.1, 0.3, 9)) == "first is less likely"
    assert verdict(Score("t", "m", -0.2, -0.3, -0.1, 9)) == "second is less likely"


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        low, high = bootstrap_interval(random.normal(1.0, 2.0, 60), samples=400, seed=trial)
        covered += low <= 1.0 <= high
    # 95% stated; the percentile bootstrap of 60 values is a little narrow, and 300 trials scatter by 1.3%.
    assert 0.90 <= covered / 300 <= 0.99
