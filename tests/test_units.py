"""Numbers as people read them."""

from __future__ import annotations

import pytest

from ownlm import units


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_seconds(seconds: float, text: str):
    assert units.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (1240, "1,240"), (2.4137, "2.41"), (1.0, "1.00"), (99.96, "100"), (1e-4, "1.00e-04")],
)
def test_numbers(value: float, text: str):
    assert units.format_number(value) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1_240_000_000, "1.24 GB"), (3e15, "3e+03 TB")]
)
def test_bytes(count: float, text: str):
    assert units.format_bytes(count) == text


@pytest.mark.parametrize(("count", "text"), [(87, "87"), (12_345, "12.3k"), (134_515_008, "134.5M"), (1.7e9, "1.7B")])
def test_counts(count: float, text: str):
    assert units.format_count(count) == text


def test_plurals():
    assert [units.plural(1, "document"), units.plural(2310, "document")] == ["1 document", "2,310 documents"]
