"""What an answer's text must be, as the user asks for it: frozen, hashable, and compiled elsewhere (grammars.py).

    SamplingOptions(constraint=JsonSchema({"type": "object", "properties": {"name": {"type": "string"}}}))

Whichever tokens the model would take, only those that lead to such a text can be drawn. An answer that meets
``max_tokens`` first ends in the middle of it, with the reason ``length``.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import UserError

# Longer ones are refused before they are looked at; a schema of 300 properties has some 20,000.
MOST_CHARACTERS = 200_000

# What may stand between two parts of JSON: as most models write it, and nothing that could go on for ever.
WHITESPACE = r"[ ]{1,2}|\n[ \t]{0,32}"


@dataclass(frozen=True)
class Constraint(ABC):
    """What all have in common.

    Raises (each when it is made):
        UserError: it is too long, or is not even the text that it should be. Whether it can be compiled is found out by
            grammars.py.
    """

    name: ClassVar[str]
    """What it is called in errors."""

    @abstractmethod
    def grammar(self) -> str:
        """The grammar as the library llguidance reads it: a JSON object."""

    def _check(self, *texts: str) -> None:
        length = sum(map(len, texts))
        if length > MOST_CHARACTERS:
            raise UserError(
                f"this {self.name} has {length:,} characters, and {MOST_CHARACTERS:,} are the most",
                where="constraint",
            )
        try:
            "".join(texts).encode()
        except UnicodeEncodeError:
            raise UserError(
                f"this {self.name} has half a character in it (a lone surrogate)", where="constraint"
            ) from None


@dataclass(frozen=True)
class JsonSchema(Constraint):
    """JSON that a schema (JSON Schema, draft 4 to 2020-12) describes; properties come in the schema's order.

    Keywords that cannot be enforced, such as ``not``, ``if`` or ``uniqueItems``, are refused by name when the schema is
    compiled. Of keys that only ``additionalProperties`` or ``patternProperties`` speak of, one may stand twice.

    Args:
        schema: a mapping, True (any JSON), or either of them as JSON text.
    """

    name: ClassVar[str] = "JSON schema"
    schema: str

    def __init__(self, schema: Mapping[str, Any] | bool | str) -> None:
        text = schema if isinstance(schema, str) else _to_json(schema)
        self._check(text)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise UserError(f"this JSON schema is not valid JSON: {reason}", where="constraint") from None
        if value is False:
            raise UserError("this JSON schema is false, which nothing fits", where="constraint")
        if not isinstance(value, dict) and value is not True:
            raise UserError("a JSON schema is an object, or true", where="constraint")
        # Written anew, so that the same schema in other white space is the same constraint.
        object.__setattr__(self, "schema", _to_json({} if value is True else value))
        self._check(self.schema)

    def grammar(self) -> str:
        schema = json.loads(self.schema)
        # All of the library's options are said here: a schema may carry some of its own.
        schema["x-guidance"] = {
            "item_separator": ",",
            "key_separator": ":",
            "whitespace_flexible": True,
            "whitespace_pattern": WHITESPACE,
            "coerce_one_of": False,
            "lenient": False,
        }
        return _to_json({"grammars": [{"json_schema": schema}]})


@dataclass(frozen=True)
class JsonObject(Constraint):
    """Any JSON object."""

    name: ClassVar[str] = "JSON object"

    def grammar(self) -> str:
        return JsonSchema({"type": "object"}).grammar()


@dataclass(frozen=True)
class Regex(Constraint):
    """A text that a regular expression matches from its first character to its last.

    The syntax is that of Rust's regex crate, which has neither look-around nor back-references; ``.`` is no newline, and
    ``\\d`` is a digit from 0 to 9.
    """

    name: ClassVar[str] = "regular expression"
    pattern: str

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise UserError("a regular expression is a text", where="constraint")
        self._check(self.pattern)

    def grammar(self) -> str:
        from llguidance import regex_to_lark

        # Two slashes with nothing between them would begin a comment.
        return _lark(f"start: /{regex_to_lark(self.pattern, 'd')}/" if self.pattern else 'start: ""')


@dataclass(frozen=True)
class Choice(Constraint):
    """One of several texts."""

    name: ClassVar[str] = "choice"
    texts: tuple[str, ...]

    def __init__(self, texts: Sequence[str]) -> None:
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) for text in texts):
            raise UserError("a choice is a list of at least one text", where="constraint")
        object.__setattr__(self, "texts", tuple(dict.fromkeys(texts)))
        self._check(*self.texts)

    def grammar(self) -> str:
        return _lark("start: " + " | ".join(json.dumps(text) for text in self.texts))


@dataclass(frozen=True)
class Grammar(Constraint):
    """A text of a context-free grammar in Lark's notation, as llguidance reads it; its first rule is ``start``."""

    name: ClassVar[str] = "grammar"
    lark: str

    def __post_init__(self) -> None:
        if not isinstance(self.lark, str) or not self.lark.strip():
            raise UserError("a grammar is a text with a rule 'start'", where="constraint")
        self._check(self.lark)

    def grammar(self) -> str:
        return _lark(self.lark)


def _to_json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"this is no JSON: {error}", where="constraint") from None


def _lark(text: str) -> str:
    return _to_json({"grammars": [{"lark_grammar": text}]})
