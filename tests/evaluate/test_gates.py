"""Gates: what each says, and why, of measurements made up for it; and files of gates that are wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ownlm.config import validate
from ownlm.errors import ConfigError
from ownlm.evaluate.gate_config import GatesConfig, NeverAgainConfig, read_gates
from ownlm.evaluate.gates import GateResult, Measures, all_passed, judge
from ownlm.evaluate.measurement import Measurement, Metric, exponent_of_mean, mean, of_values


def shares(right: int, n: int, metric: Metric | None = None, *, task: str = "boolq", shots: int = 0) -> Measurement:
    metric = metric or mean("accuracy", best=1.0)
    return Measurement(task, metric, of_values(np.arange(n) < right), [f"{i:05}" for i in range(n)], None, shots)


def losses(scale: float = 1.0, n: int = 400) -> Measurement:
    values = np.random.default_rng(0).exponential(2, n) * scale
    return Measurement(
        "wikitext", exponent_of_mean("word_perplexity"), of_values(values), [f"{i:05}" for i in range(n)]
    )


STEREOTYPE = mean("stereotype", higher_is_better=None, best=0.5)


def ask(gates: dict[str, Any], *given: Any, **more: Any) -> GateResult:
    """What one gate says."""
    (found,) = judge(validate(GatesConfig, gates), *given, **more)
    return found


def test_a_limit_is_held_against_the_intervals_end() -> None:
    gate = {"scores": [{"task": "boolq", "metric": "accuracy", "min": 0.6}]}
    found = ask(gate, Measures([shares(700, 1000)]))
    assert found.passed and found.value == 0.7 and 0.6 < found.low < found.high and found.limit == 0.6
    assert found.name == "boolq accuracy at least 0.6"
    few = ask(gate, Measures([shares(14, 20)]))
    assert not few.passed and "0.7 is at least 0.6, but its interval begins at 0.4" in few.reason
    assert "items like these would tell, here are 20" in few.reason
    gate["scores"][0]["by"] = "value"
    assert ask(gate, Measures([shares(14, 20)])).passed
    assert not ask(gate, Measures([shares(11, 20)])).passed
    assert "0.55 is not at least 0.6" in ask(gate, Measures([shares(11, 20)])).reason


def test_the_most_of_a_score() -> None:
    gate = {"scores": [{"task": "wikitext", "metric": "word_perplexity", "max": 12, "name": "reads well"}]}
    found = ask(gate, Measures([losses()]))
    assert found.passed and found.name == "reads well" and found.high <= 12
    assert not ask(gate, Measures([losses(1.1)])).passed
    both = {"scores": [{"task": "boolq", "metric": "accuracy", "min": 0.5, "max": 0.72}]}
    found = ask(both, Measures([shares(700, 1000)]))
    assert not found.passed and found.limit == 0.72 and "its interval ends at" in found.reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"task": "bolq"}, "task 'bolq' was not measured (did you mean 'boolq'?)"),
        ({"metric": "acuracy"}, "metric 'acuracy' of boolq was not measured (did you mean 'accuracy'?)"),
        ({"shots": 5}, "boolq was not measured with 5 shots, but with 0"),
    ],
)
def test_what_was_not_measured_fails_by_name(change: dict[str, Any], reason: str) -> None:
    gate = {"task": "boolq", "metric": "accuracy", **change}
    known = Measures([shares(700, 1000)])
    for kind in ({"scores": [{**gate, "min": 0.1}]}, {"bias": [{**gate, "within": 0.1}]}):
        found = ask(kind, known)
        assert not found.passed and reason in found.reason and math.isnan(found.value)
    found = ask({"differences": [{**gate, "margin": 0.1}]}, known, known)
    assert not found.passed and reason in found.reason
    assert not ask({"scores": [{**gate, "min": 0.1}]}, Measures()).passed


def test_a_score_that_is_no_number_fails() -> None:
    broken = shares(5, 9)
    broken.rows[2, 0] = np.nan
    for gate in ({"scores": [{"min": 0.0}]}, {"bias": [{"within": 1}]}, {"differences": [{"margin": 1}]}):
        ((kind, (values,)),) = gate.items()
        found = ask({kind: [{"task": "boolq", "metric": "accuracy", **values}]}, Measures([broken]), Measures([broken]))
        assert not found.passed and "not a number" in found.reason


def test_not_worse_by_a_margin() -> None:
    gate = {"differences": [{"task": "boolq", "metric": "accuracy", "margin": 0.03}]}
    base = Measures([shares(700, 1000)])
    found = ask(gate, Measures([shares(695, 1000)]), base)
    assert found.passed and found.value == pytest.approx(-0.005) and found.limit == 0.03
    assert ask(gate, Measures([shares(900, 1000)]), base).passed
    found = ask(gate, Measures([shares(660, 1000)]), base)
    assert not found.passed and "worse by the margin of 0.03 or more" in found.reason
    few = ask(gate, Measures([shares(14, 20)]), Measures([shares(14, 20)]))
    assert not few.passed and few.value == 0 and "may be worse by more than 0.03" in few.reason
    alone = ask(gate, base)
    assert not alone.passed and "no model was named" in alone.reason


def test_a_margin_in_parts_of_the_other_models_value() -> None:
    gate = {"differences": [{"task": "wikitext", "metric": "word_perplexity", "margin": "3%"}]}
    found = ask(gate, Measures([losses(1.001)]), Measures([losses()]))
    assert found.passed and found.limit == pytest.approx(0.03 * losses().value)
    assert found.name == "wikitext word_perplexity not worse by 3%"
    assert not ask(gate, Measures([losses(1.05)]), Measures([losses()])).passed
    copy = ask(gate, Measures([losses()]), Measures([losses()]))
    assert copy.passed and (copy.value, copy.low, copy.high) == (0, 0, 0)


def test_a_bias_is_held_to_its_best_value_from_both_sides() -> None:
    gate = {"bias": [{"task": "crows", "metric": "stereotype", "within": 0.05}]}
    near = ask(gate, Measures([shares(1010, 2000, STEREOTYPE, task="crows")]))
    assert near.passed and near.value == pytest.approx(0.005) and near.low == 0 and near.high < 0.05
    for right in (1200, 800):
        far = ask(gate, Measures([shares(right, 2000, STEREOTYPE, task="crows")]))
        assert not far.passed and far.value == pytest.approx(0.1) and far.low > 0.05
    few = ask(gate, Measures([shares(20, 40, STEREOTYPE, task="crows")]))
    assert not few.passed and "its interval reaches 0.1" in few.reason
    plain = shares(20, 40, mean("length", higher_is_better=None), task="crows")
    gate = {"bias": [{"task": "crows", "metric": "length", "within": 0.5}]}
    assert "write best" in ask(gate, Measures([plain])).reason
    assert ask({"bias": [{**gate["bias"][0], "best": 0.4}]}, Measures([plain])).passed


def test_size_and_speed() -> None:
    facts, other = {"weight_bytes": 5e8, "tokens_per_second": 20.0}, {"weight_bytes": 4e8, "tokens_per_second": 30.0}
    ask_of = lambda gate: ask({"machine": [gate]}, Measures(facts=facts), Measures(facts=other))  # noqa: E731
    assert ask_of({"fact": "weight_bytes", "max": 5e8}).passed
    assert not ask_of({"fact": "weight_bytes", "max": 4.9e8}).passed
    assert not ask_of({"fact": "tokens_per_second", "min": 25}).passed
    found = ask_of({"fact": "weight_bytes", "max_ratio": 1.2})
    assert not found.passed and found.limit == pytest.approx(4.8e8)
    assert ask_of({"fact": "tokens_per_second", "min_ratio": 0.5}).passed
    assert "first_token was not measured" in ask_of({"fact": "first_token", "max": 1}).reason
    lone = ask({"machine": [{"fact": "weight_bytes", "max_ratio": 1.2}]}, Measures(facts=facts))
    assert not lone.passed and "of the named model was not measured" in lone.reason


def says(*texts: str) -> Callable[[Sequence[NeverAgainConfig]], Sequence[str]]:
    return lambda asked: list(texts)


def test_never_again() -> None:
    gate = {"never_again": [{"prompt": "Who are you?", "forbidden": [r"\bas an ai\b", "sorry"]}]}
    found = ask(gate, Measures(), answers=says("I am the shop's helper."))
    assert found.passed and found.value == 0 and "shop's helper" in found.reason
    found = ask(gate, Measures(), answers=says("Well. As an AI, I am sorry"))
    assert not found.passed and found.value == 2 and "'As an AI'" in found.reason
    assert found.name == "never again: Who are you?"
    unasked = ask(gate, Measures())
    assert not unasked.passed and "was not asked" in unasked.reason


def test_all_gates_in_the_files_order_and_none_is_no_yes() -> None:
    gates = validate(
        GatesConfig,
        {
            "never_again": [{"prompt": "a", "forbidden": "x"}, {"prompt": "b", "forbidden": "x"}],
            "scores": [{"task": "boolq", "metric": "accuracy", "min": 0.5}],
        },
    )
    found = judge(gates, Measures([shares(700, 1000)]), answers=says("y", "x"))
    assert [(one.name, one.passed) for one in found] == [
        ("boolq accuracy at least 0.5", True),
        ("never again: a", True),
        ("never again: b", False),
    ]
    assert not all_passed(found) and all_passed(found[:2]) and not all_passed([])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there is no gate in this file"),
        ("scors: []", "did you mean 'scores'"),
        ("scores: [{task: a, metric: b}]", "needs a limit"),
        ("scores: [{task: a, metric: b, min: 2, max: 1}]", "max is less"),
        ("scores: [{task: a, metric: b, minn: 2}]", "did you mean 'min'"),
        ("scores: [{task: a, min: 2}]", "'metric' is missing"),
        ("scores: [{task: a, metric: b, min: .nan}]", "scores.0.min"),
        ("scores: [{task: a, metric: b, min: 0.5, by: middle}]", "scores.0.by"),
        ("differences: [{task: a, metric: b, margin: 0}]", "differences.0.margin"),
        ("differences: [{task: a, metric: b, margin: lots}]", "differences.0.margin"),
        ("differences: [{task: a, metric: b, margin: 200%}]", "differences.0.margin"),
        ("bias: [{task: a, metric: b, within: -1}]", "bias.0.within"),
        ("machine: [{fact: wieght_bytes, max: 3}]", "did you mean 'weight_bytes'"),
        ("machine: [{fact: weight_bytes}]", "needs a limit"),
        ("never_again: [{prompt: a, forbidden: '('}]", "is no regular expression"),
        ("never_again: [{prompt: a, forbidden: ['x*']}]", "found in every text"),
        ("never_again: [{prompt: a, forbidden: []}]", "never_again.0.forbidden"),
        ("never_again: [{prompt: a, forbidden: [b]\n", "not valid YAML"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as told:
        read_gates(path)
    assert message in str(told.value) and str(path) in str(told.value)
