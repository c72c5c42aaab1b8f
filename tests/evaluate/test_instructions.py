"""The instructions that come along: each says what its rules hold it to, and answers written by hand keep them."""

from __future__ import annotations

from typing import Any

import pytest

from ownlm.evaluate.kinds.generate import GenerateTask
from ownlm.evaluate.rules import RULES, kept
from ownlm.evaluate.suites import find_data, read_task
from ownlm.evaluate.task import Item, read_items

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight"]
# What is asked for in other words than the rule's value.
SAID_OTHERWISE = {
    ("numbered", 3): "three questions",
    ("sentences_at_least", 2): "fewer than 2",
    ("word_at_least", 1): "exactly once",
    ("word_at_most", 1): "exactly once",
    ("one_of", "8"): "digit only",
    ("one_of", "carrot"): "carrot",
    ("contains", "Paris"): "capital of France",
    ("contains", "bonjour"): "French",
    ("lacks", '"'): "no quotation marks",
    ("lacks", "!"): "no exclamation mark",
    ("ends_with", "!"): "exclamation mark",
    ("ends_with", "?"): "question mark",
    ("headings_at_least", 1): "a heading",
    ("paragraphs", 1): "one paragraph",
    ("bullets", 6): "list of 3 mountains",
    ("bullets", 4): "each beginning with a dash",
    ("bold_at_least", 1): "in bold",
    ("bold_at_least", 3): "Put each title in bold",
    ("words", 1): "one word",
    ("headings", 2): "eading",
}


@pytest.fixture(scope="module")
def items() -> list[Item]:
    task, folder = read_task("instructions")
    assert isinstance(task, GenerateTask) and task.chat
    return read_items(find_data(task.data, folder, None, task.name))


def test_about_a_hundred_of_many_kinds(items: list[Item]) -> None:
    assert len(items) == 100 == len({item.values["prompt"] for item in items})
    used = {rule["rule"] for item in items for rule in item.values["rules"]}
    kinds = {name.removesuffix("_at_least").removesuffix("_at_most") for name in RULES}
    assert {name.removesuffix("_at_least").removesuffix("_at_most") for name in used} == kinds
    for item in items:
        kept("x", item.values["rules"], item.where)


def test_a_prompt_names_what_its_rules_ask_for(items: list[Item]) -> None:
    for item in items:
        prompt = item.values["prompt"]
        for rule in item.values["rules"]:
            name, value = rule["rule"], rule["value"]
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, bool) or name == "matches":
                    continue
                said = [str(one)] + ([NUMBERS[one]] if isinstance(one, int) and one < len(NUMBERS) else [])
                said += [SAID_OTHERWISE[name, one]] if (name, one) in SAID_OTHERWISE else []
                assert any(text.lower() in prompt.lower() for text in said), (prompt, name, one)


@pytest.mark.parametrize(
    ("beginning", "answer"),
    [
        ("List exactly 3 things", "- towel\n- hat\n- water"),
        ("Answer in capital letters only", "THE CAPITAL IS PARIS."),
        ("Give the name and the age", '```json\n{"name": "Ann", "age": 30}\n```'),
        ("Write an email that tells", "Dear customer,\n\nYour parcel is late.\n\nKind regards"),
        ("Write a product description", "# Backpack\n\nIt holds a lot.\n\n- light\n- strong"),
        ("Put your whole answer", "\u201cLet me sleep.\u201d"),
        ("Give a list of the numbers", "[1, 2, 3, 4, 5]"),
        ("Translate", '"Bonjour"'),
        ("Write a text of at least 2 paragraphs", "Sort your rubbish.\n\nThen take it away."),
        ("Write a plan for a weekend", "# Saturday\n\nRest.\n\n# Sunday\n\nRest again."),
        ("Answer with valid JSON and nothing else", '{"primes": [2, 3, 5]}'),
        ("Write a list of 3 rivers", "# Rivers\n- Nile\n- Rhine\n- Amazon\n\n# Mountains\n- Etna\n- Elbrus\n- Fuji"),
        ("Write a postcard", "Lovely here.\n\nP.S. Bring shoes."),
        ("Write the alphabet's", "A\nB\nC"),
        ("Write a farewell", "Farewell, Ann! We will miss you. Good luck!"),
        ("Compare tea and coffee", "**Tea** is mild.\n\nCoffee is strong."),
    ],
)
def test_right_answers_keep_all_rules(items: list[Item], beginning: str, answer: str) -> None:
    (item,) = (one for one in items if one.values["prompt"].startswith(beginning))
    rules: list[dict[str, Any]] = item.values["rules"]
    assert all(kept(answer, rules, item.where)), kept(answer, rules, item.where)
