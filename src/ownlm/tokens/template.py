"""Chat templates: a model's own jinja2 text, run in a sandbox.

A template arrives with downloaded weights, so it is treated as a stranger's program: the sandbox keeps it from Python's
internals and from changing what it is given, and its output is bounded. Beyond jinja2 itself it finds what templates of
the Hugging Face ecosystem rely on: ``raise_exception``, ``strftime_now``, ``tojson`` without HTML escapes, loop
controls and ``{% generation %}`` blocks.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from ..errors import ModelError, UserError

# Characters a template may write beyond the messages themselves.
OUTPUT_LIMIT = 10_000_000

CHATML = (
    "{% for message in messages %}"
    r"{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    r"{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# The blank line stands before a turn and not after it, so that an answer ends with the end-of-text token.
READABLE = (
    "{% for message in messages %}"
    r"{{ ('' if loop.first else '\n\n') + (message['role'] | capitalize) + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
    r"{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: the jinja2 text.

    Raises:
        ModelError: the text is not a jinja2 template (with its line).
    """

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise ModelError(
                f"the chat template is broken: {error.message}", where=f"chat template, line {error.lineno}"
            ) from None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **names: str | None,
    ) -> str:
        """The conversation as one text.

        Args:
            messages: what was said, each with a role and a content.
            add_generation_prompt: whether to end with the words that ask for an answer.
            tools: what the model may call; None for nothing.
            names: special tokens, such as ``bos_token="<s>"``.

        Raises:
            UserError: the template refuses the conversation, or fails on it, or writes without end.
        """
        limit = OUTPUT_LIMIT + sum(len(message["content"]) for message in messages)
        values = {
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "tools": tools,
            "documents": None,
        }
        parts: list[str] = []
        written = 0
        try:
            for part in self._template.generate(**values, **names):
                parts.append(part)
                written += len(part)
                if written > limit:
                    raise SecurityError(f"it writes more than {limit:,} characters")
        # A template is a program: what it divides, adds or looks up can fail as any program's can.
        except Exception as error:
            reason = str(error).rstrip(".") or type(error).__name__
            raise UserError(
                f"the model's chat template does not accept this conversation: {reason}",
                hint="check the order and the roles of its messages",
            ) from None
        return "".join(parts)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with multiplication watched: ``'x' * 10**10`` would fill the memory before anything is written."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and isinstance(right, int) and abs(right) > 64:
            raise SecurityError("it computes a power that is too large")
        if operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(sequence, str | list | tuple) and len(sequence) * times > OUTPUT_LIMIT:
                    raise SecurityError("it repeats a text too often")
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """``{% generation %} ... {% endgeneration %}``: some templates mark what the model writes; it is written as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as a plain set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> _Sandbox:
    extensions: list[str | type[Extension]] = ["jinja2.ext.loopcontrols", _Generation]
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.datetime.now().strftime(format)
