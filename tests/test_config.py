"""Configuration: YAML, dotted overrides, errors that name the nearest key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ownlm.config import Config, describe, flatten, merge, parse_override, read_yaml, validate
from ownlm.errors import ConfigError, DataError


class Inner(Config):
    rate: float = 0.1
    """How fast."""
    kind: Literal["adamw", "muon"] = "adamw"
    """Which one."""


class Outer(Config):
    name: str
    """What it is called."""
    inner: Inner = Inner()
    """The inner part."""
    every: int | None = Field(default=None, ge=1, alias="check")
    """How often."""
    count: int = 1
    """How many."""
    entries: list[Inner] = Field(default_factory=list)
    """Several."""


def test_a_yaml_file_is_read(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("name: a\ninner: {rate: 3e-4}\n")
    config = validate(Outer, read_yaml(path))
    # YAML 1.1 reads 3e-4 as text; a user who writes it means a number.
    assert (config.name, config.inner.rate) == ("a", 3e-4)


def test_an_empty_yaml_file_is_no_key(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("# nothing yet\n")
    assert read_yaml(tmp_path / "c.yaml") == {}


@pytest.mark.parametrize(("text", "where"), [("a: 1\nb: [1,\nc: 2", "c.yaml:3"), ("- a\n- b\n", "c.yaml")])
def test_a_wrong_yaml_file_is_named_with_its_line(tmp_path: Path, text: str, where: str):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "c.yaml")
    assert str(caught.value.where) == str(tmp_path / where)


def test_a_missing_yaml_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        read_yaml(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("values", "where", "hint"),
    [
        ({"name": "a", "inner": {"rat": 1}}, "inner.rat", "did you mean 'rate'?"),
        ({"name": "a", "cheque": 1}, "cheque", "did you mean 'check'?"),
        ({"name": "a", "entries": [{"knd": "muon"}]}, "entries.0.knd", "did you mean 'kind'?"),
        ({"name": "a", "inner": {"kind": "adam"}}, "inner.kind", "did you mean 'adamw'?"),
    ],
)
def test_a_wrong_name_is_an_error_that_names_the_nearest(values: dict[str, Any], where: str, hint: str):
    with pytest.raises(ConfigError) as caught:
        validate(Outer, values)
    assert (caught.value.where, caught.value.hint) == (where, hint)


@pytest.mark.parametrize(
    ("values", "where", "message"),
    [
        ({}, "name", "'name' is missing"),
        ({"name": None}, "name", "should be text (got nothing)"),
        ({"name": "a", "check": 0}, "check", "should be greater than or equal to 1 (got 0)"),
        ({"name": "a", "inner": {"rate": "fast"}}, "inner.rate", "should be a valid number"),
        ({"name": "a", "inner": {"rate": True}}, "inner.rate", "should be a valid number"),
        ({"name": "a", "count": True}, "count", "should be a whole number"),
        ({"name": "a", "check": False}, "check", "should be a whole number"),
        ({"name": "a", "count": "8,192"}, "count", "should be a whole number"),
        ({"name": "a", "inner": "adamw"}, "inner", "should be a mapping of keys to values"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, Any], where: str, message: str):
    with pytest.raises(ConfigError) as caught:
        validate(Outer, values, source="c.yaml")
    assert caught.value.where == f"{where} in c.yaml"
    assert message in caught.value.message


def test_a_config_does_not_change():
    config = validate(Outer, {"name": "a"})
    with pytest.raises(ValueError, match="frozen"):
        config.name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("optimizer.lr=3e-4", "optimizer.lr", 3e-4),
        ("steps=500", "steps", 500),
        ("adapter=null", "adapter", None),
        ("data.length=none", "data.length", None),
        ("compile=true", "compile", True),
        ("data.train=a.txt", "data.train", "a.txt"),
        ("data.train=[a.txt, b.txt]", "data.train", ["a.txt", "b.txt"]),
        ("note=a=b", "note", "a=b"),
        ("note={not yaml", "note", "{not yaml"),
    ],
)
def test_an_override_is_read_as_its_writer_meant(text: str, key: str, value: Any):
    assert parse_override(text) == (key, value)


@pytest.mark.parametrize("text", ["optimizer.lr", "=3"])
def test_what_is_no_override_is_an_error(text: str):
    with pytest.raises(ConfigError, match="is not an override"):
        parse_override(text)


@given(st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_number_comes_through_an_override(number: float):
    value = parse_override(f"key={number!r}")[1]
    assert value == number
    assert isinstance(value, type(number))


def test_merging_sets_dotted_keys_and_leaves_the_input_alone():
    base = {"a": {"b": 1, "c": {"d": 2}}}
    assert merge(base, {"a.c.d": 3, "e.f": 4}) == {"a": {"b": 1, "c": {"d": 3}}, "e": {"f": 4}}
    assert base == {"a": {"b": 1, "c": {"d": 2}}}


KEYS = st.text("abcdef", min_size=1, max_size=3)
LEAVES = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=8)


@given(st.dictionaries(KEYS, TREES, max_size=3))
def test_flattened_values_merge_back(values: dict[str, Any]):
    assert merge({}, dict(flatten(values))) == values


def test_every_field_is_described_under_the_name_a_user_writes():
    assert describe(Outer) == [
        ("name", "str", "required", "What it is called."),
        ("inner", "Inner", "", "The inner part."),
        ("inner.rate", "float", "0.1", "How fast."),
        ("inner.kind", "adamw | muon", "adamw", "Which one."),
        ("check", "int", "none", "How often."),
        ("count", "int", "1", "How many."),
        ("entries", "list of Inner", "", "Several."),
        ("entries.rate", "float", "0.1", "How fast."),
        ("entries.kind", "adamw | muon", "adamw", "Which one."),
    ]


def test_a_key_that_stands_twice_is_one_sentence(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("name: a\ninner:\n  rate: 1\n  kind: muon\n  rate: 2\n")
    with pytest.raises(ConfigError, match=r"c\.yaml:5: the key 'rate' stands twice") as caught:
        read_yaml(path)
    assert caught.value.hint is not None and "line 3" in caught.value.hint
    path.write_text("list:\n- {a: 1}\n- {a: 1, b: {c: 1, 'c': 2}}\n")
    with pytest.raises(ConfigError, match=":3: the key 'c' stands twice"):
        read_yaml(path)
    with pytest.raises(ConfigError, match="the key 'rate' stands twice"):
        parse_override("inner={rate: 1, rate: 2}")


def test_keys_of_other_mappings_and_merged_ones_may_be_the_same(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "x: {inner: &a {<<: {k: 1, l: 2}, k: 3}}\ny: {<<: *a, l: 4}\nz: {<<: [*a, {m: 5}], k: 6}\n1: a\n'1': b\n"
    )
    assert read_yaml(path) == {
        "x": {"inner": {"k": 3, "l": 2}},
        "y": {"k": 3, "l": 4},
        "z": {"k": 6, "l": 2, "m": 5},
        1: "a",
        "1": "b",
    }


class Choosing(Config):
    fast: bool | Literal["auto"] = "auto"
    """A truth value or a word."""
    spaces: dict[str, Inner | list[float]] = Field(default_factory=dict)
    """Two kinds of value under names of the user's."""


