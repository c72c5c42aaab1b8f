"""Rules: which document each drops, what a rule may say, and what the presets keep of real text."""

from __future__ import annotations

import csv
import random
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.config import validate
from ownlm.data.filters import ADDED, FUNCTIONS, FilterOptions, check_rules, columns_of, first_reason, rules_of
from ownlm.data.presets import PRESETS
from ownlm.data.signals import SIGNALS, SignalOptions, measure
from ownlm.errors import ConfigError

ROWS = {"words": [10, 60, None, 200], "language": ["en", "de", None, "en"], "quality": [0.1, 0.9, 0.5, None]}


def test_the_first_rule_that_is_true() -> None:
    rules = {"short": "words < 50", "foreign": "language != 'en'", "poor": "quality < 0.6"}
    expected = [0, 1, 2, -1]
    for table in (pa.table(ROWS), pl.DataFrame(ROWS)):
        found = first_reason(table, rules)
        assert found.dtype == np.int16
        assert found.tolist() == expected
    assert first_reason(pa.table(ROWS), {}).tolist() == [-1] * 4
    assert first_reason(pa.table(ROWS).slice(0, 0), rules).tolist() == []


def test_null_drops_nothing() -> None:
    table = pa.table({"words": pa.array([None, None], pa.int64())})
    for rule in ("words < 50", "not (words < 50)", "words + 1 > 0", "words in (1, 2)"):
        assert first_reason(table, {"rule": rule}).tolist() == [-1, -1]


NUMBER = st.integers(-3, 3).map(str)
TERM = st.one_of(NUMBER, st.sampled_from(["words", "lines"]))
ATOM = st.tuples(TERM, st.sampled_from(["<", "<=", "=", "!=", ">", ">="]), TERM).map(" ".join)
RULE = st.recursive(
    ATOM,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        inner.map(lambda part: f"not ({part})"),
    ),
    max_leaves=6,
).filter(lambda rule: "words" in rule or "lines" in rule)


