"""Sampling against Transformers' own processors, and against probabilities worked out one by one."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ownlm.engine import sampler
from ownlm.engine.draw import Draw
from ownlm.engine.requests import SamplingOptions
from ownlm.engine.sampler import distribution, logprobs, sample, sample_drafts

OPTIONS = st.fixed_dictionaries(
    {
        "temperature": st.floats(0.05, 5),
        "top_k": st.integers(0, 60),
        "top_p": st.floats(0.05, 1),
        "min_p": st.one_of(st.just(0.0), st.floats(0.001, 1)),
    }
)


def draw_for(
    options: SamplingOptions, *, seed: int = 0, prompt: tuple[int, ...] = (0,), index: int = 0, stop: int | None = None
) -> Draw:
    stop_ids = frozenset() if stop is None else frozenset({stop})
    return Draw(options, seed=seed, prompt=prompt, index=index, stop_ids=stop_ids)


def shares(logits: torch.Tensor, options: list[SamplingOptions]) -> torch.Tensor:
    weights = distribution(logits, options)
    return weights / weights.sum(-1, keepdim=True)


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
@given(st.lists(OPTIONS, min_size=1, max_size=4), st.integers(0, 2**32), st.sampled_from([5, 50, 300, 3000]))
def test_limits_agree_with_transformers(several: list[dict[str, float]], seed: int, vocab: int) -> None:
    logits = torch.randn(len(several), vocab, generator=torch.Generator().manual_seed(seed)) * 3
    ours = shares(logits, [SamplingOptions(**values) for values in several])
    for row, values in enumerate(several):
        theirs = reference(values)(torch.zeros(1, 1, dtype=torch.long), logits[row : row + 1]).softmax(-1)[0]
        # A token exactly at a limit may fall on either side by rounding; no more than that one may differ.
        assert ((ours[row] > 0) != (theirs > 0)).sum() <= 1
        if bool(((ours[row] > 0) == (theirs > 0)).all()):
            torch.testing.assert_close(ours[row], theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0, 8.0])
@pytest.mark.parametrize("top_p", [0.01, 0.5, 0.9, 0.999])
def test_top_p_holds_for_flat_and_for_steep_logits(spread: float, top_p: float) -> None:
    logits = torch.randn(3, 20000, generator=torch.Generator().manual_seed(3)) * spread
    values = {"temperature": 1.0, "top_k": 0, "top_p": top_p, "min_p": 0.0}
    ours = distribution(logits, [SamplingOptions(**values)] * 3) > 0
    # Their running sum is of the type of the logits, and float32 has few digits for the last tokens.
    theirs = reference(values)(torch.zeros(3, 1, dtype=torch.long), logits.double()).isfinite()
    if spread:
        assert ((ours.sum(-1) - theirs.sum(-1)).abs() <= 1 + theirs.sum(-1) // 1000).all()
    else:
        # Equally likely tokens all stay.
        assert ours.all()


def test_more_tokens_are_asked_for_than_there_are_blocks() -> None:
    logits = torch.randn(2, 3000, generator=torch.Generator().manual_seed(4))
    for top_k in (1, 11, 12, 400, 2999, 3000, 10**9):
        kept = distribution(logits, [SamplingOptions(top_k=top_k), SamplingOptions(top_k=3)]) > 0
        assert kept.sum(-1).tolist() == [min(top_k, 3000), 3]


@pytest.mark.parametrize("penalty", [0.5, 1.3, 2.0])
def test_repetition_penalty_agrees_with_transformers(penalty: float) -> None:
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(1))
    prompt, answer = (3, 7, 7, 11), (0, 20)
    draw = draw_for(SamplingOptions(temperature=0, repetition_penalty=penalty), prompt=prompt)
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
    rows = [draw_for(SamplingOptions(**values), seed=seed) for seed in range(draws)]
    tokens = sample(torch.tensor(logits).expand(draws, -1), rows)
    for token, probability in enumerate(expected):
        spread = math.sqrt(probability * (1 - probability) / draws)
        assert abs(tokens.count(token) / draws - probability) <= 4 * spread


def test_a_draw_does_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(9, 2000, generator=torch.Generator().manual_seed(5)) * 2
    kinds = [{}, {"top_p": 0.7}, {"top_k": 3}, {"min_p": 0.1}, {"temperature": 0}, {"repetition_penalty": 1.4}]
    kinds += [{"logit_bias": {4: 5.0}}, {"top_p": 0.9999}, {"temperature": 0.01}]
    options = [SamplingOptions(**kind) for kind in kinds]
    alone = [sample(logits[i : i + 1], [draw_for(options[i], index=i)])[0] for i in range(len(kinds))]
    together = sample(logits, [draw_for(options[i], index=i) for i in range(len(kinds))])
    backwards = sample(logits.flip(0), [draw_for(options[i], index=i) for i in reversed(range(len(kinds)))])
    assert alone == together == backwards[::-1]


def test_a_device_that_looks_at_the_whole_vocabulary_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(40, 3000, generator=torch.Generator().manual_seed(6)) * 3
    kinds = [{"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.02}, {"top_k": 50, "top_p": 0.8, "min_p": 0.01}]
    options = [SamplingOptions(**kinds[row % 4]) for row in range(40)]
    before = sample(logits, [draw_for(one, seed=row) for row, one in enumerate(options)])

    def everything(probabilities: torch.Tensor, _: object) -> tuple[torch.Tensor, torch.Tensor]:
        return probabilities, torch.arange(3000).expand(40, -1)

    monkeypatch.setattr(sampler, "_candidates", everything)
    assert sample(logits, [draw_for(one, seed=row) for row, one in enumerate(options)]) == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same() -> None:
    logits = torch.randn(30, 50000, generator=torch.Generator().manual_seed(6)) * 3
    kinds = [
        {},
        {"top_p": 0.9},
        {"top_k": 5},
        {"temperature": 0},
        {"min_p": 0.02, "frequency_penalty": 1, "logit_bias": {3: 2}},
    ]
    options = [SamplingOptions(**kinds[row % 5]) for row in range(30)]
    here, there = (
        sample(place, [draw_for(one, seed=row) for row, one in enumerate(options)]) for place in (logits, logits.cuda())
    )
    # The last digits of a probability differ, and with them a token once in a long while.
    assert sum(one != other for one, other in zip(here, there, strict=True)) <= 1


def test_a_tiny_temperature_takes_the_likeliest() -> None:
    logits = torch.tensor([[1e4, 1e4 - 1, -1e4, float("-inf")]])
    assert sample(logits, [draw_for(SamplingOptions(temperature=1e-30))]) == [0]


def test_tokens_that_are_equally_likely_at_a_limit_all_stay() -> None:
    weights = distribution(torch.tensor([[1.0, 3.0, 1.0, 0.0]]), [SamplingOptions(top_k=2)])
    assert (weights > 0).tolist() == [[True, True, True, False]]


def test_logprobs_are_those_of_the_raw_logits() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    first, second = logprobs(logits, [1, 0], [2, None])
    total = math.log(1 + math.e + math.e**2)
    assert second is None and first is not None
    assert first.token == 1 and first.logprob == pytest.approx(1 - total)
    assert [token for token, _ in first.top] == [2, 1]
    assert [value for _, value in first.top] == pytest.approx([2 - total, 1 - total])


def test_rows_without_logprobs_cost_and_change_nothing() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    first, second, third = logprobs(logits, [4, 5, 6], [0, None, 5])
    assert first is not None and first.top == () and second is None and third is not None and len(third.top) == 5
    assert third.logprob == pytest.approx(float(logits[2].log_softmax(-1)[6]))


def one_by_one(logits: list[float], values: dict[str, Any], prompt: list[int], answer: list[int]) -> list[float]:
    """Every processor before temperature, token by token, as OpenAI's and vLLM's descriptions have it."""
    result = []
    for token, value in enumerate(logits):
        value += values["logit_bias"].get(token, 0)
        if token in prompt or token in answer:
            value = value / values["repetition_penalty"] if value > 0 else value * values["repetition_penalty"]
        value -= values["frequency_penalty"] * answer.count(token)
        value -= values["presence_penalty"] * (token in answer)
        result.append(value)
    return result


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_penalties_and_biases_agree_with_brute_force(data: st.DataObject) -> None:
    vocab, rows = 12, data.draw(st.integers(1, 3))
    token = st.integers(0, vocab - 1)
    logits = torch.tensor(
        data.draw(
            st.lists(st.lists(st.floats(-4, 4, width=32), min_size=vocab, max_size=vocab), min_size=rows, max_size=rows)
        )
    )
    draws, expected = [], []
    for row in range(rows):
        values = {
            "logit_bias": data.draw(st.dictionaries(token, st.floats(-100, 100), max_size=3)),
            "repetition_penalty": data.draw(st.sampled_from([1.0, 0.7, 1.5])),
            "frequency_penalty": data.draw(st.sampled_from([0.0, -2.0, 0.5])),
            "presence_penalty": data.draw(st.sampled_from([0.0, -1.0, 1.5])),
        }
        prompt, answer = data.draw(st.lists(token, min_size=1, max_size=6)), data.draw(st.lists(token, max_size=8))
        undone = data.draw(st.lists(token, max_size=3))
        draw = draw_for(SamplingOptions(temperature=0, **values), prompt=tuple(prompt))
        for one in (*answer, *undone):
            draw.took(one)
        draw.back(len(undone))
        draws.append(draw)
        expected.append(one_by_one(logits[row].tolist(), values, prompt, answer))
    before = logits.clone()
    chosen = sample(logits, draws)
    assert torch.equal(logits, before)
    for row, token in zip(expected, chosen, strict=True):
        assert row[token] == pytest.approx(max(row), abs=1e-4)


def test_a_bias_is_added_as_transformers_adds_it_and_before_the_penalty() -> None:
    generator = torch.Generator().manual_seed(1)
    for bias in (-100.0, -3.0, 2.0, 100.0):
        logits = torch.randn(1, 30, generator=generator)
        theirs = SequenceBiasLogitsProcessor([[[7], bias]])(torch.tensor([[1, 2]]), logits.clone())
        theirs = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([[1, 7]]), theirs)
        options = SamplingOptions(temperature=0, logit_bias={7: bias}, repetition_penalty=1.7)
        assert sample(logits, [draw_for(options, prompt=(1, 7))]) == [int(theirs.argmax())]


@pytest.mark.parametrize("ignored", [False, True])
def test_nothing_ends_an_answer_before_its_least_length(ignored: bool) -> None:
    logits = torch.zeros(1, 10)
    logits[0, 3], logits[0, 4], logits[0, 5] = 5.0, 4.0, 3.0
    options = SamplingOptions(temperature=0, min_tokens=2, stop_token_ids=(4,), ignore_eos=ignored)
    draw = draw_for(options, stop=3)
    got = []
    for _ in range(3):
        got += sample(logits, [draw])
        draw.took(got[-1])
    # A token of the model's that is ignored ends nothing, so it is not banned either.
    assert got == ([3, 3, 3] if ignored else [5, 5, 3])
    if not ignored:
        theirs = MinNewTokensLengthLogitsProcessor(1, 2, [3, 4])
        for length, expected in ((1, 5), (2, 5), (3, 3)):
            assert int(theirs(torch.zeros(1, length, dtype=torch.long), logits.clone()).argmax()) == expected


def test_random_numbers_depend_on_seed_prompt_index_and_step_alone() -> None:
    def numbers(**changes: Any) -> list[float]:
        draw = draw_for(SamplingOptions(), **{"seed": 1, "prompt": (1, 2), "index": 0, **changes})
        return [draw.uniform(step) for step in range(4)]

    assert numbers() == numbers()
    others = [numbers(), numbers(seed=2), numbers(index=1), numbers(prompt=(1, 3)), numbers(prompt=(12,))]
    flat = [number for values in others for number in values]
    assert len(set(flat)) == len(flat) and all(0 <= number < 1 for number in flat)
    again = draw_for(SamplingOptions(), seed=1, prompt=(1, 2))
    assert [again.uniform(step) for step in (3, 1, 2, 0)] == [numbers()[step] for step in (3, 1, 2, 0)]


def test_random_numbers_are_spread_evenly() -> None:
    counts = [0] * 16
    for seed in range(40):
        draw = draw_for(SamplingOptions(), seed=seed)
        for step in range(100):
            counts[int(draw.uniform(step) * 16)] += 1
    # Chi-squared of 15 degrees: above 37.7 once in a thousand.
    assert sum((count - 250) ** 2 / 250 for count in counts) < 37.7


MIXED = [
    {"temperature": 0},
    {},
    {"top_p": 0.8, "frequency_penalty": 1.0},
    {"top_k": 5, "repetition_penalty": 1.3},
    {"temperature": 0, "presence_penalty": 2.0, "min_tokens": 3},
]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.lists(st.lists(st.integers(0, 7), max_size=5), min_size=5, max_size=5))
def test_drafts_change_no_answer(seed: int, guesses: list[list[int]]) -> None:
    """A model whose logits are a function of the last two tokens, asked with drafts and without."""
    table = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2

    def after(tokens: list[int]) -> torch.Tensor:
        return table[tokens[-2], tokens[-1]]

    prompt = [1, 5]
    for number, kind in enumerate(MIXED):
        plain = draw_for(SamplingOptions(**kind), prompt=tuple(prompt), index=number, stop=7)
        while len(plain.tokens) < 12:
            plain.took(sample(after(prompt + plain.tokens).unsqueeze(0), [plain])[0])
        drafted = draw_for(SamplingOptions(**kind), prompt=tuple(prompt), index=number, stop=7)
        neighbour = draw_for(SamplingOptions(temperature=0.7), seed=9)
        turn = 0
        while len(drafted.tokens) < 12:
            # Guesses that are right up to somewhere, and wrong ones.
            right = plain.tokens[len(drafted.tokens) :][: turn % 4]
            guess = [*right, *guesses[turn % 5]]
            rows = [after([*prompt, *drafted.tokens, *guess[:place]]) for place in range(len(guess) + 1)]
            logits = torch.stack([torch.zeros(8), *rows])
            _, taken = sample_drafts(logits, [neighbour, drafted], [[], guess])
            # A stop token ends the draft: nothing behind it can be right.
            before_stop = right.index(7) if 7 in right else len(right)
            assert before_stop < len(taken) <= len(guess) + 1
            for token in taken:
                drafted.took(token)
            turn += 1
        assert drafted.tokens[:12] == plain.tokens


def test_what_a_gpu_tells_in_one_copy_is_what_a_cpu_tells() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    logits[1, 3], logits[3, 7], logits[4, :39] = float("nan"), float("inf"), float("-inf")
    finite, tokens = sampler._in_one_copy(logits)
    assert (finite, None) == sampler.looked_over(logits)
    assert finite == [True, False, True, False, True]
    sound = [0, 2, 4]
    assert [tokens[row] for row in sound] == logits[sound].argmax(-1).tolist()


def test_known_tokens_are_taken_where_nothing_changes_the_logits() -> None:
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    likeliest = logits.argmax(-1).tolist()
    drafts = [[likeliest[0], 1], [], [likeliest[4]]]
    kinds = ({"temperature": 0}, {"temperature": 0, "logit_bias": {5: 100}}, {"temperature": 2, "seed": 1})
    for options in (SamplingOptions(**kind) for kind in kinds):
        plain, told = ([draw_for(options) for _ in drafts] for _ in range(2))
        assert sample_drafts(logits, told, drafts, likeliest) == sample_drafts(logits, plain, drafts)
