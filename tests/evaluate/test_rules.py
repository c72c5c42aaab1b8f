"""Rules by hand-worked answers, kept and broken."""

from __future__ import annotations

from typing import Any

import pytest

from ownlm.errors import DataError
from ownlm.evaluate.rules import RULES, kept

CASES = [
    ("words", 3, "It's well-known, no?", "one two"),
    ("words_at_most", 3, "It's well-known, no?", "one two three four"),
    ("words_at_least", 3, "one two three", "1,000 words"),
    ("sentences", 2, "One. Two!", "Only one."),
    ("sentences_at_most", 2, "One. Two!", "One. Two? Three"),
    ("sentences_at_least", 2, "One\nTwo", "Only one."),
    ("paragraphs", 2, "One\n\nTwo\n", "One\nTwo"),
    ("paragraphs_at_most", 1, "One\nTwo", "One\n\nTwo"),
    ("paragraphs_at_least", 2, "One\r\n\r\nTwo\n\nThree", "One"),
    ("lines", 2, "One\n\nTwo\n", "One"),
    ("lines_at_most", 1, "One", "One\nTwo"),
    ("lines_at_least", 2, "One\nTwo\nThree", "One\n---"),
    ("bullets", 2, "Here:\n- one\n* two", "- one\n-two"),
    ("bullets_at_most", 1, "+ one", "- one\n- two"),
    ("bullets_at_least", 2, "• one\n  • two\n  – three", "- one"),
    ("numbered", 2, "1. one\n2) two", "1. one\n2 two"),
    ("numbered_at_most", 1, "1. one\n1995 was good", "1. one\n2. two"),
    ("numbered_at_least", 2, " 1. one\n 2. two\n 3. three", "- one\n- two"),
    ("headings", 1, "# One\ntext", "#one\ntext"),
    ("headings_at_most", 1, "## One", "# One\n# Two"),
    ("headings_at_least", 2, "# One\n### Two", "# One"),
    ("characters_at_most", 3, " abc\n", "abcd"),
    ("contains", "Refund", "a refund is on its way", "money back"),
    ("contains", ["tea", "[date]"], "steam on [date]", "tea"),
    ("lacks", "sorry", "Here it is.", "We are SORRY."),
    ("lacks", ["!", "z"], "Here it is.", "A zoo."),
    ("has_words", ["tea", "time"], "Tea, time.", "teatime"),
    ("lacks_words", ["he", "cat"], "the category", "did he?"),
    ("word_at_least", ["tea", 2], "Tea and tea", "tea and teas"),
    ("word_at_most", ["the", 1], "then the other", "the one, the other"),
    ("starts_with", "dear", "  Dear Ann", "Hello, dear"),
    ("starts_with", ["yes", "no"], "No, thanks", "Perhaps"),
    ("ends_with", "bye.", "Good Bye. \n", "Bye. Ann"),
    ("one_of", ["yes", "no"], "Yes.", "yes, it is"),
    ("quoted", True, "\u201cAll of it\u201d", '"some" of it'),
    ("matches", r"\d{4}", "order 1234", "order 12"),
    ("json", True, '```json\n{"a": 1}\n```', '{"a": 1'),
    ("json", False, "text", "[1]"),
    ("json_keys", ["a", "b"], '{"a": 1, "b": null, "c": 2}', '["a", "b"]'),
    ("lower_case", True, "all small, ça va? 3", "Not small"),
    ("lower_case", False, "Not small", "all small"),
    ("upper_case", True, "ALL LARGE: ÉTÉ!", "ALMOST LARGe"),
    ("capital_words_at_least", 2, "DO NOT touch", "I DO"),
    ("capital_words_at_most", 0, "I do. A dog.", "the USA"),
    ("bold_at_least", 2, "**one** and **two three**", "**one** and *two* ** three**"),
    ("placeholders_at_least", 2, "Dear [name], on [the date]", "Dear [name] []"),
    ("no_commas", True, "none here", "one, here"),
]


@pytest.mark.parametrize(("rule", "value", "keeps", "breaks"), CASES)
def test_a_rule_is_kept_or_broken(rule: str, value: Any, keeps: str, breaks: str) -> None:
    assert kept(keeps, [{"rule": rule, "value": value}], "f:1") == [True]
    assert kept(breaks, [{"rule": rule, "value": value}], "f:1") == [False]


def test_every_rule_is_tried_above() -> None:
    assert {case[0] for case in CASES} == set(RULES)


