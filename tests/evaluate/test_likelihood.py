"""Continuations scored over a tree of prefixes have the likelihoods that each has when read alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ownlm.errors import DataError, ModelError
from ownlm.evaluate.likelihood import Request, log_likelihoods
from ownlm.model.transformer import Transformer

FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt3": {"sliding_window": 9},
    "llama": {"heads": 4, "kv_heads": 2},
    "mistral": {"heads": 4, "kv_heads": 2, "sliding_window": 7},
    "gemma2": {"kv_heads": 2, "head_width": 16, "sliding_window": 9, "logit_softcap": 2.0},
    "gemma3_text": {"kv_heads": 2, "head_width": 16, "sliding_window": 12},
    "gpt_neox": {},
}


def requests_for(vocab: int, seed: object, items: int = 7) -> list[Request]:
    """Examples that all begin with, prompts, some of them equal, and several answers to each."""
    rng = random.Random(seed)

    def some(least: int, most: int) -> list[int]:
        return [rng.randrange(vocab) for _ in range(rng.randint(least, most))]

    head, found = some(30, 30), []
    for item in range(items):
        prompt = (head if item else []) + some(1, 40)
        found += [Request(prompt, some(1, rng.choice([1, 3, 20]))) for _ in range(4)]
        found.append(Request(prompt, found[-1].continuation))
    rng.shuffle(found)
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_likelihoods_are_those_of_each_alone(make_model: Callable[..., Transformer], name: str) -> None:
    model = make_model(name, **FAMILIES[name])
    requests = requests_for(model.config.vocab_size, name)
    for size in (512, 50, 7):
        for request, found in zip(requests, log_likelihoods(model, requests, pass_tokens=size), strict=True):
            (logits,) = model.logits([[*request.context, *request.continuation]])
            rows = logits[len(request.context) - 1 : -1].double().log_softmax(-1)
            expected = [float(row[token]) for row, token in zip(rows, request.continuation, strict=True)]
            np.testing.assert_allclose(found.logprobs, expected, atol=2e-5)
            assert found.logprob == pytest.approx(sum(expected), abs=1e-4)
            assert found.greedy == (rows.argmax(-1).tolist() == list(request.continuation))


def test_bfloat16_is_as_near_as_reading_whole(make_model: Callable[..., Transformer]) -> None:
    exact = make_model("llama")
    model = make_model("llama", dtype=torch.bfloat16)
    requests = requests_for(model.config.vocab_size, 1)
    wide = [one.logprob for one in log_likelihoods(exact, requests)]
    for found, right, request in zip(log_likelihoods(model, requests), wide, requests, strict=True):
        assert found.logprob == pytest.approx(right, abs=0.1 * len(request.continuation))


def test_progress_counts_tokens_read_and_shared_ones_once(make_model: Callable[..., Transformer]) -> None:
    model = make_model("llama")
    seen: list[int] = []
    log_likelihoods(model, [Request(range(2, 22), [n, 3, 4]) for n in range(5)], pass_tokens=10, progress=seen.append)
    assert seen == [10, 20, 30]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request([], [1]), "at least a token each"),
        (Request([1], []), "at least a token each"),
        (Request([1] * 300, [1] * 10), "more than the"),
    ],
)
def test_what_cannot_be_scored_is_named(
    make_model: Callable[..., Transformer], request_: Request, message: str
) -> None:
    with pytest.raises(DataError, match=message) as error:
        log_likelihoods(make_model("llama", max_positions=128), [Request([1], [2]), request_])
    assert error.value.where == "request 1"


def test_the_longest_that_fits_is_scored(make_model: Callable[..., Transformer]) -> None:
    model = make_model("gpt2", max_positions=32)
    (found,) = log_likelihoods(model, [Request([1] * 20, [2] * 13)])
    assert len(found.logprobs) == 13


def test_a_model_that_writes_nothing_is_refused(make_model: Callable[..., Transformer]) -> None:
    with pytest.raises(ModelError, match="writes no text"):
        log_likelihoods(make_model("bert"), [Request([1], [2])])


def test_logits_that_are_no_numbers_are_an_error(make_model: Callable[..., Transformer]) -> None:
    model = make_model("llama")
    with torch.no_grad():
        model.layers[0].feedforward.down.weight[0, 0] = float("nan")
    with pytest.raises(ModelError, match="no numbers"):
        log_likelihoods(model, [Request([1], [2])])
