"""Constrained answers of a random model, which knows nothing and so tries everything that is allowed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis.strategies as st
import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from ownlm.engine import grammars
from ownlm.engine.constraints import Choice, Constraint, Grammar, JsonObject, JsonSchema, Regex
from ownlm.engine.draw import Draw
from ownlm.engine.grammars import CompiledGrammar, GrammarCompiler
from ownlm.engine.requests import SamplingOptions
from ownlm.engine.sampler import sample
from ownlm.errors import ConfigError, MissingExtra, UserError
from ownlm.tokens.tokenizer import Tokenizer

KINDS = ("tokenizer", "sentencepiece_like", "unigram")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Tokenizer:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def compiler(kind: Tokenizer) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(kind, seconds=30)
    yield compiler
    compiler.close()


@pytest.fixture(scope="module")
def plain(tokenizer: Tokenizer) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(tokenizer, seconds=30)
    yield compiler
    compiler.close()


def written(
    compiler: GrammarCompiler, tokenizer: Tokenizer, constraint: Constraint, seed: int, most: int = 400, **options: Any
) -> tuple[str, bool]:
    """What a model says whose logits are random, with a leaning to end; and whether it came to an end."""
    draws = np.random.default_rng(seed)
    draw = Draw(
        SamplingOptions(constraint=constraint, max_tokens=most, **options),
        seed=seed,
        prompt=(1,),
        index=0,
        stop_ids=tokenizer.stop_ids,
        grammar=compiler.compiled(constraint),
    )
    while len(draw.tokens) < most:
        logits = torch.from_numpy(draws.normal(size=(1, tokenizer.vocab_size)).astype(np.float32))
        logits[0, sorted(tokenizer.stop_ids)] += 3
        token = sample(logits, [draw])[0]
        assert draw.failure is None
        if token in draw.stop_ids:
            return tokenizer.decode(draw.tokens), True
        draw.took(token)
        if draw.finished:
            return tokenizer.decode(draw.tokens), True
    return tokenizer.decode(draw.tokens), False


NAMES = st.sampled_from(["a", "b", "name", "é", "with space", 'qu"ote', "back\\slash"])
LEAVES = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size},
        st.integers(-50, 50),
        st.integers(0, 500),
    ),
    st.just({"type": "number", "exclusiveMinimum": 0, "maximum": 10}),
    st.builds(
        lambda low, size: {"type": "string", "minLength": low, "maxLength": low + size},
        st.integers(0, 3),
        st.integers(0, 6),
    ),
    st.sampled_from([{"type": "string", "pattern": "^[a-f]{1,4}$"}, {"type": "string", "format": "date"}]),
    st.builds(
        lambda values: {"enum": values},
        st.lists(
            st.sampled_from(["x", 'y"', 1, 2.5, None, True, [1], {"k": []}]), min_size=1, max_size=4, unique_by=repr
        ),
    ),
    st.sampled_from([{"const": "fixed"}, {"const": {"a": [1, None]}}, {"type": ["string", "null"], "maxLength": 2}]),
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def an_object(properties: dict[str, Any], count: int, free: bool) -> dict[str, Any]:
        required = list(properties)[:count]
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": free and {"type": "null"},
        }

    return st.one_of(
        st.builds(an_object, st.dictionaries(NAMES, inner, max_size=3), st.integers(0, 3), st.booleans()),
        st.builds(
            lambda items, low, size: {"type": "array", "items": items, "minItems": low, "maxItems": low + size},
            inner,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(lambda several: {"anyOf": several}, st.lists(inner, min_size=1, max_size=3)),
    )


TREES = st.recursive(LEAVES, _larger, max_leaves=6)
SCHEMAS = st.one_of(
    TREES,
    st.builds(lambda one, other: {"$defs": {"d": one}, "anyOf": [{"$ref": "#/$defs/d"}, other]}, TREES, LEAVES),
)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(SCHEMAS, st.integers(0, 2**32))
def test_json_of_any_schema_is_valid(
    compiler: GrammarCompiler, kind: Tokenizer, schema: dict[str, Any], seed: int
) -> None:
    text, ended = written(compiler, kind, JsonSchema(schema), seed)
    if ended:
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())
    else:
        # Only free keys can go on so long.
        assert '"additionalProperties":{' in JsonSchema(schema).schema


def accepts(grammar: CompiledGrammar, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text may be the whole answer, as its own tokens."""
    matcher = grammar.matcher()
    for token in tokenizer.encode(text, special=False):
        if matcher.must_stop or not matcher.mask()[token >> 3] >> (token & 7) & 1:
            return False
        matcher.took(token)
        assert matcher.failure is None
    return matcher.may_stop


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_a_schema_allows_can_be_written_and_nothing_else(
    plain: GrammarCompiler, tokenizer: Tokenizer, data: st.DataObject
) -> None:
    schema = data.draw(SCHEMAS)
    grammar = plain.compiled(JsonSchema(schema))
    fitting = _values_of(schema) if data.draw(st.booleans()) else None
    value = data.draw(VALUES if fitting is None else fitting)
    text = json.dumps(value, ensure_ascii=False, indent=data.draw(st.sampled_from([None, 2])))
    if fitting is not None:
        # An object's keys come in the schema's order, and so they do here.
        assert accepts(grammar, tokenizer, text)
    elif not jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).is_valid(value):
        assert not accepts(grammar, tokenizer, text)


