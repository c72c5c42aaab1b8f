"""Templates of a task: the fields of an item in, a text or a value out.

    "Question: {{ question }}\nAnswer:"     a text
    "{{ choices.text }}"                    one expression alone is its value, here a list

They are jinja2's, in its sandbox, since a task is a file that one may have from somebody else. A field that an item lacks
is an error and no empty text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import ConfigError, DataError, nearest

_ALONE = re.compile(r"\{\{((?:(?!\{\{|\}\}).)*)\}\}", re.DOTALL)


class Template:
    """One template.

    Args:
        text: the template; one expression alone gives its value, anything else a text.
        where: the key it stands at, for errors.

    Raises:
        ConfigError: it is no template.
    """

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        environment = _environment()
        alone = _ALONE.fullmatch(text)
        try:
            self._template = environment.from_string(text)
            # An undefined name comes back as such, and is told below.
            self._value = environment.compile_expression(alone[1], undefined_to_none=False) if alone else None
        except jinja2.TemplateSyntaxError as error:
            raise ConfigError(f"this is no template: {error.message}", where=where) from None

    def value(self, item: Mapping[str, Any], where: str) -> Any:
        """What the template makes of an item.

        Args:
            item: its fields.
            where: the item's file and line, for errors.

        Raises:
            DataError: the item lacks a field, or the template fails on it.
        """
        try:
            if self._value is None:
                return self._template.render(item)
            found = self._value(item)
            if isinstance(found, jinja2.Undefined):
                found._fail_with_undefined_error()
            return found
        except jinja2.UndefinedError as error:
            name = str(error).split("'")[1] if "'" in str(error) else ""
            hint = nearest(name, list(item)) or f"its fields are: {', '.join(map(str, item))}"
            raise DataError(f"{self.where}: {error}", where=where, hint=hint) from None
        # A template is a program, and fails as any program can.
        except Exception as error:
            raise DataError(f"{self.where} fails on this item: {error}", where=where) from None

    def line(self, item: Mapping[str, Any], where: str) -> str:
        """The same as a text."""
        found = self.value(item, where)
        return found if isinstance(found, str) else str(found)

    @property
    def own(self) -> Template:
        """The same without the words that stand in the template itself, and so in every item: lines of what fills it."""
        return compiled_own(self.text, self.where)


@functools.cache
def compiled(text: str, where: str) -> Template:
    """A template, made once however often it is asked for."""
    return Template(text, where)


@functools.cache
def compiled_own(text: str, where: str) -> Template:
    """See ``Template.own``."""
    template, environment = Template(text, where), _environment()
    tree = environment.parse(text)
    for part in tree.find_all(jinja2.nodes.TemplateData):
        part.data = "\n" if part.data.strip() else part.data
    template._value = None
    template._template = environment.from_string(tree)
    return template


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    environment.filters["regex_replace"] = _regex_replace
    return environment


def _regex_replace(text: str, pattern: str, by: str) -> str:
    return re.sub(pattern, by, text)