@pytest.mark.parametrize(
    ("rule", "value", "text", "expected"),
    [
        # Unicode: both forms of an accent, typographic quotes, letters of one case only, full-width commas.
        ("contains", "caf\u00e9", "the cafe\u0301", True),
        ("words", 1, "re\u0301sume\u0301", True),
        ("contains", "don't", "I don\u2019t", True),
        ("has_words", "Straße", "DIE STRASSE", True),
        ("contains", "soft", "so\u00adft", True),
        ("lower_case", True, "123", False),
        ("upper_case", True, "123 !", False),
        ("upper_case", True, "\u01c5", False),
        ("no_commas", True, "一\uff0c二", False),
        ("sentences", 2, "你好。再见！", True),
        ("words", 2, "🙂 two words 🙂", True),
        # Markdown: emphasis, rules of dashes, quotes, lists whose numbers are no sentences.
        ("starts_with", "Dear Ann", "**Dear** Ann", True),
        ("ends_with", "regards", "*Kind regards*", True),
        ("contains", "**bold**", "not bold", False),
        ("contains", "snake_case", "snake_case", True),
        ("has_words", "tea", "_tea_ and ***more***", True),
        ("bullets", 1, "- one\n---\n- - -\n* * *", True),
        ("bullets", 0, "-\ntext", True),
        ("sentences", 2, "1. First.\n2. Second.", True),
        ("words", 2, "---\n- one\n* two\n___", True),
        ("paragraphs", 2, "One\n\n---\n\nTwo", True),
        # Code: its fences are no text, its comments no headings, its lists no lists.
        ("words", 2, "```python\nprint twice\n```", True),
        ("headings", 0, "```sh\n# a comment\n```", True),
        ("bullets", 1, "- one\n```yaml\n- two\n```", True),
        ("bullets", 0, "~~~\n- never closed", True),
        # Sentences: titles, initials, abbreviations, numbers, quotes, dots.
        ("sentences", 1, "Dr. Smith met J. R. Lee, e.g. at 3.5 km, etc. and left.", True),
        ("sentences", 2, 'He said "Stop!" Then he left.', True),
        ("sentences", 1, "Well... perhaps?!", True),
        ("sentences", 1, "Version 1.2.3 is on example.com", True),
        # Words: dashes part them, hyphens do not.
        ("words", 2, "one—two", True),
        ("words", 2, "one--two", True),
        ("words", 1, "1990–1995", True),
        ("words", 3, "and/or well-known 50%", True),
        # JSON: strict, alone.
        ("json", True, "NaN", False),
        ("json", True, '{"a": Infinity}', False),
        ("json", True, "[" * 100_000, False),
        ("json", True, '{"a": 1} and more', False),
        ("json", True, "```JSON\r\n[1]\r\n```", True),
        ("json", True, "Here:\n```json\n[1]\n```", False),
        ("json_keys", "a", '{"b": {"a": 1}}', False),
        ("one_of", ["yes"], "**Yes**", True),
        ("quoted", True, '"one" and "two"', False),
    ],
)
def test_unicode_markdown_and_code(rule: str, value: Any, text: str, expected: bool) -> None:
    assert kept(text, [{"rule": rule, "value": value}], "f:1") == [expected]


def test_an_empty_answer_keeps_no_rule() -> None:
    assert kept(" \n", [{"rule": "no_commas"}, {"rule": "words_at_most", "value": 5}], "f:1") == [False, False]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"rule": "word_at_mst", "value": 3}], "no rule 'word_at_mst'"),
        ([{"rule": "words_at_most", "value": "few"}], "cannot take 'few'"),
        ([{"rule": "words_at_most"}], "cannot take None: a count"),
        ([{"rule": "words_at_most", "value": 2.5}], "a count is expected"),
        ([{"rule": "bullets", "value": -1}], "a count is expected"),
        ([{"rule": "json", "value": "false"}], "true or false"),
        ([{"rule": "contains", "value": " "}], "a text, or a list"),
        ([{"rule": "contains", "value": []}], "a text, or a list"),
        ([{"rule": "lacks"}], "a text, or a list"),
        ([{"rule": "word_at_least", "value": "tea"}], "a word and a count"),
        ([{"rule": "words_at_most", "valeu": 3}], "no 'valeu'"),
        ([{"rule": "matches", "value": "("}], "cannot take"),
        ([{"value": 3}], "rules must be a list"),
        ([], "rules must be a list"),
        ("words_at_most", "rules must be a list"),
    ],
)
def test_a_wrong_rule_is_told_with_its_line(rules: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        kept("", rules, "items.jsonl:4")
    assert error.value.where == "items.jsonl:4"
