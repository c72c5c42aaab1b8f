"""Texts with labels, from tables and JSON Lines as they are.

| problem | a row's label is |
|---|---|
| single | a text or a number, the name of its class |
| multi | a list of such; or one text field with several; or a 0 or 1 in a column for each class |
| regression | a number in each label column |
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data.read import Row, list_files, read_rows
from ..errors import DataError, nearest

Problem = Literal["single", "multi", "regression"]

# Where nothing is said: the first of these names that a file has.
TEXTS = ("text", "sentence", "content", "review", "comment", "tweet", "utterance", "query", "question")
PAIRS = {"sentence1": "sentence2", "premise": "hypothesis", "question1": "question2", "text1": "text2"}
LABELS = ("label", "labels", "class", "category", "intent", "sentiment", "target", "score", "rating")

# The largest number that is learned: the square of a greater one has no place in float32.
LARGEST = 1e18
# Python reads no whole number of many more digits.
_DIGITS = 4000


@dataclass(frozen=True)
class LabelledFormat:
    """Which columns, or keys, hold what.

    Attributes:
        problem: what a label is.
        text, pair: the column of the text, and of a second one beside it; None is one of the usual names.
        label: the columns of the labels; none is one of the usual names.
        separator: what stands between the labels of one text field, where a row may have several.
        columns: the names of the columns, for tables without a first line that names them.
    """

    problem: Problem = "single"
    text: str | None = None
    pair: str | None = None
    label: tuple[str, ...] = ()
    separator: str | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Labelled:
    """A text, or two, with its label.

    Attributes:
        text, pair: the texts; pair is None where there is one.
        labels: the names of its classes.
        numbers: of a regression.
        where: the file and the line.
    """

    text: str
    pair: str | None
    labels: tuple[str, ...]
    numbers: tuple[float, ...]
    where: str


@dataclass(frozen=True)
class Taken:
    """The columns that are read.

    Attributes:
        text, pair, labels: their names.
    """

    text: str
    pair: str | None
    labels: tuple[str, ...]

    def __str__(self) -> str:
        texts = f"'{self.text}'" + (f" and '{self.pair}'" if self.pair else "")
        return f"text from {texts}, labels from {', '.join(map(repr, self.labels))}"


def read_labelled(paths: Iterable[str | Path], format: LabelledFormat) -> Iterator[Labelled]:
    """The labelled texts of files and folders.

    Raises:
        DataError: names the file and the line: no such column (with the nearest one), an empty text, no label, a label
            that is no text or number, and whatever ``read_rows`` raises.
    """
    for path in list_files(paths, "chat"):
        taken = None
        for row in _rows(path, format):
            taken = taken or columns_of(row, format)
            yield _labelled(row, taken, format)


def taken_columns(paths: Iterable[str | Path], format: LabelledFormat) -> Taken:
    """The columns that are read from the first file; raises as ``read_labelled``."""
    return columns_of(next(iter(_rows(list_files(paths, "chat")[0], format))), format)


def find_labels(paths: Iterable[str | Path], format: LabelledFormat) -> tuple[str, ...]:
    """The classes of files in order: numbers by value, names by alphabet; of a regression, the columns of its numbers.

    Raises:
        DataError: as ``read_labelled``; or there is only one class, so that nothing could be learned.
    """
    paths = list(paths)
    if format.problem == "regression":
        return taken_columns(paths, format).labels
    if format.problem == "multi" and len(format.label) > 1:
        return format.label
    found = {label for row in read_labelled(paths, format) for label in row.labels}
    if len(found) < (2 if format.problem == "single" else 1):
        message = "every text has the same class" if found else "no text has a label"
        hint = "name all classes in objective.labels if the others are to come later"
        raise DataError(f"{message}, so there is nothing to learn", where=", ".join(map(str, paths)), hint=hint)
    whole = all(label.removeprefix("-").isdecimal() and len(label) <= _DIGITS for label in found)
    return tuple(sorted(found, key=lambda label: (int(label), label)) if whole else sorted(found))


def columns_of(row: Row, format: LabelledFormat) -> Taken:
    """The columns that hold the text and the label.

    Raises:
        DataError: there is none, with the nearest name.
    """
    text, pair = text_columns(row, format)
    names = _names(row, format.label)
    labels = format.label or tuple(name for name in LABELS if name in names and name != text)[:1]
    if not labels:
        raise _unclear("label", names, row)
    return Taken(text, pair, labels)


def text_columns(row: Row, format: LabelledFormat) -> tuple[str, str | None]:
    """The columns that hold the text, and a second one where there is one; raises as ``columns_of``."""
    names = _names(row, [name for name in (format.text, format.pair) if name is not None])
    if format.text is not None:
        return format.text, format.pair
    text = next((name for name in (*TEXTS, *PAIRS) if name in names), None)
    if text is None:
        raise _unclear("text", names, row)
    pair = format.pair or PAIRS.get(text)
    return text, pair if pair in names else None


def _names(row: Row, wanted: Iterable[str]) -> list[str]:
    """A row's columns, which have all that are wanted."""
    names = [name for name in row.values if name]
    for name in wanted:
        if name not in names:
            raise DataError(f"there is no column '{name}'", where=row.where, hint=nearest(name, names))
    return names


