"""Rules by hand-worked answers, kept and broken."""

from __future__ import annotations

from typing import Any

import pytest

from ownlm.errors import DataError
from ownlm.evaluate.rules import RULES, kept


@pytest.mark.parametrize(
    ("rule", "value", "keeps", "breaks"),
    [
        ("words_at_most", 3, "It's well-known, no?", "one two three four"),
        ("words_at_least", 3, "one two three", "1,000 words"),
        ("sentences_at_most", 2, "One. Two!", "One. Two? Three"),
        ("sentences_at_least", 2, "One\nTwo", "Only one."),
        ("paragraphs", 2, "One\n\nTwo\n", "One\nTwo"),
        ("bullets", 2, "Here:\n- one\n* two", "- one\n-two"),
        ("contains", "Refund", "a refund is on its way", "money back"),
        ("lacks", "sorry", "Here it is.", "We are SORRY."),
        ("starts_with", "dear", "  Dear Ann", "Hello, dear"),
        ("ends_with", "bye.", "Good Bye. \n", "Bye. Ann"),
        ("matches", r"\d{4}", "order 1234", "order 12"),
        ("json", True, '```json\n{"a": 1}\n```', '{"a": 1'),
        ("lower_case", True, "all small", "Not small"),
        ("upper_case", True, "ALL LARGE!", "ALMOST LARGe"),
        ("no_commas", True, "none here", "one, here"),
    ],
)
def test_a_rule_is_kept_or_broken(rule: str, value: Any, keeps: str, breaks: str) -> None:
    assert kept(keeps, [{"rule": rule, "value": value}], "f:1") == [True]
    assert kept(breaks, [{"rule": rule, "value": value}], "f:1") == [False]


def test_every_rule_is_tried_above() -> None:
    (mark,) = (m for m in test_a_rule_is_kept_or_broken.pytestmark if m.name == "parametrize")
    assert {case[0] for case in mark.args[1]} == set(RULES)


def test_an_empty_answer_keeps_no_rule() -> None:
    assert kept(" \n", [{"rule": "no_commas"}, {"rule": "words_at_most", "value": 5}], "f:1") == [False, False]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"rule": "word_at_most", "value": 3}], "no rule 'word_at_most'"),
        ([{"rule": "words_at_most", "value": "few"}], "cannot take 'few'"),
        ([{"rule": "matches", "value": "("}], "cannot take"),
        ([{"value": 3}], "rules must be a list"),
        ([], "rules must be a list"),
        ("words_at_most", "rules must be a list"),
    ],
)
def test_a_wrong_rule_is_told_with_its_line(rules: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        kept("text", rules, "items.jsonl:4")
    assert error.value.where == "items.jsonl:4"