def _values_of(schema: dict[str, Any]) -> st.SearchStrategy[Any] | None:
    """Values that fit a schema; None for kinds that are left to the random model."""
    match schema:
        case {"type": "null"}:
            return st.none()
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "integer"}:
            return st.integers(schema["minimum"], schema["maximum"])
        case {"type": "string", "minLength": low, "maxLength": high}:
            return st.text(st.characters(codec="utf-8"), min_size=low, max_size=high)
        case {"enum": values}:
            return st.sampled_from(values)
        case {"type": "array", "items": items, "minItems": low, "maxItems": high}:
            inner = _values_of(items)
            return None if inner is None else st.lists(inner, min_size=low, max_size=high)
        case {"type": "object", "properties": properties}:
            parts = {name: _values_of(inner) for name, inner in properties.items()}
            return None if None in parts.values() else st.fixed_dictionaries(parts)
        case {"anyOf": [first, *_]}:
            return _values_of(first)
    return None


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-60, 60), st.sampled_from([0.5, 10.5]), st.text("abxy", max_size=3)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=2)),
    max_leaves=4,
)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32))
def test_any_object_is_an_object(compiler: GrammarCompiler, kind: Tokenizer, seed: int) -> None:
    text, ended = written(compiler, kind, JsonObject(), seed)
    assert text.startswith("{")
    if ended:
        assert isinstance(json.loads(text), dict)


PATTERNS = [
    r"[a-c]{2,5}",
    r"\d{3}-\d{4}",
    r"(yes|no)( maybe)?",
    r" leading",
    r"(é|好){1,3}",
    r"a/b\\c",
    r"x*y?",
    "two\nlines",
    "",
]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(PATTERNS), st.integers(0, 2**32))
def test_patterns_match_the_whole_text(compiler: GrammarCompiler, kind: Tokenizer, pattern: str, seed: int) -> None:
    if kind.vocab_size < 200 and re.search("好|\n", pattern):
        # It has no tokens for these.
        return
    text, ended = written(compiler, kind, Regex(pattern), seed)
    assert ended and re.fullmatch(pattern, text, re.ASCII), text


CHOICES = [("yes", "no", "maybe"), (" yes", "yes"), ("a", "ab", "abc"), ('"quoted"', "\\", "/"), ("", "x"), ("  two",)]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(CHOICES), st.integers(0, 2**32))
def test_choices_are_exact(compiler: GrammarCompiler, kind: Tokenizer, texts: tuple[str, ...], seed: int) -> None:
    text, ended = written(compiler, kind, Choice(texts), seed)
    assert ended and text in texts


@pytest.mark.parametrize("texts", CHOICES)
def test_each_choice_can_be_made(compiler: GrammarCompiler, kind: Tokenizer, texts: tuple[str, ...]) -> None:
    got = {written(compiler, kind, Choice(texts), seed)[0] for seed in range(300)}
    assert got == set(texts)


def test_a_grammar_s_texts(compiler: GrammarCompiler, kind: Tokenizer) -> None:
    lark = 'start: sum\nsum: NUMBER ("+" NUMBER){1,3}\nNUMBER: /[0-9]{1,2}/'
    for seed in range(10):
        text, ended = written(compiler, kind, Grammar(lark), seed)
        assert ended and re.fullmatch(r"\d{1,2}(\+\d{1,2}){1,3}", text)


def test_white_space_does_not_go_on_for_ever(compiler: GrammarCompiler, kind: Tokenizer) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for seed in range(20):
        text, ended = written(compiler, kind, JsonSchema(schema), seed)
        assert ended and max((len(run) for run in re.findall(r"\s+", text)), default=0) <= 34


def test_an_answer_that_is_too_long_ends_inside(plain: GrammarCompiler, tokenizer: Tokenizer) -> None:
    schema = {"type": "string", "minLength": 100}
    text, ended = written(plain, tokenizer, JsonSchema(schema), 0, most=10)
    assert not ended and text.startswith('"')


def test_the_constraint_comes_before_a_least_length(plain: GrammarCompiler, tokenizer: Tokenizer) -> None:
    assert written(plain, tokenizer, Choice(["ab"]), 0, min_tokens=50) == ("ab", True)
    for seed in range(5):
        text, ended = written(plain, tokenizer, Regex("a{1,9}"), seed, min_tokens=9)
        assert (text, ended) == ("a" * 9, True)


