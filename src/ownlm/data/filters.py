"""Which documents to drop: named expressions over the signals, and ready sets of them for kinds of data.

A rule is a SQL expression that is true for the documents to drop, such as ``words < 50`` or
``language != 'en' or language_score < 0.65``. It may look at every signal (``signals.SIGNALS``), at the counts of
personal data and secrets (``pii_email`` and so on), at ``quality`` where the recipe names a model for it, and at
``source``. It sees one document at a time: there are no queries, sums over documents or files in it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ..config import Config
from ..errors import ConfigError, MissingExtra, nearest
from .personal.options import KINDS
from .presets import PRESETS
from .signals.table import SIGNALS

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

# Columns beside the signals that the pipeline adds, with Arrow's names of their types.
ADDED = {**{f"pii_{kind}": "int64" for kind in KINDS}, "quality": "float32", "source": "string"}
# What an expression may call: functions of one document's values.
FUNCTIONS = frozenset(
    [
        "abs",
        "ceil",
        "floor",
        "round",
        "sqrt",
        "ln",
        "exp",
        "pow",
        "mod",
        "sign",
        "greatest",
        "least",
        "coalesce",
        "nullif",
        "if",
        "lower",
        "upper",
        "length",
        "octet_length",
        "left",
        "right",
        "starts_with",
        "ends_with",
        "regexp_like",
        "strpos",
    ]
)
# Words that may stand before a bracket without being a function.
_KEYWORDS = frozenset(
    ["and", "or", "not", "in", "between", "when", "then", "else", "case", "like", "ilike", "is", "if"]
)
_FORBIDDEN = frozenset(
    ["select", "over", "from", "as", "exists", "any", "all", "distinct", "partition", "order", "group", "union", "join"]
)
_TOKEN = re.compile(
    r"'(?:[^']|'')*' | (?P<comment>--|/\*|`) | (?P<word>\"(?:[^\"]|\"\")*\"|[A-Za-z_]\w*)(?P<call>\s*\()?",
    re.VERBOSE,
)


class FilterOptions(Config):
    """Which documents to drop."""

    preset: Literal["none", "web", "chat", "books", "prose"] = "none"
    """Rules for a kind of data: pages of the web, conversations, books, or prose free of code."""
    drop: dict[str, str | None] = Field(default_factory=dict)
    """Rules by name, each an expression over the signals that is true for documents to drop; one by the name of a rule of
    the preset replaces it, and null switches it off."""

    @model_validator(mode="after")
    def _rules_are_right(self) -> FilterOptions:
        unknown = [name for name, rule in self.drop.items() if rule is None and name not in PRESETS[self.preset]]
        if unknown:
            hint = nearest(unknown[0], PRESETS[self.preset]) if PRESETS[self.preset] else "no preset is chosen"
            raise ConfigError(f"the preset has no rule '{unknown[0]}'", where=f"filters.drop.{unknown[0]}", hint=hint)
        check_rules({name: rule for name, rule in self.drop.items() if rule is not None})
        return self


def rules_of(options: FilterOptions) -> dict[str, str]:
    """The rules by name, in the order in which they are tried: the preset's, then the recipe's own."""
    preset = {name: rule.expression for name, rule in PRESETS[options.preset].items()}
    return {name: rule for name, rule in {**preset, **options.drop}.items() if rule is not None}


def columns_of(rule: str) -> tuple[str, ...]:
    """The columns that an expression looks at, in their order."""
    return tuple(dict.fromkeys(_polars().sql_expr(rule).meta.root_names()))


def check_rules(rules: Mapping[str, str]) -> None:
    """Checks that every rule is an expression over known columns and tells true from false.

    Raises:
        ConfigError: the first that is not, by its name.
    """
    if rules:
        frame = _polars().DataFrame(schema=_schema())
        for name, rule in rules.items():
            _check(name, rule, frame)


def first_reason(signals: pa.Table | pl.DataFrame, rules: Mapping[str, str]) -> NDArray[np.int16]:
    """Which rule drops each document.

    Args:
        signals: one row a document.
        rules: expressions by name.

    Returns:
        int16[documents], the number of the first rule that is true, or -1. A rule whose value is unknown, since it
        looks at a null, does not drop.

    Raises:
        ConfigError: a rule is no expression over the columns at hand.
    """
    pl = _polars()
    # A table of Arrow becomes a frame of Polars without a copy.
    frame = signals if isinstance(signals, pl.DataFrame) else pl.DataFrame(signals)
    reasons = np.full(frame.height, -1, np.int16)
    empty = frame.clear()
    expressions = [_check(name, rule, empty).fill_null(False).alias(name) for name, rule in rules.items()]
    if frame.height:
        dropped = frame.select(expressions)
        for number, name in reversed(list(enumerate(rules))):
            reasons[dropped[name].to_numpy()] = number
    return reasons


def _check(name: str, rule: str, empty: pl.DataFrame) -> Any:
    """The rule as an expression, checked against a frame of no rows."""
    pl = _polars()
    where = f"filters.drop.{name}"
    _check_words(rule, where)
    try:
        expression = pl.sql_expr(rule)
        columns = expression.meta.root_names()
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"'{rule}' is no expression: {_first_line(error)}", where=where) from None
    for column in columns:
        if column not in empty.columns:
            raise ConfigError(f"there is no column '{column}'", where=where, hint=_column_hint(column, empty.columns))
    if not columns:
        raise ConfigError(f"'{rule}' looks at no column", where=where, hint="for example words < 50")
    try:
        kind = empty.select(expression.alias("rule")).schema["rule"]
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"'{rule}' cannot be worked out: {_first_line(error)}", where=where) from None
    if kind != pl.Boolean:
        hint = "an expression that is true for the documents to drop, for example words < 50"
        raise ConfigError(f"'{rule}' is neither true nor false", where=where, hint=hint)
    return expression


def _check_words(rule: str, where: str) -> None:
    """Lets through only functions of one document's own values: the same document is dropped in any company."""
    for token in _TOKEN.finditer(rule):
        word = (token["word"] or "").lower()
        if word in _FORBIDDEN or token["comment"]:
            raise ConfigError(f"'{token[0]}' cannot stand in a rule", where=where, hint="a rule is no query")
        if token["call"] and word not in FUNCTIONS | _KEYWORDS:
            hint = nearest(word, FUNCTIONS)
            raise ConfigError(f"there is no function '{token['word']}' in rules", where=where, hint=hint)


def _column_hint(column: str, known: Iterable[str]) -> str:
    if column == "quality":
        return "name a model as 'quality' in the recipe, made by ownlm data quality train"
    hint = nearest(column, known)
    return hint if hint.startswith("did") else f"texts stand in single quotes; the columns are {', '.join(known)}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().split("\n")
    return lines[0].rstrip(".") if lines[0] else type(error).__name__


@functools.cache
def _schema() -> dict[str, Any]:
    """Every column that there may be, with its Polars type."""
    pl = _polars()
    types = {"string": pl.String, "int64": pl.Int64, "float32": pl.Float32}
    arrow = {name: signal.type for name, signal in SIGNALS.items()} | ADDED
    return {name: types[kind] for name, kind in arrow.items()}


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise MissingExtra("filtering documents", "data") from None
    return polars
