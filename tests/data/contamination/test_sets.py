"""The shapes of public evaluation sets, each by a row as it is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ownlm.data.contamination.options import DecontaminationOptions, EvaluationSet
from ownlm.data.contamination.sets import Item, read_set, read_sets
from ownlm.errors import DataError


def one(tmp_path: Path, row: Any, **fields: str) -> Item:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (item,) = read_set(EvaluationSet(name="s", path=str(path), **fields))
    return item


ARC = {
    "id": "Mercury_1",
    "question": "Which is a metal?",
    "choices": {"text": ["clay", "tin"], "label": ["A", "B"]},
    "answerKey": "B",
}
SHAPES = [
    (ARC, "Which is a metal?", ("tin",), "", "b"),
    ({**ARC, "choices": {"text": ["clay", "tin"], "label": ["1", "2"]}, "answerKey": "1"}, None, ("clay",), "", "a"),
    ({"question": "Q?", "choices": ["u", "v", "w"], "answer": 2}, "Q?", ("w",), "", "c"),
    ({"question": "Q?", "A": "u", "B": "v", "C": "w", "D": "x", "answer": "D"}, "Q?", ("x",), "", "d"),
    ({"ctx": "He sits", "endings": ["up.", "down."], "label": "1"}, "He sits", ("down.",), "", "b"),
    ({"ctx": "He sits", "endings": ["up.", "down."], "label": "-1"}, "He sits", (), "", ""),
    ({"sentence": "Ann beat Bea as _ ran.", "option1": "Ann", "option2": "Bea", "answer": "1"},
     "Ann beat Bea as Ann ran.", ("Ann",), "", "a"),
    ({"context_options": ["so Ann", "so Bea"], "continuation": "won.", "gold": 1}, "so Bea", ("won.",), "", ""),
    ({"premise": "It rained.", "choice1": "wet", "choice2": "dry", "question": "effect", "label": 0},
     "It rained.", ("wet",), "", "a"),
    ({"premise": "It rained.", "choice1": "wet", "choice2": "dry", "question": "effect", "label": 1},
     "It rained.", ("dry",), "", "b"),
    ({"goal": "Dry it", "sol1": "sun", "sol2": "rain", "label": 0}, "Dry it", ("sun",), "", "a"),
    ({"question": "Is it?", "passage": "It is.", "answer": True}, "Is it?", ("yes",), "It is.", ""),
    ({"query": "Passage: It is.\nIt was.\nQuestion: Is it?", "choices": ["no", "yes"], "gold": 1},
     "Is it?", ("yes",), "It is.\nIt was.", "b"),
    ({"question": "How many?", "answer": "Two and two.\n#### 4"}, "How many?", ("Two and two.\n#### 4", "4"), "", ""),
    ({"question": "Who?", "answer": {"value": "Ada", "aliases": ["Ada", "Countess"]}},
     "Who?", ("Ada", "Countess"), "", ""),
    ({"id": "5", "question": "Who?", "context": "Ada did.", "answers": {"text": ["Ada", "Ada"], "answer_start": [0]}},
     "Who?", ("Ada",), "Ada did.", ""),
    ({"context": "She looked at", "continuation": "him"}, "She looked at", ("him",), "", ""),
    ({"instruction": "Sort it.", "input": "3 1 2", "output": "1 2 3"}, "Sort it.\n3 1 2", ("1 2 3",), "", ""),
    ({"prompt": "def f():", "canonical_solution": "pass", "task_id": "H/0"}, "def f():", ("pass",), "", ""),
    ({"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]},
     "Hi?", ("Yes.",), "", ""),
    ({"text": "Only a text."}, "Only a text.", (), "", ""),
    ("Only a text.", "Only a text.", (), "", ""),
    ({"sentence": "It is good.", "label": 1}, "It is good.", (), "", ""),
    ({"question": "Question: Cafe\u0301?\nAnswer:", "answer": 7}, "Café?", ("7",), "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("row", "question", "answers", "passage", "letter"), SHAPES)
def test_shapes(
    tmp_path: Path, row: Any, question: str | None, answers: tuple[str, ...], passage: str, letter: str
) -> None:
    item = one(tmp_path, row)
    assert item.question == (question or row["question"])
    assert (item.answers, item.passage, item.letter) == (answers, passage, letter)


def test_fields_can_be_named(tmp_path: Path) -> None:
    row = {"question": "no", "frage": "Wo?", "antwort": "B", "wahl": ["hier", "dort"], "text": "Da.", "answer": "x"}
    item = one(tmp_path, row, question="frage", answer="antwort", choices="wahl", passage="text")
    assert item == Item("s", "rows.jsonl:1", "Wo?", ("dort",), "Da.", ("hier", "dort"), "b")


WRONG = [
    ({"frage": "Wo?"}, {}, "no question among 'frage'"),
    ({"question": "  "}, {}, "'question' is empty"),
    ({"question": 3}, {}, "'question' is not a text but int"),
    ({"question": "Wo?"}, {"answer": "antwort"}, "there is no field 'antwort' for the answer among 'question'"),
    ({"question": "Wo?", "choices": "hier"}, {}, "'choices' is not a list of choices but str"),
    ({"messages": [{"role": "system", "content": "x"}]}, {}, "no question"),
    ({"messages": ["x"]}, {}, "a message is not an object"),
    ([1], {}, "an object or a text was expected, not list"),
]


@pytest.mark.parametrize(("row", "fields", "message"), WRONG)
def test_a_wrong_row_is_named(tmp_path: Path, row: Any, fields: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        one(tmp_path, row, **fields)
    assert caught.value.where == f"{tmp_path / 'rows.jsonl'}:1"


def test_half_a_character_is_no_text(tmp_path: Path) -> None:
    assert one(tmp_path, {"question": "a \ud800 b"}).question == "a ? b"


def test_several_sets_and_files_in_order(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"{name} one\n\n{name} two")
    sets = [
        EvaluationSet(name="x", path=[str(tmp_path / "b.txt"), str(tmp_path / "a.txt")]),
        EvaluationSet(name="y", path=str(tmp_path / "c.txt")),
    ]
    found = [(item.set, item.question) for item in read_sets(DecontaminationOptions(sets=sets))]
    assert found == [("x", "b one"), ("x", "b two"), ("x", "a one"), ("x", "a two"), ("y", "c one"), ("y", "c two")]


def test_two_sets_of_one_name() -> None:
    with pytest.raises(ValidationError, match="two evaluation sets are named 'x'"):
        DecontaminationOptions(sets=[EvaluationSet(name="x", path="a"), EvaluationSet(name="x", path="b")])
