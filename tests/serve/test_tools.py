"""Finding calls in what a model writes, whatever pieces it comes in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownlm.serve.tools import Call, CallReader, call_schema, described, knows_tools

ULM, BONN = '{"name": "weather", "arguments": {"city": "Ulm"}}', '{"name": "news", "parameters": {}}'


def tag(call: str) -> str:
    return f"<tool_call>\n{call}\n</tool_call>"


WEATHER, NEWS = Call("weather", '{"city": "Ulm"}'), Call("news", "{}")
CASES: list[tuple[str, list[str | Call]]] = [
    ("Hello there", ["Hello there"]),
    ("", []),
    (" \n", [" \n"]),
    (tag(ULM), [WEATHER]),
    (tag(ULM) + "\n" + tag(BONN), [WEATHER, NEWS]),
    ("\n\n" + tag(ULM), [WEATHER]),
    ("Let me look. " + tag(ULM) + " Done.", ["Let me look.", WEATHER, "Done."]),
    (ULM, [WEATHER]),
    (f" {ULM}\n", [WEATHER]),
    (f"[{ULM}, {BONN}]", [WEATHER, NEWS]),
    # The tag was opened and the answer ended with the call.
    (f"<tool_call>\n{ULM}", [WEATHER]),
    # What only looks like a call is text.
    ('{"name": "unknown", "arguments": {}}', ['{"name": "unknown", "arguments": {}}']),
    ('{"name": "weather"}', ['{"name": "weather"}']),
    ('{"a": 1}', ['{"a": 1}']),
    (f'[{ULM}, {{"a": 1}}]', [f'[{ULM}, {{"a": 1}}]']),
    ("{not json", ["{not json"]),
    (tag("not json"), [tag("not json")]),
    ("a <tool_call", ["a <tool_call"]),
    (f"<tool_call>\n{ULM[:-3]}", [f"<tool_call>\n{ULM[:-3]}"]),
    ("x < y and <tool> z", ["x < y and <tool> z"]),
    ("[" * 5000, ["[" * 5000]),
]


def joined(parts: list[str | Call]) -> list[str | Call]:
    """Texts side by side as one."""
    result: list[str | Call] = []
    for part in parts:
        if isinstance(part, str) and result and isinstance(result[-1], str):
            result[-1] += part
        else:
            result.append(part)
    return result


@given(st.data())
def test_calls_are_found_however_the_text_is_cut(data: st.DataObject):
    text, expected = data.draw(st.sampled_from(CASES))
    reader, parts, rest = CallReader(["weather", "news"]), [], text
    while rest:
        size = data.draw(st.integers(1, max(1, min(len(rest), 40)))) if len(rest) < 500 else len(rest)
        parts += reader.push(rest[:size])
        rest = rest[size:]
    parts += reader.finish()
    assert joined(parts) == expected


def test_text_is_shown_as_soon_as_it_is_certain():
    reader = CallReader(["weather"])
    assert reader.push("Sure") == ["Sure"]
    assert reader.push(", <tool") == [","]
    assert reader.push("ing>") == [" <tooling>"]
    assert reader.push(tag(ULM)) == [WEATHER]


def test_only_the_first_call_may_be_wanted():
    reader = CallReader(["weather", "news"], only_first=True)
    assert [*reader.push(tag(ULM) + tag(BONN)), *reader.finish()] == [WEATHER]
    reader = CallReader(["weather", "news"], only_first=True)
    assert [*reader.push(f"[{ULM}, {BONN}]"), *reader.finish()] == [WEATHER]


TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["city"]}}},
    {"type": "function", "function": {"name": "news"}},
]


def test_a_template_without_tools_is_told_of_them_in_the_system_message():
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": json.loads(ULM)}],
        },
        {"role": "tool", "content": "Rain", "tool_call_id": "1"},
    ]
    system, user, call, result = described(messages, TOOLS)
    assert system["role"] == "system"
    assert all(json.dumps(tool["function"]) in system["content"] for tool in TOOLS)
    assert user == messages[0]
    assert call == {"role": "assistant", "content": tag(ULM)}
    assert result == {"role": "user", "content": "<tool_response>\nRain\n</tool_response>"}
    with_system = described([{"role": "system", "content": "Be brief."}, messages[0]], TOOLS)
    assert with_system[0]["content"] == f"Be brief.\n\n{system['content']}"
    assert described(messages[:1], []) == messages[:1]


@pytest.mark.parametrize(
    ("template", "knows"),
    [("{% if tools %}x{% endif %}", True), ("{{ messages }}", False), ("{{ toolset }}", False)],
)
def test_whether_a_template_knows_tools(template: str, knows: bool):
    assert knows_tools(template) is knows


def test_the_schema_of_a_required_call():
    import jsonschema

    validator = jsonschema.Draft202012Validator(call_schema(TOOLS))
    assert validator.is_valid(json.loads(ULM))
    assert validator.is_valid({"name": "news", "arguments": {}})
    for wrong in ({"name": "weather", "arguments": {}}, {"name": "news", "arguments": {"a": 1}}, {"name": "x"}):
        assert not validator.is_valid(wrong)
    assert jsonschema.Draft202012Validator(call_schema(TOOLS[1:])).is_valid({"name": "news", "arguments": {}})
