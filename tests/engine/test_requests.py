"""Sampling options say what is wrong with them, and an answer's life has no shortcuts."""

from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from ownlm.engine.constraints import Choice
from ownlm.engine.requests import TRANSITIONS, Answer, SamplingOptions, State
from ownlm.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.01}, "top_p"),
        ({"min_p": 1.5}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": float("inf")}, "repetition_penalty"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": [3]}, "stop.0"),
        ({"n": 0}, "n"),
        ({"n": 10**6}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"presence_penalty": float("nan")}, "presence_penalty"),
        ({"logit_bias": {3: 101}}, "logit_bias"),
        ({"logit_bias": {3: float("nan")}}, "logit_bias"),
        ({"logit_bias": {-1: 1}}, "logit_bias"),
        ({"logit_bias": [(3, 1), (3, 2)]}, "logit_bias"),
        ({"stop_token_ids": [-2]}, "stop_token_ids"),
        ({"min_tokens": 300}, "min_tokens"),
        ({"constraint": {"type": "object"}}, "constraint"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, object], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SamplingOptions(**values)
    assert caught.value.where == where
    assert caught.value.exit_code == 2


def test_an_unknown_option_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown key 'temprature'") as caught:
        SamplingOptions(temprature=1)
    assert caught.value.hint == "did you mean 'temperature'?"


def test_options_are_frozen_and_take_one_stop_text_or_several() -> None:
    assert SamplingOptions(stop="\n").stop == ("\n",)
    assert SamplingOptions(stop=["a", "b"]).stop == ("a", "b")
    options = SamplingOptions(temperature=0)
    with pytest.raises(ValidationError):
        options.temperature = 1.0  # type: ignore[misc]
    assert SamplingOptions(**dict(options)) == options
    full = SamplingOptions(logit_bias={"5": 1, 7: -2.5}, stop_token_ids=[3], constraint=Choice(["a", "b"]))
    assert full.logit_bias == ((5, 1.0), (7, -2.5)) and full.stop_token_ids == (3,)
    assert SamplingOptions(**dict(full)) == full and hash(full) == hash(SamplingOptions(**dict(full)))


def test_every_state_leads_to_an_end_and_ends_lead_nowhere() -> None:
    ends = {State.FINISHED, State.ABORTED, State.FAILED}
    assert {state for state, following in TRANSITIONS.items() if not following} == ends
    assert set(TRANSITIONS) == set(State)
    for before, after in itertools.product(State, State):
        answer = Answer(0, 0, (1,), 1, state=before)
        if after in TRANSITIONS[before]:
            answer.move(after)
            assert answer.state is after
            assert answer.ended == (after in ends)
        else:
            with pytest.raises(AssertionError):
                answer.move(after)
