"""Calls of tools: a random model that must call one calls it rightly, and one that may writes no half calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from ownlm.engine.engine import Engine
from ownlm.engine.grammars import CompiledGrammar, GrammarCompiler
from ownlm.engine.requests import SamplingOptions
from ownlm.engine.tools import ToolCalls
from ownlm.errors import UserError
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
            "$defs": {"city": {"enum": ["Ulm", "Köln"]}},
        },
    },
}
STOP = {"type": "function", "function": {"name": "stop"}}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Ulm", "days": 3}}\n</tool_call>'
HALT = '<tool_call>\n{"name": "stop", "arguments": {}}\n</tool_call>'
WRONG = CALL.replace("Ulm", "Rome")


@pytest.fixture(scope="module")
def compiler(tokenizer: Tokenizer) -> Iterator[GrammarCompiler]:
    compiler = GrammarCompiler(tokenizer)
    yield compiler
    compiler.close()


def accepts(grammar: CompiledGrammar, tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text may be the whole answer."""
    matcher = grammar.matcher()
    for token in tokenizer.encode(text, special=False):
        if matcher.must_stop or not matcher.mask()[token >> 3] >> (token & 7) & 1:
            return False
        matcher.took(token)
        assert matcher.failure is None
    return matcher.may_stop


REQUIRED, ONE, FREE, BARE = (
    ToolCalls([WEATHER, STOP], required=True),
    ToolCalls([WEATHER], required=True, most=1),
    ToolCalls([WEATHER, STOP]),
    ToolCalls([WEATHER, STOP], tagged=False),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CALL, [True, True, True, False]),
        (HALT, [True, False, True, False]),
        (f"{CALL}\n{HALT}", [True, False, True, False]),
        (CALL[12:-13], [False, False, True, True]),
        (f"Let me see.\n{CALL}", [False, False, True, False]),
        (f"{CALL} and then\n{HALT}.", [False, False, True, False]),
        (WRONG, [False] * 4),
        (f"Let me see.\n{WRONG}", [False] * 4),
        ("Hello. <tool_cal", [False, False, True, False]),
        ("<tool_call> is how it begins", [False] * 4),
        (CALL.replace("}}", '}, "more": 1}'), [False] * 4),
        ("", [False, False, True, False]),
    ],
)
def test_texts_that_calls_can_be(
    compiler: GrammarCompiler, tokenizer: Tokenizer, text: str, expected: list[bool]
) -> None:
    assert [accepts(compiler.compiled(one), tokenizer, text) for one in (REQUIRED, ONE, FREE, BARE)] == expected


@pytest.mark.parametrize("constraint", [REQUIRED, ONE, BARE])
def test_a_random_model_calls_rightly(llama: Transformer, tokenizer: Tokenizer, constraint: ToolCalls) -> None:
    engine = Engine(llama, tokenizer)
    options = SamplingOptions(constraint=constraint, n=8, seed=3, max_tokens=150)
    schema = {"weather": WEATHER["function"]["parameters"], "stop": {"maxProperties": 0}}
    complete = 0
    for answer in engine.generate([[5, 6]], options):
        if answer.finish_reason == "length":
            continue
        calls = (
            re.findall(r"<tool_call>\n(.*?)\n</tool_call>", answer.text, re.S) if constraint.tagged else [answer.text]
        )
        assert calls and len(calls) <= constraint.most
        for call in map(json.loads, calls):
            jsonschema.validate(call["arguments"], schema[call["name"]])
            complete += 1
    assert complete
    engine.grammars.close()


def test_schemas_that_cannot_be_enforced_can_be_loosened(compiler: GrammarCompiler, tokenizer: Tokenizer) -> None:
    tool = {"function": {"name": "pick", "parameters": {"type": "object", "properties": {"a": {"not": {}}}}}}
    strict = ToolCalls([tool], required=True)
    with pytest.raises(UserError, match="description of tools uses 'not'"):
        compiler.compiled(strict)
    call = '<tool_call>\n{"name": "pick", "arguments": {"a": [1]}}\n</tool_call>'
    assert accepts(compiler.compiled(strict.loosened()), tokenizer, call)


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([], "no tool"),
        ([{"type": "function"}], "has a name"),
        ([{"function": {"name": ""}}], "has a name"),
        (["stop"], "has a name"),
        ([STOP, STOP], "two tools"),
        ([{"function": {"name": "a", "parameters": [1]}}], "no JSON schema"),
    ],
)
def test_what_is_no_tool_is_refused(tools: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ToolCalls(tools)
