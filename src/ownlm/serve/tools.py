"""Tools: how a model is told of them, and how its calls are found in what it writes.

A chat template that knows tools is given them, and the conversation's calls, as it expects. For any other, they are
described in the system message, and calls are written the way that most open models were taught (Hermes):

    <tool_call>
    {"name": "weather", "arguments": {"city": "Ulm"}}
    </tool_call>

Calls are read in that form, and as bare JSON (Llama 3 writes ``parameters``, Mistral a list). Whatever else has the look
of a call and is none, such as JSON with the name of no tool, is text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OPEN, CLOSE = "<tool_call>", "</tool_call>"

Message = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A call that the model wrote; ``arguments`` is an object in JSON."""

    name: str
    arguments: str


def knows_tools(template: str) -> bool:
    """Whether a chat template writes tools itself."""
    return re.search(r"\btools\b", template) is not None


def described(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """A conversation for a template that knows no tools: they, their calls and what came of these, as plain text."""
    plain = [_as_text(message) for message in messages]
    if not tools:
        return plain
    listed = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    text = (
        "You may call these functions, each described by a JSON Schema of its parameters:\n"
        f"<tools>\n{listed}\n</tools>\n"
        "To call one, write its name and its arguments as JSON, like this:\n"
        f'{OPEN}\n{{"name": "NAME", "arguments": {{}}}}\n{CLOSE}'
    )
    if plain[0]["role"] == "system":
        return [{**plain[0], "content": f"{plain[0]['content']}\n\n{text}"}, *plain[1:]]
    return [{"role": "system", "content": text}, *plain]


def _as_text(message: Message) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{message['content']}\n</tool_response>"}
    calls = message.get("tool_calls")
    if not calls:
        return message
    texts = [message["content"]] if message["content"] else []
    texts += [f"{OPEN}\n{json.dumps(call['function'], ensure_ascii=False)}\n{CLOSE}" for call in calls]
    return {"role": message["role"], "content": "\n".join(texts)}


def call_schema(tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON Schema of a call of one of the tools, for answers that must be one."""
    calls, definitions = [], {}
    for number, tool in enumerate(tools):
        function, place = tool["function"], f"arguments{number}"
        given = function.get("parameters") or {"properties": {}, "additionalProperties": False}
        definitions[place] = {"type": "object", **_moved(given, f"#/$defs/{place}")}
        properties = {"name": {"const": function["name"]}, "arguments": {"$ref": f"#/$defs/{place}"}}
        calls.append(
            {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
        )
    return {"$defs": definitions, **(calls[0] if len(calls) == 1 else {"anyOf": calls})}


def _moved(schema: Any, place: str) -> Any:
    """A schema whose references to its own parts still find them when it stands within another."""
    if isinstance(schema, list):
        return [_moved(part, place) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: place + value[1:]
        if key == "$ref" and isinstance(value, str) and value.startswith("#")
        else _moved(value, place)
        for key, value in schema.items()
    }


class CallReader:
    """Takes the text of an answer as it comes, and gives back what is text and what is a call.

    Args:
        names: of the tools.
        only_first: leaves every call after the first away.
    """

    def __init__(self, names: Collection[str], *, only_first: bool = False) -> None:
        self._names, self._only_first = frozenset(names), only_first
        self._held = ""
        self._begun = self._called = self._behind = False

    def push(self, text: str) -> list[str | Call]:
        """Takes more text; returns what is certain now, in its order. White space around calls is theirs."""
        self._held += text
        found: list[str | Call] = []
        while self._held:
            if self._behind:
                self._held = self._held.lstrip()
            if not self._begun and self._held.lstrip()[:1] in ("", "{", "["):
                # Perhaps the whole answer is a call in bare JSON, which shows at its end.
                return found
            self._begun = True
            start = self._held.find(OPEN)
            before = self._held[: len(self._held) - _overlap(self._held, OPEN) if start < 0 else start].rstrip()
            if before:
                found.append(before)
                self._held, start = self._held[len(before) :], start - len(before)
                self._behind = False
            end = self._held.find(CLOSE) + len(CLOSE)
            if start < 0 or end < len(CLOSE):
                return found
            block, self._held = self._held[:end], self._held[end:]
            calls = self._calls(block.strip()[len(OPEN) : -len(CLOSE)])
            found += [block] if calls is None else calls
        return found

    def finish(self) -> list[str | Call]:
        """No text follows; returns the rest. An answer that was cut within a call has that as text."""
        rest, self._held = self._held, ""
        calls = self._calls(rest.strip().removeprefix(OPEN).removesuffix(CLOSE))
        if calls is not None:
            return calls
        return [] if not rest or (self._behind and rest.isspace()) else [rest]

    def _calls(self, text: str) -> list[str | Call] | None:
        """The calls that a text consists of; None where it is something else."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        calls = [call for one in (value if isinstance(value, list) else [value]) if (call := self._call(one))]
        if not calls or (isinstance(value, list) and len(calls) < len(value)):
            return None
        kept = calls if not self._only_first else calls[: 0 if self._called else 1]
        self._called = self._behind = True
        return [*kept]

    def _call(self, value: Any) -> Call | None:
        if not isinstance(value, dict) or value.get("name") not in self._names:
            return None
        arguments = value.get("arguments", value.get("parameters"))
        if not isinstance(arguments, dict):
            return None
        return Call(value["name"], json.dumps(arguments, ensure_ascii=False))


def _overlap(text: str, mark: str) -> int:
    """The longest end of ``text`` that ``mark`` begins with."""
    return next((size for size in range(min(len(text), len(mark) - 1), 0, -1) if text.endswith(mark[:size])), 0)
