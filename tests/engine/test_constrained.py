"""The engine with options that decide more than the model does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import jsonschema
import pytest

import ownlm
from ownlm.engine.constraints import Choice, JsonObject, JsonSchema, Regex
from ownlm.engine.engine import Engine
from ownlm.engine.grammars import Matcher
from ownlm.engine.requests import Event, SamplingOptions
from ownlm.errors import UserError
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Ada", "Bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def engine(llama: Transformer, tokenizer: Tokenizer) -> Iterator[Engine]:
    engine = Engine(llama, tokenizer, max_sequences=6)
    yield engine
    engine.grammars.close()


def drain(engine: Engine) -> list[Event]:
    events = []
    while engine.waiting or engine.running:
        events += engine.step()
    return events


def test_answers_fit_a_schema_alone_and_in_any_company(
    engine: Engine, llama: Transformer, tokenizer: Tokenizer
) -> None:
    several = [
        SamplingOptions(constraint=JsonSchema(SCHEMA), seed=1, max_tokens=90),
        SamplingOptions(max_tokens=30, seed=2, top_p=0.9),
        SamplingOptions(constraint=Choice(["yes", "no"]), temperature=0),
        SamplingOptions(constraint=Regex(r"[a-z]{3,8}!"), seed=4, frequency_penalty=1.0),
        SamplingOptions(constraint=JsonSchema(SCHEMA), temperature=0, max_tokens=90),
    ]
    requests = {engine.submit([7, 8, 9], options): number for number, options in enumerate(several)}
    texts = [""] * len(several)
    reasons = [""] * len(several)
    for event in drain(engine):
        texts[requests[event.request]] += event.text
        reasons[requests[event.request]] = event.finish_reason or ""
    alone = [Engine(llama, tokenizer).generate([[7, 8, 9]], options)[0] for options in several]
    assert texts == [one.text for one in alone] and reasons == [one.finish_reason for one in alone]
    for number in (0, 4):
        jsonschema.validate(json.loads(texts[number]), SCHEMA)
    assert texts[2] in ("yes", "no") and re.fullmatch(r"[a-z]{3,8}!", texts[3])
    assert [reasons[number] for number in (0, 2, 3, 4)] == ["stop"] * 4


def test_what_a_constraint_ends_has_no_token_left_out(engine: Engine, tokenizer: Tokenizer) -> None:
    (answer,) = engine.generate([[5]], SamplingOptions(constraint=Choice(["the order"]), logprobs=1))
    assert answer.text == "the order" == tokenizer.decode(answer.tokens) and answer.finish_reason == "stop"
    assert answer.logprobs is not None and len(answer.logprobs) == len(answer.tokens)


def test_an_answer_that_has_no_room_ends_with_length(engine: Engine) -> None:
    (answer,) = engine.generate([[5]], SamplingOptions(constraint=JsonSchema(SCHEMA), max_tokens=4, seed=0))
    assert answer.finish_reason == "length" and answer.text.startswith("{")


def test_a_constraint_that_cannot_be_compiled_is_refused_before_anything_runs(engine: Engine) -> None:
    options = SamplingOptions(constraint=JsonSchema({"not": {}}))
    with pytest.raises(UserError, match="'not'"):
        engine.submit([5], options)
    with pytest.raises(UserError, match="'not'"):
        next(engine.stream([5], options))
    assert engine.waiting == engine.running == 0


def test_an_answer_whose_constraint_fails_harms_no_other(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    mask, calls = Matcher.mask, []

    def failing(self: Matcher):
        found = mask(self)
        calls.append(self)
        if self is calls[0] and len(calls) > 4:
            self.failure = UserError("it has become too complex", where="constraint")
        return found

    monkeypatch.setattr(Matcher, "mask", failing)
    fine = SamplingOptions(constraint=Regex("[ab]{12}"), seed=3)
    first, second = (engine.submit([5], options) for options in (fine, fine))
    events = drain(engine)
    ends = {event.request: event for event in events if event.finish_reason}
    assert ends[first].finish_reason == "error" and "too complex" in str(ends[first].error)
    assert ends[second].finish_reason == "stop"
    assert len("".join(event.text for event in events if event.request == second)) == 12


def test_tokens_of_the_user_s_own_end_an_answer(engine: Engine, tokenizer: Tokenizer) -> None:
    (free,) = engine.generate([[5, 6]], SamplingOptions(seed=8, max_tokens=20, ignore_eos=True))
    end = free.tokens[7]
    for ignore in (False, True):
        options = SamplingOptions(seed=8, max_tokens=20, ignore_eos=ignore, stop_token_ids=(end,))
        (answer,) = engine.generate([[5, 6]], options)
        assert answer.tokens == free.tokens[: free.tokens.index(end)] and answer.finish_reason == "stop"


def test_a_bias_bans_a_token_and_makes_another_certain(engine: Engine, tokenizer: Tokenizer) -> None:
    first, second = tokenizer.encode("a")[0], tokenizer.encode("b")[0]
    options = SamplingOptions(seed=1, max_tokens=20, logit_bias={first: 100, second: 99})
    assert set(engine.generate([[5]], options)[0].tokens) <= {first, second}
    options = SamplingOptions(seed=1, max_tokens=20, logit_bias={first: -100, second: 100})
    assert engine.generate([[5]], options)[0].tokens == (second,) * 20


def test_an_answer_has_its_least_length(engine: Engine, tokenizer: Tokenizer) -> None:
    end = tokenizer.eos_id
    likely = {"logit_bias": {end: 60}, "seed": 2, "max_tokens": 12, "stop": "e"}
    assert engine.generate([[5]], SamplingOptions(**likely))[0].tokens == ()
    (answer,) = engine.generate([[5]], SamplingOptions(**likely, min_tokens=6))
    assert len(answer.tokens) == 6 and answer.finish_reason == "stop"


@pytest.mark.parametrize(("name", "value"), [("logit_bias", {10**6: 1}), ("stop_token_ids", (10**6,))])
def test_ids_that_are_no_tokens_are_refused(engine: Engine, name: str, value: object) -> None:
    with pytest.raises(UserError, match="1000000 is not a token") as caught:
        engine.submit([5], SamplingOptions(**{name: value}))
    assert caught.value.where == name


def test_the_library_takes_constraints(llama: Transformer, tokenizer: Tokenizer) -> None:
    texts = ownlm.generate(llama, ["The order"], tokenizer=tokenizer, constraint=JsonObject(), max_tokens=20, n=2)
    assert len(texts) == 2 and all(text.startswith("{") for text in texts)
