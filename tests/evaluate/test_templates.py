"""Templates give texts and values, and say what is missing."""

from __future__ import annotations

import pytest

from ownlm.errors import ConfigError, DataError
from ownlm.evaluate.templates import Template


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Question: {{ question }}\nAnswer:", "Question: why?\nAnswer:"),
        (" {{ question }}", " why?"),
        ("{{ question }} ", "why? "),
        ("{{ question }}", "why?"),
        ("{{ choices }}", ["a", "b"]),
        ("{{ choices | length }}", 2),
        ("{{ choices[0] }}{{ choices[1] }}", "ab"),
        ("{{ question | regex_replace('w.y', 'how') }}", "how?"),
        ("plain", "plain"),
        ("{% if choices %}yes{% endif %}", "yes"),
    ],
)
def test_one_expression_is_a_value_and_all_else_a_text(text: str, expected: object) -> None:
    assert Template(text, "prompt").value({"question": "why?", "choices": ["a", "b"]}, "f:1") == expected


@pytest.mark.parametrize("text", ["{{ questoin }}", "is: {{ questoin }}", "{{ questoin.text }}"])
def test_a_missing_field_is_named_with_the_nearest(text: str) -> None:
    with pytest.raises(DataError, match="questoin") as error:
        Template(text, "prompt").value({"question": "why?"}, "items.jsonl:3")
    assert error.value.where == "items.jsonl:3" and "question" in str(error.value.hint)


def test_what_is_no_template_is_told_with_its_key() -> None:
    with pytest.raises(ConfigError, match="no template") as error:
        Template("{{ question", "prompt")
    assert error.value.where == "prompt"


@pytest.mark.parametrize("text", ["{{ ''.__class__.__mro__ }}", "{{ 1 / 0 }}", "{{ question.pop() }}"])
def test_a_template_reaches_nothing_but_the_item(text: str) -> None:
    with pytest.raises(DataError):
        Template(text, "prompt").value({"question": "why?"}, "f:1")
