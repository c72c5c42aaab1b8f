"""Calls of tools as a constraint: what a model writes to call one is a call that can be made.

Most open models were taught to call a tool in this form (Hermes, Qwen), with any text before it:

    <tool_call>
    {"name": "weather", "arguments": {"city": "Ulm"}}
    </tool_call>

and others in bare JSON, with nothing around it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import UserError
from .constraints import Constraint, guided, to_json

OPEN, CLOSE = "<tool_call>", "</tool_call>"
# Values that look like schemas and are none.
_LITERAL = ("const", "enum", "default", "examples", "example")


@dataclass(frozen=True)
class ToolCalls(Constraint):
    """An answer that may call tools, or must.

    Args:
        tools: as OpenAI describes them: ``{"type": "function", "function": {"name": ..., "parameters": JSON Schema}}``.
        required: whether the answer consists of calls; otherwise it is any text, in which what begins like a call is
            one.
        most: how many calls it has at most.
        tagged: whether calls stand between ``<tool_call>`` and ``</tool_call>``; otherwise the answer is one call in
            bare JSON, and must be.

    Raises:
        UserError: a tool has no name, or two have the same; or a schema that is no JSON.
    """

    name: ClassVar[str] = "description of tools"
    functions: tuple[tuple[str, str], ...]
    """The name of each tool, and the schema of its arguments as JSON."""
    required: bool
    most: int
    tagged: bool

    def __init__(
        self, tools: Sequence[Mapping[str, Any]], *, required: bool = False, most: int = 16, tagged: bool = True
    ) -> None:
        functions = tuple(_function(tool, f"tools.{place}") for place, tool in enumerate(tools))
        names = [name for name, _ in functions]
        if not names:
            raise UserError("there is no tool to call", where="tools")
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"two tools have the name '{twice}'", where="tools")
        values = {"functions": functions, "required": required, "most": most if tagged else 1, "tagged": tagged}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._check(*(text for function in functions for text in function))

    def loosened(self) -> ToolCalls:
        """The same with any objects as arguments: for schemas that cannot be enforced, and need not be."""
        tools = [{"function": {"name": name, "parameters": {"type": "object"}}} for name, _ in self.functions]
        return ToolCalls(tools, required=self.required, most=self.most, tagged=self.tagged)

    def grammar(self) -> str:
        calls = [_call(name, json.loads(schema)) for name, schema in self.functions]
        several = {"anyOf": [_moved(call, f"#/anyOf/{place}/properties/arguments") for place, call in enumerate(calls)]}
        schema = to_json(guided(_moved(calls[0], "#/properties/arguments") if len(calls) == 1 else several))
        if not self.tagged:
            return to_json({"grammars": [{"lark_grammar": f"start: %json {schema}"}]})
        body = f'body: "\\n" %json {schema} "\\n{CLOSE}"'
        if self.required:
            more = f' ("\\n{OPEN}" body){{0,{self.most - 1}}}' if self.most > 1 else ""
            lines = [f'start: "{OPEN}" body{more}', body]
        else:
            # What begins a call is matched as early as it can be, so no text goes on over it.
            lines = [
                f"start: (head body){{0,{self.most}}} TEXT",
                f'head[lazy]: /(?s:.*)/ "{OPEN}"',
                body,
                f"TEXT: /(?s:.*)/ & ~/(?s:.*){OPEN}(?s:.*)/",
            ]
        return to_json({"grammars": [{"lark_grammar": "\n".join(lines)}]})


def _function(tool: Mapping[str, Any], where: str) -> tuple[str, str]:
    function = tool.get("function") if isinstance(tool, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        raise UserError("a tool is an object with a function that has a name", where=where)
    parameters = function.get("parameters")
    if parameters is None:
        # A function without parameters has none.
        parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    if not isinstance(parameters, Mapping):
        raise UserError(f"the parameters of '{name}' are no JSON schema", where=where)
    return name, to_json(parameters)


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _moved(schema: Any, root: str) -> Any:
    """A schema whose references to its own parts are right where it stands now, at the pointer ``root``."""
    if isinstance(schema, list):
        return [_moved(one, root) for one in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str) and (value == "#" or value.startswith("#/")):
            moved[key] = root + value[1:]
        else:
            moved[key] = value if key in _LITERAL else _moved(value, root)
    return moved
