"""What is carried along with a document's text, searched and redacted as the text is: its title and address, its group,
its metadata, and all of its messages but what they say.

All of it becomes one text, a line for each value with its key before it, since "phone: 0301 234567" says more than the
number alone. Spans and edits count in that text, behind the document's own and a line's end, so one value gets the same
stand-in wherever it stands.
"""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .redact import Edit, apply_edits

# The columns of a document, and which of them hold JSON.
PLAIN, JSON = ("title", "url", "group"), ("metadata", "messages")
COLUMNS = (*PLAIN, *JSON)

# Strings, brackets, and numbers that are long enough to be somebody's.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[][{}]|(?<![\w.+-])[0-9]{7,19}(?![\w.+-])', re.S)
# Arguments of a call are JSON in a string, and may hold some in turn.
_DEEPEST = 3
_KEY_WORDS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class _Value:
    """A value where it is written.

    Attributes:
        begin, end: in the column, or in the value that it lies in.
        text: what it says.
        key: what it is called.
        inner: the values in it, where it is JSON itself.
        at: where it begins in the text that is searched; -1 with values in it.
        quoted: whether it is written as JSON.
    """

    begin: int
    end: int
    text: str
    key: str
    inner: tuple[_Value, ...] | None = None
    at: int = -1
    quoted: bool = True


class Carried:
    """What a document carries along.

    Args:
        row: the document's columns, of which those of ``COLUMNS`` are read.

    Attributes:
        text: all of it as one text, empty where there is nothing.
    """

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._row = row
        self._parts: list[str] = []
        self._length = 0
        self._values: dict[str, tuple[_Value, ...]] = {}
        for column in PLAIN:
            if row.get(column):
                value = _Value(0, len(row[column]), row[column], column, quoted=False)
                self._values[column] = (self._placed(value),)
        for column in JSON:
            if row.get(column):
                self._values[column] = tuple(map(self._placed, _values(row[column], is_chat=column == "messages")))
        self.text = "".join(self._parts)

    def _placed(self, value: _Value) -> _Value:
        if value.inner is not None:
            return replace(value, inner=tuple(map(self._placed, value.inner)))
        label = f"{' '.join(_KEY_WORDS.findall(value.key))}: "
        # Half a character cannot be searched; the length stays.
        self._parts.append(f"{label}{value.text}\n\n".encode(errors="replace").decode())
        begin = self._length + len(label)
        self._length = begin + len(value.text) + 2
        return replace(value, at=begin)

    def edited(self, edits: Sequence[Edit], offset: int) -> dict[str, Any]:
        """The columns that are changed, as they are then.

        Args:
            edits: in order, not overlapping; those before ``offset`` are another text's.
            offset: where this text begins in the one that the edits are of.
        """
        mine = [Edit(e.start - offset, e.end - offset, e.replacement) for e in edits if e.start >= offset]
        if not mine:
            return {}
        starts = [edit.start for edit in mine]
        new = {column: _rewritten(self._row[column], values, mine, starts) for column, values in self._values.items()}
        return {column: text for column, text in new.items() if text != self._row[column]}


def _rewritten(text: str, values: Sequence[_Value], edits: Sequence[Edit], starts: Sequence[int]) -> str:
    parts = []
    place = 0
    for value in values:
        new = _new_text(value, edits, starts)
        if new != value.text:
            parts += [text[place : value.begin], _written(new) if value.quoted else new]
            place = value.end
    return "".join([*parts, text[place:]])


def _written(text: str) -> str:
    """A string as JSON; half a character, which only a string in a string can hold, stays an escape."""
    whole = text.encode(errors="replace").decode() == text
    return json.dumps(text, ensure_ascii=not whole)


def _new_text(value: _Value, edits: Sequence[Edit], starts: Sequence[int]) -> str:
    if value.inner is not None:
        return _rewritten(value.text, value.inner, edits, starts)
    end = value.at + len(value.text)
    # The edit before may reach in: what it begins with is the key.
    first = max(0, bisect.bisect_left(starts, value.at) - 1)
    touching = edits[first : bisect.bisect_left(starts, end)]
    inside = [
        Edit(max(edit.start, value.at) - value.at, min(edit.end, end) - value.at, edit.replacement)
        for edit in touching
        if edit.end > value.at
    ]
    return apply_edits(value.text, inside)


def _values(text: str, *, is_chat: bool = False, depth: int = 1) -> Iterator[_Value]:
    """The strings and long numbers in JSON, in order, without the keys.

    Args:
        text: valid JSON.
        is_chat: whether it is a list of messages, whose contents and roles are left out.
        depth: how many strings it lies in.
    """
    brackets = 0
    key = ""
    for token in _TOKEN.finditer(text):
        written = token[0]
        if written in "[]{}":
            brackets += 1 if written in "[{" else -1
        elif written[0] != '"':
            yield _Value(*token.span(), written, key)
        elif _is_key(text, token.end()):
            key = json.loads(written)
        elif not (is_chat and brackets == 2 and key in ("content", "role")):
            said = json.loads(written)
            yield _Value(*token.span(), said, key, _inside(said, depth))


def _is_key(text: str, end: int) -> bool:
    return text[end : end + 20].lstrip()[:1] == ":"


def _inside(text: str, depth: int) -> tuple[_Value, ...] | None:
    """The values of a string that is JSON itself, or None where it is not."""
    if depth >= _DEEPEST or not text.lstrip().startswith(("{", "[")):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return tuple(_values(text, depth=depth + 1))
