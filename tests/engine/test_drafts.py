"""Guesses against a search through the whole text, and answers that are the same with them."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from ownlm.engine.constraints import Choice, Constraint, JsonSchema, Regex
from ownlm.engine.drafts import LONGEST_PAUSE, Drafter, PromptLookup
from ownlm.engine.draw import Draw
from ownlm.engine.grammars import GrammarCompiler
from ownlm.engine.requests import SamplingOptions
from ownlm.engine.sampler import sample, sample_drafts
from ownlm.tokens.tokenizer import Tokenizer


def searched(tokens: list[int], count: int, longest: int, shortest: int) -> list[int]:
    """The rule word for word: the longest end, its latest earlier occurrence, and what followed it."""
    for size in range(longest, shortest - 1, -1):
        for start in range(len(tokens) - size - 1, -1, -1):
            if len(tokens) >= size and tokens[start : start + size] == tokens[len(tokens) - size :]:
                text = list(tokens)
                for step in range(count):
                    text.append(text[start + size + step])
                return text[len(tokens) :]
    return []


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.integers(0, 3), max_size=40),
    st.lists(st.integers(0, 3), max_size=40),
    st.integers(0, 9),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_guesses_are_those_of_a_search(
    prompt: list[int], answer: list[int], count: int, first: int, second: int
) -> None:
    longest, shortest = max(first, second), min(first, second)
    lookup = PromptLookup(prompt, longest=longest, shortest=shortest)
    text = list(prompt)
    for token in answer:
        assert lookup.propose(count) == searched(text, count, longest, shortest)
        lookup.push(token)
        text.append(token)
    assert lookup.propose(count) == searched(text, count, longest, shortest)
    assert PromptLookup(text, longest=longest, shortest=shortest).propose(count) == lookup.propose(count)


def test_what_repeats_is_guessed_to_go_on() -> None:
    assert PromptLookup([9, 1, 2, 1, 2, 1, 2]).propose(5) == [1, 2, 1, 2, 1]
    assert PromptLookup([1, 2, 3, 4, 1, 2, 3]).propose(4) == [4, 1, 2, 3]
    assert PromptLookup([1, 2, 3]).propose(4) == []
    assert PromptLookup().propose(4) == []


def test_guesses_grow_while_they_are_right_and_rest_while_they_are_wrong() -> None:
    drafter = Drafter([1, 2] * 30, most=8)
    assert drafter.propose(100) == [1, 2, 1, 2]
    drafter.judged(4, 4)
    assert len(drafter.propose(100)) == 8 and len(drafter.propose(3)) == 3 and drafter.propose(0) == []
    drafter.judged(8, 2)
    assert len(drafter.propose(100)) == 3
    pauses = []
    for _ in range(7):
        drafter.judged(1, 0)
        pauses.append(0)
        while not (guess := drafter.propose(100)):
            pauses[-1] += 1
        assert len(guess) == 1
    assert pauses == [1, 2, 4, 8, 16, 16, 16] and max(pauses) == LONGEST_PAUSE
    drafter.judged(1, 1)
    assert len(drafter.propose(100)) == 2


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.7]))
def test_an_answer_with_guesses_is_the_answer_without(seed: int, temperature: float) -> None:
    """A model that mostly repeats what stood three tokens ago, so that guesses are often right."""
    noise = torch.randn(9, 9, generator=torch.Generator().manual_seed(seed)) * 1.5

    def after(tokens: list[int]) -> torch.Tensor:
        logits = noise[tokens[-1]].clone()
        logits[tokens[-3]] += 3
        return logits

    prompt = [1, 2, 3, 4, 5, 6]
    options = SamplingOptions(temperature=temperature, frequency_penalty=0.1)
    plain = Draw(options, seed=seed, prompt=prompt, index=0)
    while len(plain.tokens) < 60:
        plain.took(sample(after(prompt + plain.tokens).unsqueeze(0), [plain])[0])
    guided, drafter, passes, right = Draw(options, seed=seed, prompt=prompt, index=0), Drafter(prompt), 0, 0
    while len(guided.tokens) < 60:
        draft = drafter.propose(60 - len(guided.tokens) - 1)
        text = prompt + guided.tokens
        logits = torch.stack([after(text + draft[:place]) for place in range(len(draft) + 1)])
        (taken,) = sample_drafts(logits, [guided], [draft])
        for token in taken:
            guided.took(token)
        drafter.took(taken)
        drafter.judged(len(draft), len(taken) - 1)
        passes, right = passes + 1, right + len(taken) - 1
    assert guided.tokens == plain.tokens and passes + right == 60


SCHEMA = {
    "type": "object",
    "properties": {
        "the order number": {"type": "integer", "minimum": 0, "maximum": 99},
        "came": {"enum": ["on Monday", "on Tuesday", None]},
    },
    "required": ["the order number", "came"],
    "additionalProperties": False,
}
CONSTRAINTS = [
    JsonSchema(SCHEMA),
    Regex("(ab){3}[cd]{1,5}(the order number)?"),
    Choice(["the order number", "the order"]),
]


@pytest.fixture(scope="module", params=["tokenizer", "sentencepiece_like"])
def kind(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def compiler(kind: Tokenizer) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(kind)
    yield compiler
    compiler.close()


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**32), st.sampled_from([0.0, 1.0]), st.sampled_from(CONSTRAINTS), st.randoms(use_true_random=False)
)
def test_a_constrained_answer_is_the_same_with_any_guesses(
    compiler: GrammarCompiler, kind: Tokenizer, seed: int, temperature: float, constraint: Constraint, chance: Random
) -> None:
    vocab = kind.vocab_size
    table = torch.randn(97, vocab, generator=torch.Generator().manual_seed(seed))

    def after(tokens: list[int]) -> torch.Tensor:
        return table[sum(place * token for place, token in enumerate(tokens[-3:], 1)) % 97]

    def draw() -> Draw:
        options = SamplingOptions(temperature=temperature, constraint=constraint, presence_penalty=0.5)
        grammar = compiler.compiled(constraint)
        return Draw(options, seed=seed, prompt=(1,), index=0, stop_ids=kind.stop_ids, grammar=grammar)

    plain = draw()
    while not plain.finished and len(plain.tokens) < 120:
        (token,) = sample(after(plain.tokens).unsqueeze(0), [plain])
        plain.took(token)
        if token in plain.stop_ids:
            break
    guided = draw()
    while not guided.finished and len(guided.tokens) < len(plain.tokens):
        known = guided.forced()
        more = plain.tokens[len(guided.tokens) + len(known) :][: chance.randint(0, 3)]
        draft = known + more + [chance.randrange(vocab) for _ in range(chance.randint(0, 2))]
        logits = torch.stack([after(guided.tokens + draft[:place]) for place in range(len(draft) + 1)])
        (taken,) = sample_drafts(logits, [guided], [draft])
        assert taken[: len(known)] == known
        for token in taken:
            guided.took(token)
        assert guided.failure is None
    assert guided.tokens == plain.tokens