@settings(deadline=None, max_examples=80)
@given(st.lists(RULE, min_size=1, max_size=4), st.lists(st.tuples(*[st.none() | st.integers(-3, 3)] * 2), max_size=8))
def test_as_sqlite_says(rules: list[str], rows: list[tuple[int | None, int | None]]) -> None:
    columns = {name: [row[place] for row in rows] for place, name in enumerate(("words", "lines"))}
    table = pa.table({name: pa.array(values, pa.int64()) for name, values in columns.items()})
    found = first_reason(table, {str(number): rule for number, rule in enumerate(rules)})
    with sqlite3.connect(":memory:") as database:
        for row, reason in zip(rows, found.tolist(), strict=True):
            values = [
                database.execute(f"select {rule} from (select ? as words, ? as lines)", row).fetchone()[0]
                for rule in rules
            ]
            assert reason == next((number for number, value in enumerate(values) if value == 1), -1)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("wrds < 50", r"no column 'wrds' \(did you mean 'words'\?\)"),
        ('language = "en"', "no column 'en' .*texts stand in single quotes"),
        ("words <", "is no expression"),
        ("words < 50; drop table x", "is no expression"),
        ("words", "neither true nor false"),
        ("language < 3", "cannot be worked out"),
        ("1 = 1", "looks at no column"),
        ("avg(words) > 3", "no function 'avg'"),
        ("words > AVG (words)", "no function 'AVG'"),
        ('"avg"(words) > 3', "no function"),
        ("avg/**/(words) > 3", "cannot stand in a rule"),
        ("rank() over (order by words) > 3", "no function 'rank'"),
        ("words in (select words from self)", "'select' cannot stand in a rule"),
        ("words < 3 -- short", "cannot stand in a rule"),
        ("read_csv('/etc/passwd') > 3", "no function 'read_csv'"),
        ("", "is no expression"),
    ],
)
def test_what_a_rule_may_not_say(rule: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        validate(FilterOptions, {"drop": {"too_short": rule}})
    assert raised.value.where == "filters.drop.too_short"


def test_a_column_that_is_not_at_hand() -> None:
    check_rules({"poor": "quality < 0.3", "mail": "pii_email > 3 and source like 'web%'"})
    with pytest.raises(ConfigError, match=r"no column 'quality'.*name a model"):
        first_reason(pa.table({"words": [1]}), {"poor": "quality < 0.3"})


def test_every_function_can_be_called() -> None:
    calls = {
        **{name: f"{name}(quality) > 0" for name in ("abs", "ceil", "floor", "round", "sqrt", "ln", "exp", "sign")},
        **{name: f"{name}(words, 2) > 0" for name in ("pow", "mod", "greatest", "least", "coalesce", "nullif")},
        **{name: f"{name}(source) = 'a'" for name in ("lower", "upper")},
        **{name: f"{name}(source) > 3" for name in ("length", "octet_length")},
        **{name: f"{name}(source, 1) = 'a'" for name in ("left", "right")},
        **{name: f"{name}(source, 'a')" for name in ("starts_with", "ends_with", "regexp_like")},
        "strpos": "strpos(source, 'a') > 0",
        "if": "if(words > 3, true, false)",
    }
    assert calls.keys() == FUNCTIONS
    check_rules(calls)
    check_rules({"quoted": "source = 'it''s (select 1' or \"words\" > 3", "case": "case when words > 3 then true end"})


def test_columns() -> None:
    assert columns_of("words < 50 or lines < 3 and words > 1") == ("words", "lines")


def test_presets_are_changed_by_name() -> None:
    options = FilterOptions(preset="web", drop={"short_lines": None, "too_short": "words < 10", "ours": "lines > 9"})
    rules = rules_of(options)
    assert rules["too_short"] == "words < 10"
    assert "short_lines" not in rules
    assert list(rules)[-1] == "ours"
    assert rules_of(FilterOptions()) == {}
    with pytest.raises(ConfigError, match=r"no rule 'shortlines' \(did you mean 'short_lines'"):
        FilterOptions(preset="web", drop={"shortlines": None})
    with pytest.raises(ConfigError, match="no preset is chosen"):
        FilterOptions(drop={"too_short": None})


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_rules(preset: str) -> None:
    check_rules({name: rule.expression for name, rule in PRESETS[preset].items()})
    assert all(rule.source for rule in PRESETS[preset].values())
    columns = {column for rule in PRESETS[preset].values() for column in columns_of(rule.expression)}
    assert columns <= SIGNALS.keys()
    assert not SIGNALS.keys() & ADDED.keys()


def kept(preset: str, texts: list[str], **options: bool) -> float:
    """The share of the texts that a preset keeps."""
    table = measure(pa.array(texts, pa.large_string()), SignalOptions(**options))
    rules = {name: rule.expression for name, rule in PRESETS[preset].items()}
    return float((first_reason(table, rules) < 0).mean())


def test_scripts_without_spaces() -> None:
    clause = {
        "zh": "委员会将在第{}周再次开会，讨论如何处理那座古老的桥梁。",
        "ja": "委員会は第{}週に集まり、古い橋について話し合います。",
    }
    for text in clause.values():
        page = "\n".join("".join(text.format(place * 7 + i) for i in range(5)) for place in range(6))
        for preset in ("web", "chat", "prose"):
            assert kept(preset, [page]) == 1


def test_what_presets_keep_of_real_text(shared_data: Path) -> None:
    peps = [path.read_text("utf-8") for path in sorted((shared_data / "peps").glob("*.rst"))[::8]]
    posts = [
        # Without the lines of settings at the head.
        path.read_text("utf-8").split("\n---\n", 1)[1]
        for path in sorted((shared_data / "brand_voice_18f/18f_posts").glob("*.md"))[::8]
    ]
    with (shared_data / "bitext_support" / "bitext_support_long_responses.csv").open(newline="") as file:
        chats = [f"{row['instruction']}\n\n{row['response']}" for row in csv.DictReader(file)][::20]
    assert kept("prose", peps, language=False) > 0.85
    assert kept("prose", posts, language=False) > 0.9
    assert kept("chat", chats, language=False) > 0.99


def test_what_presets_drop() -> None:
    draw = random.Random(5)
    code = "\n".join(f"    value_{i} = compute(items[{i}], key={i});" for i in range(60))
    menu = "\n".join(draw.choices(["Home", "About us", "Contact", "Log in", "Basket (0)", "News"], k=80))
    loop = "I am sorry, I cannot help with that. " * 30
    table = "\n".join(" ".join(str(draw.randrange(1000)) for _ in range(10)) for _ in range(30))
    for preset, texts in {
        "prose": (code, menu, loop, table),
        "web": (menu, loop, table),
        "chat": (loop, table),
    }.items():
        for text in texts:
            assert kept(preset, [text], language=False) == 0, (preset, text[:80])