def test_tokens_that_end_an_answer_do_so_only_where_it_is_whole(plain: GrammarCompiler, tokenizer: Tokenizer) -> None:
    letter = tokenizer.encode("a")[0]
    for seed in range(20):
        text, ended = written(plain, tokenizer, Regex("[ab]{2}[ac]*"), seed, stop_token_ids=(letter,))
        # A token for "a" cannot be text, and what the grammar allows is written without it.
        assert ended and re.fullmatch("bbc*", text)


def test_end_tokens_are_ignored_where_something_else_can_come(plain: GrammarCompiler, tokenizer: Tokenizer) -> None:
    assert written(plain, tokenizer, Regex("a{1,6}"), 0, ignore_eos=True) == ("aaaaaa", True)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 6), min_size=1, max_size=8))
def test_tokens_taken_back_leave_no_trace(
    compiler: GrammarCompiler, kind: Tokenizer, seed: int, backs: list[int]
) -> None:
    grammar = compiler.compiled(JsonSchema({"type": "array", "items": {"enum": ["yes", "a", 1]}, "minItems": 1}))
    draws = np.random.default_rng(seed)
    matcher = grammar.matcher()
    tokens: list[int] = []
    for back in backs:
        for _ in range(6):
            allowed = np.flatnonzero(np.unpackbits(matcher.mask(), bitorder="little"))
            allowed = [token for token in allowed.tolist() if token not in kind.stop_ids]
            if matcher.must_stop or not allowed:
                break
            tokens.append(int(draws.choice(allowed)))
            matcher.took(tokens[-1])
        back = min(back, len(tokens))
        matcher.back(back)
        del tokens[len(tokens) - back :]
        again = grammar.matcher(tokens)
        assert matcher.failure is None
        assert (again.mask() == matcher.mask()).all() and again.may_stop == matcher.may_stop


def chain(depth: int, link: Any) -> str:
    """A schema of references as long as wanted, without nesting in its text."""
    steps = {f"d{i}": link({"$ref": f"#/$defs/d{i + 1}"}) for i in range(depth)}
    return json.dumps({"$defs": {**steps, f"d{depth}": {}}, "$ref": "#/$defs/d0"})


HOSTILE: list[tuple[Any, str]] = [
    (lambda: JsonSchema('{"type":'), "not valid JSON"),
    (lambda: JsonSchema("[1]"), "an object, or true"),
    (lambda: JsonSchema(False), "nothing fits"),
    (lambda: JsonSchema({"const": "\ud800"}), "lone surrogate"),
    (lambda: JsonSchema({"a": {1, 2}}), "no JSON"),
    (lambda: JsonSchema({"const": "x" * 300_000}), "characters"),
    (lambda: JsonSchema('{"items":' * 3000 + "{}" + "}" * 3000), "deep"),
    (lambda: JsonSchema('{"items":' * 300 + "{}" + "}" * 300), "recursion limit"),
    (lambda: JsonSchema(chain(3000, lambda ref: {"type": "array", "items": ref})), "deep"),
    (lambda: JsonSchema(chain(2800, lambda ref: {"allOf": [ref, {"type": "object"}]})), "deep"),
    (lambda: JsonSchema({"type": "strin"}), "invalid type: strin"),
    (lambda: JsonSchema({"type": "array", "items": {"uniqueItems": True}}), "'uniqueItems'.*cannot be enforced"),
    (lambda: JsonSchema({"not": {}, "if": {}, "then": {}}), "'if', 'not', 'then'"),
    (lambda: JsonSchema({"x-guidance": {"lenient": True}, "not": {}}), "'not'"),
    (lambda: JsonSchema({"type": "string", "format": "colour"}), "format"),
    (lambda: JsonSchema({"$ref": "https://example.com/schema.json"}), "schema.json"),
    (lambda: JsonSchema({"$ref": "#"}), "no text fits"),
    (lambda: JsonSchema({"type": "integer", "minimum": 3, "maximum": 1}), "minimum"),
    (
        lambda: JsonSchema({"allOf": [{"type": "integer", "multipleOf": number} for number in (97, 89, 83)]}),
        "too much|longer than",
    ),
    (lambda: JsonSchema({"type": "object", "properties": {f"p{i}": {} for i in range(9000)}}), "items|memory"),
    (
        lambda: JsonSchema(
            {"allOf": [{"anyOf": [{"properties": {f"p{i}": {"const": j}}} for j in range(4)]} for i in range(15)]}
        ),
        "too large",
    ),
    (lambda: Regex("(a"), "unclosed group"),
    (lambda: Regex("(?=a)b"), "look-around"),
    (lambda: Regex(r"(a)\1"), "backreferences"),
    (lambda: Regex("(" * 5000 + "a" + ")" * 5000), "nested"),
    (lambda: Regex("a?" * 99_000), "too big|memory"),
    (lambda: Regex(r"[^\x00-\x{10FFFF}]"), "no text fits"),
    (lambda: Choice([]), "at least one"),
    (lambda: Choice("abc"), "list"),
    (lambda: Grammar("start: nowhere"), "unknown name"),
    (lambda: Grammar("nowhere"), "cannot be used"),
    (lambda: Grammar("start: r0\n" + "".join(f'r{i}: r{i + 1} "a"\n' for i in range(9000)) + 'r9000: "a"'), "deep"),
    (lambda: Grammar("start: " + "(" * 20_000 + '"a"' + ")" * 20_000), "nested"),
]