def test_a_wrong_value_of_several_kinds_has_the_users_key_alone():
    assert validate(Choosing, {"fast": True}).fast is True
    for values, where in (({"fast": "maybe"}, "fast"), ({"spaces": {"a.b": 3}}, "spaces.a.b")):
        with pytest.raises(ConfigError) as caught:
            validate(Choosing, values)
        assert caught.value.where == where


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("name: a\nbase b\n", 2, "'key: value'"),
        ("name: a\ninner:\n\trate: 1\n", 3, "not with tabs"),
        ("inner:\n rate: 1\n  kind: muon\n", 3, "the same column"),
    ],
)
def test_a_slip_in_yaml_is_named_with_its_own_line_and_a_way_out(tmp_path: Path, text: str, line: int, hint: str):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f":{line}: this is not valid YAML") as caught:
        read_yaml(path)
    assert caught.value.hint is not None and hint in caught.value.hint


def test_data_or_a_run_in_place_of_a_config_is_said(tmp_path: Path):
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(ConfigError, match="this is data"):
        read_yaml(tmp_path / "texts.jsonl")
    (tmp_path / "config.yaml").write_text("name: a\n")
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path)
    assert caught.value.hint is not None and str(tmp_path / "config.yaml") in caught.value.hint


def test_a_key_of_another_section_is_found():
    with pytest.raises(ConfigError) as caught:
        validate(Outer, {"name": "a", "rate": 1})
    assert caught.value.hint == "did you mean 'inner.rate' or 'entries.rate'?"


def test_a_word_in_place_of_a_section_shows_how_to_write_it():
    with pytest.raises(ConfigError) as caught:
        validate(Outer, {"name": "a", "inner": "muon"})
    assert caught.value.hint == "write inner: {kind: muon}"


class Pairs(Config):
    """A list of two."""

    two: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = (0.0, 1.0)
    """Two numbers."""


def test_a_list_that_is_too_short_is_named_as_a_whole():
    assert describe(Pairs)[0][1] == "tuple of float, float"
    with pytest.raises(ConfigError) as caught:
        validate(Pairs, {"two": [1]})
    assert (caught.value.where, caught.value.message) == ("two", "a value is missing from this list")
    with pytest.raises(ConfigError, match="two: should have at most 2 of them, not 3"):
        validate(Pairs, {"two": [1, 2, 3]})
    with pytest.raises(ConfigError, match=r"should be a list \(got nothing\)"):
        validate(Pairs, {"two": None})


def test_what_is_missing_is_described():
    with pytest.raises(ConfigError) as caught:
        validate(Outer, {})
    assert caught.value.hint == "What it is called."


def test_a_wrong_key_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: a\n\n# what\ninner:\n  - {size: 1}\n  - size: 2\n    sice: 3\n")

    class Inner(Config):
        size: int = 0

    class Outer(Config):
        name: str
        inner: tuple[Inner, ...] = ()

    with pytest.raises(ConfigError) as error:
        validate(Outer, read_yaml(path), source=str(path))
    assert error.value.where == f"inner.1.sice in {path}:7"
    path.write_text("name: a\ninner:\n  - {size: large}\n")
    with pytest.raises(ConfigError) as error:
        validate(Outer, read_yaml(path), source=str(path))
    assert error.value.where == f"inner.0.size in {path}:3"
    # What the command line says instead stands in no line.
    with pytest.raises(ConfigError) as error:
        validate(Outer, {"name": "a", "inner": [{"size": "huge"}]}, source=str(path))
    assert error.value.where == f"inner.0.size in {path}"