def _unclear(what: str, names: Sequence[str], row: Row) -> DataError:
    shown = ", ".join(f"'{name}'" for name in names) or "none"
    hint = f"set objective.{what} to one of its columns: {shown}"
    return DataError(f"it is not clear which column holds the {what}", where=row.where, hint=hint)


def _rows(path: Path, format: LabelledFormat) -> Iterator[Row]:
    return read_rows([path], format.columns) if format.columns else read_rows([path])


def _labelled(row: Row, taken: Taken, format: LabelledFormat) -> Labelled:
    text = text_of(row, taken.text)
    pair = None if taken.pair is None else text_of(row, taken.pair)
    values = [_value(row, name) for name in taken.labels]
    if format.problem == "regression":
        numbers = tuple(_number(value, name, row.where) for name, value in zip(taken.labels, values, strict=True))
        return Labelled(text, pair, (), numbers, row.where)
    if format.problem == "multi":
        return Labelled(text, pair, _several(values, taken, format, row.where), (), row.where)
    if len(values) > 1:
        hint = "set objective.problem to multi, or name one column"
        raise DataError("one class a text needs one label column", where=row.where, hint=hint)
    if isinstance(values[0], list):
        hint = "set objective.problem to multi, where a text may have several"
        raise DataError(f"'{taken.labels[0]}' is a list of labels", where=row.where, hint=hint)
    return Labelled(text, pair, (_name(values[0], taken.labels[0], row.where),), (), row.where)


def _value(row: Row, name: str) -> Any:
    if name not in row.values:
        raise DataError(f"there is no '{name}' here", where=row.where, hint=nearest(name, filter(None, row.values)))
    return row.values[name]


def text_of(row: Row, name: str) -> str:
    """The text in a column.

    Raises:
        DataError: none, or not a text, or an empty one.
    """
    text = _value(row, name)
    if not isinstance(text, str):
        raise DataError(f"'{name}' is not a text but {type(text).__name__}", where=row.where)
    if not text.strip():
        raise DataError(f"'{name}' is empty", where=row.where)
    return whole_characters(text, row.where)


def whole_characters(text: str, where: str) -> str:
    """The same text; JSON can write half of a surrogate pair, which is none.

    Raises:
        DataError: it holds such a half.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"this text holds half a character: \\u{ord(text[error.start]):04x}", where=where) from None
    return text


def _name(value: Any, column: str, where: str) -> str:
    """A class as it is called: texts stripped, whole numbers without a point, as tables and JSON write them."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        # Programs write a label that is missing as NaN.
        value = int(value) if value.is_integer() else value if math.isfinite(value) else None
    if not isinstance(value, str | int | float):
        what = "there is no label" if value is None else f"a label is a text or a number, not {type(value).__name__}"
        raise DataError(f"{what} in '{column}'", where=where)
    name = str(value).strip()
    if not name:
        raise DataError(f"there is no label in '{column}'", where=where)
    return whole_characters(name, where)


def _several(values: Sequence[Any], taken: Taken, format: LabelledFormat, where: str) -> tuple[str, ...]:
    """The classes of a row that may have any number of them, each once."""
    if len(values) > 1:
        numbers = [_number(value, name, where) for name, value in zip(taken.labels, values, strict=True)]
        for name, number in zip(taken.labels, numbers, strict=True):
            if number not in (0, 1):
                raise DataError(f"'{name}' must be 0 or 1, not {number:g}", where=where)
        return tuple(name for name, number in zip(taken.labels, numbers, strict=True) if number)
    value, column = values[0], taken.labels[0]
    if isinstance(value, str):
        parts = value.split(format.separator) if format.separator else [value]
        value = [part for part in parts if part.strip()]
    elif not isinstance(value, list):
        value = [] if value is None else [value]
    return tuple(dict.fromkeys(_name(part, column, where) for part in value))


def _number(value: Any, column: str, where: str) -> float:
    try:
        if value is None or isinstance(value, Mapping | list | bool):
            raise ValueError
        number = float(value)
    except OverflowError:
        number = math.inf
    except ValueError:
        raise DataError(f"'{column}' is not a number (got {_shown(value)})", where=where) from None
    if not math.isfinite(number) or abs(number) > float(np.finfo(np.float32).max):
        raise DataError(f"'{column}' is not a finite number (got {_shown(value)})", where=where)
    if abs(number) > LARGEST:
        hint = "divide all numbers of the column by one of their size"
        raise DataError(f"'{column}' is too large to be learned (got {_shown(value)})", where=where, hint=hint)
    return number


def _shown(value: Any) -> str:
    """A value as an error shows it, however long it is."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
