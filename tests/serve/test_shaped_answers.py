"""Answers that must be JSON, a choice or a call: a model with random weights keeps to them, streamed or not."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import jsonschema
import openai
import pytest
from pydantic import BaseModel

from .conftest import NAME, Running

MESSAGES: Any = [{"role": "user", "content": "What is the weather in Ulm?"}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Ulm", "Bonn"]}, "days": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "It", "parameters": SCHEMA}},
    {
        "type": "function",
        "function": {
            "name": "news",
            "parameters": {
                "$defs": {"topic": {"enum": ["art", "sport"]}},
                "type": "object",
                "properties": {"topic": {"$ref": "#/$defs/topic"}},
                "required": ["topic"],
                "additionalProperties": False,
            },
        },
    },
    {"type": "function", "function": {"name": "time"}},
]
SCHEMAS = {tool["function"]["name"]: tool["function"].get("parameters", {"maxProperties": 0}) for tool in TOOLS}


class Forecast(BaseModel):
    city: Literal["Ulm", "Bonn"]
    wet: bool


def text_of(server: Running, form: Any, seed: int = 0, streaming: bool = False, **options: Any) -> str:
    body: Any = {"model": NAME, "messages": MESSAGES, "response_format": form, "seed": seed, "max_tokens": 100}
    client = server.client()
    if not streaming:
        choice = client.chat.completions.create(**body, **options).choices[0]
        assert choice.finish_reason == "stop"
        return choice.message.content or ""
    chunks = list(client.chat.completions.create(stream=True, **body, **options))
    assert chunks[-1].choices[0].finish_reason == "stop"
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_follows_its_json_schema(server: Running, streaming: bool):
    form = {"type": "json_schema", "json_schema": {"name": "forecast", "schema": SCHEMA, "strict": True}}
    found = {text_of(server, form, seed, streaming) for seed in range(4)}
    assert len(found) > 1
    for text in found:
        jsonschema.validate(json.loads(text), SCHEMA)


def test_the_clients_own_types_are_parsed(server: Running):
    answer = server.client().chat.completions.parse(model=NAME, messages=MESSAGES, response_format=Forecast, seed=1)
    assert isinstance(answer.choices[0].message.parsed, Forecast)


def test_a_json_object_is_one(server: Running):
    # A random model seldom comes to an end by itself; what it wrote until then begins as JSON.
    choice = (
        server.client()
        .chat.completions.create(model=NAME, messages=MESSAGES, response_format={"type": "json_object"}, max_tokens=200)
        .choices[0]
    )
    text = choice.message.content or ""
    assert text.startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(text), dict)


def test_choices_patterns_and_grammars(server: Running):
    assert {text_of(server, {"type": "choice", "choices": ["yes", "no"]}, seed) for seed in range(8)} == {"yes", "no"}
    assert re.fullmatch(r"\d{4}-\d{2}", text_of(server, {"type": "regex", "pattern": r"\d{4}-\d{2}"}))
    grammar = 'start: DIGIT "+" DIGIT\nDIGIT: /[0-9]/'
    assert re.fullmatch(r"\d\+\d", text_of(server, {"type": "grammar", "grammar": grammar}))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": 5},
        {"$ref": "#/nowhere"},
        {"type": "string", "pattern": "("},
        {"type": "object", "properties": []},
        {"not": {"type": "string"}},
        {"enum": []},
        {"type": "string", "minLength": 10**9},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"anyOf": [{"type": "string", "pattern": f"(a{{0,{size}}}){{0,1000}}"} for size in range(900, 950)]},
        {"items": {"items": {"items": {"items": {"type": "x"}}}}},
        json.loads('{"items":' * 150 + "{}" + "}" * 150) | {"type": "array", "minItems": 10**12},
    ],
)
def test_a_schema_that_is_wrong_or_too_much_is_a_400_and_the_server_goes_on(server: Running, schema: dict[str, Any]):
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    answer = server.chat(response_format=form)
    # Some of what looks wrong means something; then the answer is one.
    assert answer.status_code in (200, 400), answer.text
    if answer.status_code == 400:
        assert answer.json()["error"]["param"] == "response_format"
    tools = [{"type": "function", "function": {"name": "a", "parameters": {"properties": {"x": schema}}}}]
    assert server.chat(tools=tools, tool_choice="required").status_code in (200, 400)
    assert server.chat().status_code == 200


def test_wrong_schemas_that_must_be_told(server: Running):
    for schema in ({"type": "nonsense"}, {"$ref": "#/nowhere"}, {"not": {"type": "string"}}, {"enum": []}):
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        assert server.chat(response_format=form).status_code == 400, schema
    assert server.chat(response_format={"type": "regex", "pattern": "("}).status_code == 400


def check_call(call: Any, names: set[str]) -> None:
    assert call.type == "function" and call.id.startswith("call_")
    assert call.function.name in names
    jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("required", set(SCHEMAS)),
        ({"type": "function", "function": {"name": "news"}}, {"news"}),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {
                    "mode": "required",
                    "tools": [{"type": "function", "function": {"name": name}} for name in ("news", "time")],
                },
            },
            {"news", "time"},
        ),
    ],
)
def test_a_required_call_is_one_with_the_right_arguments(server: Running, choice: Any, names: set[str]):
    client = server.client()
    found = set()
    for seed in range(4):
        options: Any = {"model": NAME, "messages": MESSAGES, "tools": TOOLS, "tool_choice": choice, "seed": seed}
        options["temperature"] = 2
        answer = client.chat.completions.create(**options).choices[0]
        assert answer.finish_reason == "tool_calls" and answer.message.content is None
        (call,) = answer.message.tool_calls or ()
        check_call(call, names)
        found.add(call.function.name)  # type: ignore[union-attr]
        with client.chat.completions.stream(**options) as stream:
            final = stream.get_final_completion().choices[0]
        assert final.finish_reason == "tool_calls" and final.message.content in (None, "")
        (streamed,) = final.message.tool_calls or ()
        assert (streamed.function.name, streamed.function.arguments) == (call.function.name, call.function.arguments)  # type: ignore[union-attr]
    assert found <= names and (len(found) > 1 or len(names) == 1)


def test_tools_that_may_be_called_are_told_to_the_model_and_calls_sent_back(server: Running):
    messages: Any = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
    ]
    rendered = server.post("/v1/chat/render", {"model": NAME, "messages": messages, "tools": TOOLS}).json()["text"]
    assert '"name": "weather"' in rendered and "<tool_response>\nRain" in rendered
    read = len(server.post("/v1/chat/render", {"model": NAME, "messages": messages, "tools": TOOLS}).json()["ids"])
    client = server.client()
    free = client.chat.completions.create(model=NAME, messages=messages, tools=TOOLS, max_tokens=5)
    assert free.usage is not None and free.usage.prompt_tokens == read
    assert free.choices[0].finish_reason in ("stop", "length")
    plain = client.chat.completions.create(model=NAME, messages=messages, tools=TOOLS, tool_choice="none", max_tokens=5)
    assert plain.usage is not None and plain.usage.prompt_tokens < read


def test_a_call_that_the_model_writes_by_itself_is_found(server: Running):
    # What a model writes freely is its own; here a pattern makes it write a call.
    pattern = r'<tool_call>\n\{"name": "weather", "arguments": \{"city": "(Ulm|Bonn)"\}\}\n</tool_call>'
    options: Any = {"model": NAME, "messages": MESSAGES, "tools": TOOLS, "max_tokens": 200}
    options |= {"extra_body": {"response_format": {"type": "regex", "pattern": pattern}}}
    client = server.client()
    answer = client.chat.completions.create(**options).choices[0]
    assert answer.finish_reason == "tool_calls"
    assert json.loads((answer.message.tool_calls or [])[0].function.arguments)["city"] in ("Ulm", "Bonn")  # type: ignore[union-attr]
    with client.chat.completions.stream(**options) as stream:
        events = list(stream)
    assert any(event.type == "tool_calls.function.arguments.done" for event in events)
    assert not any(event.type == "content.delta" and event.delta for event in events)


def test_biases_and_penalties_reach_the_engine(server: Running):
    client = server.client()
    options: Any = {"model": NAME, "messages": MESSAGES, "temperature": 0, "max_tokens": 6}
    letter = server.post("/v1/chat/render", {"model": NAME, "messages": [{"role": "user", "content": "Q"}]}).json()
    token = str(letter["ids"][letter["tokens"].index("Q")])
    answer = client.chat.completions.create(logit_bias={token: 100}, **options)
    assert answer.choices[0].message.content == "QQQQQQ"
    changed = client.chat.completions.create(
        logit_bias={token: 100}, presence_penalty=2, frequency_penalty=2, **options
    )
    assert changed.choices[0].message.content == "QQQQQQ"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(logit_bias={"99999": 1}, **options)
    assert caught.value.param == "logit_bias"
    plain = client.chat.completions.create(**options).choices[0].message.content
    told = client.chat.completions.create(frequency_penalty=2, presence_penalty=2, **options).choices[0].message.content
    assert plain is not None and told is not None
