"""Sampling against Transformers' own processors, and against probabilities worked out one by one."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ownlm.engine.requests import SamplingOptions
from ownlm.engine.sampler import Draw, limited, logprobs, sample

OPTIONS = st.fixed_dictionaries(
    {
        "temperature": st.floats(0.05, 5),
        "top_k": st.integers(0, 60),
        "top_p": st.floats(0.05, 1),
        "min_p": st.one_of(st.just(0.0), st.floats(0.001, 1)),
    }
)


def draw_for(
    options: SamplingOptions, vocab: int, *, seed: int = 0, prompt: tuple[int, ...] = (0,), index: int = 0
) -> Draw:
    return Draw(options, seed=seed, prompt=prompt, index=index, vocab_size=vocab)


def reference(values: dict[str, float]) -> LogitsProcessorList:
    steps = LogitsProcessorList([TemperatureLogitsWarper(float(values["temperature"]))])
    if values["top_k"]:
        steps.append(TopKLogitsWarper(int(values["top_k"])))
    if values["top_p"] < 1:
        steps.append(TopPLogitsWarper(values["top_p"]))
    if values["min_p"]:
        steps.append(MinPLogitsWarper(values["min_p"]))
    return steps


@settings(deadline=None, max_examples=60)
@given(st.lists(OPTIONS, min_size=1, max_size=4), st.integers(0, 2**32), st.sampled_from([5, 50, 3000]))
def test_limits_agree_with_transformers(several: list[dict[str, float]], seed: int, vocab: int) -> None:
    logits = torch.randn(len(several), vocab, generator=torch.Generator().manual_seed(seed)) * 3
    ours = limited(logits, [SamplingOptions(**values) for values in several]).softmax(-1)
    for row, values in enumerate(several):
        theirs = reference(values)(torch.zeros(1, 1, dtype=torch.long), logits[row : row + 1]).softmax(-1)[0]
        # A token exactly at a limit may fall on either side by rounding; no more than that one may differ.
        assert ((ours[row] > 0) != (theirs > 0)).sum() <= 1
        if bool(((ours[row] > 0) == (theirs > 0)).all()):
            torch.testing.assert_close(ours[row], theirs, atol=1e-6, rtol=1e-4)


def test_top_p_reaches_beyond_the_tokens_looked_at_first() -> None:
    logits = torch.randn(2, 5000, generator=torch.Generator().manual_seed(3)) * 0.1
    values = {"temperature": 1.0, "top_k": 0, "top_p": 0.9, "min_p": 0.0}
    ours = limited(logits, [SamplingOptions(**values), SamplingOptions(**{**values, "top_p": 0.01})])
    theirs = reference(values)(torch.zeros(1, 1, dtype=torch.long), logits[:1])
    assert abs(int(ours[0].isfinite().sum()) - int(theirs.isfinite().sum())) <= 1
    assert int(ours[0].isfinite().sum()) > 4000
    assert int(ours[1].isfinite().sum()) < 60


@pytest.mark.parametrize("penalty", [0.5, 1.3, 2.0])
def test_repetition_penalty_agrees_with_transformers(penalty: float) -> None:
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(1))
    prompt, answer = (3, 7, 7, 11), (0, 20)
    draw = draw_for(SamplingOptions(temperature=0, repetition_penalty=penalty), 40, prompt=prompt)
    for token in answer:
        draw.took(token)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([[*prompt, *answer]]), logits.clone())
    assert sample(logits, [draw]) == [int(theirs.argmax())]
    ranks = torch.zeros(1, 40)
    for token in range(40):
        # The penalised score of one token shows where it comes to lie between two untouched ones.
        ranks[0] = -100
        ranks[0, token], ranks[0, 39 - token] = 5.0, 5.0 / penalty - 0.01 if token in {*prompt, *answer} else 4.0
        expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([[*prompt, *answer]]), ranks.clone())
        assert sample(ranks, [draw]) == [int(expected.argmax())]


def brute_force(logits: list[float], temperature: float, top_k: int, top_p: float, min_p: float) -> list[float]:
    """Probabilities worked out token by token."""
    weights = {token: math.exp(value / temperature) for token, value in enumerate(logits)}
    order = sorted(weights, key=lambda token: -weights[token])
    kept = order[: top_k or None]
    total, mass, nucleus = sum(weights[t] for t in kept), 0.0, []
    for token in kept:
        if mass < top_p:
            nucleus.append(token)
        mass += weights[token] / total
    final = [token for token in nucleus if weights[token] >= min_p * weights[order[0]]]
    total = sum(weights[t] for t in final)
    return [weights[t] / total if t in final else 0.0 for t in range(len(logits))]


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
        {"temperature": 0.6, "top_k": 4, "top_p": 1.0, "min_p": 0.0},
        {"temperature": 1.5, "top_k": 0, "top_p": 0.8, "min_p": 0.0},
        {"temperature": 2.0, "top_k": 5, "top_p": 0.95, "min_p": 0.2},
    ],
)
def test_tokens_are_drawn_as_often_as_they_are_probable(values: dict[str, float]) -> None:
    logits = [1.0, -0.5, 2.0, 0.3, 0.0, -2.0]
    expected = brute_force(logits, **values)  # type: ignore[arg-type]
    draws = 4000
    rows = [draw_for(SamplingOptions(**values), 6, seed=seed) for seed in range(draws)]
    tokens = sample(torch.tensor(logits).expand(draws, -1), rows)
    for token, probability in enumerate(expected):
        spread = math.sqrt(probability * (1 - probability) / draws)
        assert abs(tokens.count(token) / draws - probability) <= 4 * spread


def test_a_draw_does_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(6, 2000, generator=torch.Generator().manual_seed(5)) * 2
    kinds = [{}, {"top_p": 0.7}, {"top_k": 3}, {"min_p": 0.1}, {"temperature": 0}, {"repetition_penalty": 1.4}]
    options = [SamplingOptions(**kind) for kind in kinds]
    alone = [sample(logits[i : i + 1], [draw_for(options[i], 2000, index=i)])[0] for i in range(6)]
    together = sample(logits, [draw_for(options[i], 2000, index=i) for i in range(6)])
    backwards = sample(logits.flip(0), [draw_for(options[i], 2000, index=i) for i in reversed(range(6))])
    assert alone == together == backwards[::-1]


def test_seed_prompt_and_index_each_change_the_numbers() -> None:
    def numbers(**changes: object) -> list[float]:
        values = {"seed": 1, "prompt": (1, 2), "index": 0, **changes}
        draw = draw_for(SamplingOptions(), 10, **values)  # type: ignore[arg-type]
        return torch.rand(4, generator=draw.generator).tolist()

    assert numbers() == numbers()
    others = [numbers(), numbers(seed=2), numbers(index=1), numbers(prompt=(1, 3)), numbers(prompt=(12,))]
    assert len({tuple(values) for values in others}) == len(others)


def test_a_tiny_temperature_takes_the_likeliest() -> None:
    logits = torch.tensor([[1e4, 1e4 - 1, -1e4, float("-inf")]])
    assert sample(logits, [draw_for(SamplingOptions(temperature=1e-30), 4)]) == [0]


def test_tokens_that_are_equally_likely_at_a_limit_all_stay() -> None:
    scores = limited(torch.tensor([[1.0, 3.0, 1.0, 0.0]]), [SamplingOptions(top_k=2)])
    assert scores.isfinite().tolist() == [[True, True, True, False]]


def test_logprobs_are_those_of_the_raw_logits() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    first, second = logprobs(logits, [1, 0], [2, None])
    total = math.log(1 + math.e + math.e**2)
    assert second is None and first is not None
    assert first.token == 1 and first.logprob == pytest.approx(1 - total)
    assert [token for token, _ in first.top] == [2, 1]
    assert [value for _, value in first.top] == pytest.approx([2 - total, 1 - total])