@pytest.mark.parametrize(("make", "message"), HOSTILE)
def test_what_cannot_be_compiled_is_refused_in_a_sentence(plain: GrammarCompiler, make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        plain.compiled(make())
    assert caught.value.where == "constraint" and "\n" not in caught.value.message and len(caught.value.message) < 400


ODD = [
    Regex("(a{1,1000}){1,1000}"),
    Regex("((a{1,1000}){1,1000}){1,1000}"),
    Regex("(a|aa)+"),
    Regex("(a?){200}a{200}"),
    Regex("(a|b)*a(a|b){60}"),
    JsonSchema({"enum": [f"value {number}" for number in range(9000)]}),
    JsonSchema({"type": "string", "maxLength": 10**9}),
    JsonSchema(
        {
            "$defs": {"n": {"type": "object", "properties": {"c": {"type": "array", "items": {"$ref": "#/$defs/n"}}}}},
            "$ref": "#/$defs/n",
        }
    ),
    Grammar('start: s\ns: s s | "a" | "a" s "a" | ""'),
]


@pytest.mark.parametrize("constraint", ODD)
def test_what_is_odd_but_sound_is_written(plain: GrammarCompiler, tokenizer: Tokenizer, constraint: Constraint) -> None:
    text, _ = written(plain, tokenizer, constraint, 1, most=40)
    if isinstance(constraint, Regex):
        assert set(text) <= {"a", "b"}


def test_the_engine_s_process_goes_on_after_a_grammar_that_ends_the_trial_s(
    plain: GrammarCompiler, tokenizer: Tokenizer
) -> None:
    for _ in range(2):
        with pytest.raises(UserError):
            plain.compiled(JsonSchema(chain(2900, lambda ref: {"type": "array", "items": ref})))
    assert written(plain, tokenizer, Choice(["still here"]), 0) == ("still here", True)


def test_time_is_limited(tokenizer: Tokenizer) -> None:
    compiler = GrammarCompiler(tokenizer, seconds=0.001)
    slow = JsonSchema({"type": "array", "items": {"type": "integer", "multipleOf": 99991}})
    with pytest.raises(UserError, match=r"takes longer than 0\.001 s"):
        compiler.compiled(slow)
    compiler.close()


def test_a_constraint_is_compiled_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = GrammarCompiler(tokenizer)
    monkeypatch.setattr(grammars, "KEPT", 2)
    first = compiler.compiled(Choice(["a"]))
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(compiler.compiled(Regex("[ab]")))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in found}) == 1
    # The same in other white space; and the one used longest ago is forgotten.
    assert compiler.compiled(Choice(["a"])) is first
    assert compiler.compiled(JsonSchema('{ "type" :"null"}')) is compiler.compiled(JsonSchema({"type": "null"}))
    assert compiler.compiled(Choice(["a"])) is first
    assert compiler.compiled(Regex("[ab]")) is not found[0]
    compiler.close()


def test_without_the_library_its_extra_is_named(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="'constrain'"):
        GrammarCompiler(tokenizer).compiled(Choice(["a"]))


def test_a_model_without_an_end_stops_where_nothing_can_be_added(tokenizer: Tokenizer) -> None:
    endless = Tokenizer.from_parts(tokenizer.backend)
    assert not endless.stop_ids
    compiler = GrammarCompiler(endless)
    assert written(compiler, endless, Choice(["ab", "cd"]), 3)[1]
    compiler.close()


def test_the_trial_process_ends_with_its_input() -> None:
    command = [sys.executable, "-m", "ownlm.engine.grammar_trial"]
    done = subprocess.run(
        command, input='{"grammar": "start: \\"a\\"", "limits": {}}\n', text=True, capture_output=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.splitlines() == ["ready", '{"error": ""}']


def test_options_refuse_what_is_no_constraint() -> None:
    with pytest.raises(ConfigError) as caught:
        SamplingOptions(constraint='{"type": "object"}')
    assert caught.value.where == "constraint"
