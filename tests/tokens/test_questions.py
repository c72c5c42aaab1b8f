"""Questions as their files have them, and answers that do not stand where the file says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import DataError
from ownlm.tokens.questions import Answer, Question, locate, read_questions, right_answers

CONTEXT = "The model reads text. The model  writes text,\nword by word."


def squad(*questions: dict[str, Any], context: str = CONTEXT) -> dict[str, Any]:
    return {"version": "2.0", "data": [{"title": "t", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def write(path: Path, value: Any) -> Path:
    lines = [json.dumps(row) for row in value] if path.suffix == ".jsonl" else [json.dumps(value)]
    path.write_text("\n".join(lines))
    return path


def read(path: Path) -> list[Question]:
    return list(read_questions([path]))


@pytest.mark.parametrize(
    ("file", "questions", "unanswerable"),
    [("squad_like/xquad.en.json", 1190, 0), ("squad_like/squad2_halfdev_chute.json", 6078, 3168)],
)
def test_squads_own_files(file: str, questions: int, unanswerable: int, shared_data: Path) -> None:
    found = read(shared_data / file)
    assert len(found) == questions and len({question.key for question in found}) == questions
    assert sum(not question.answers for question in found) == unanswerable
    for question in found:
        assert question.wrong is None and not question.moved
        for answer in question.answers:
            assert question.context[answer.start : answer.end] == answer.text


def test_every_way_of_writing_a_row(tmp_path: Path) -> None:
    asked = {"question": "Who reads?", "context": CONTEXT}
    rows: list[dict[str, Any]] = [
        {**asked, "id": "a", "answers": [{"text": "The model", "answer_start": 0}]},
        {**asked, "id": "b", "answers": {"text": ["The model"], "answer_start": [22]}},
        {**asked, "answer": "reads text"},
        {**asked, "answers": ["reads text", "word by word"]},
        {**asked, "answers": {"text": [], "answer_start": []}},
        {**asked, "answers": []},
        {**asked, "answer": None},
        {**asked, "answers": [{"text": "The model", "answer_start": 0}], "is_impossible": True},
        {**asked, "is_impossible": True},
    ]
    found = read(write(tmp_path / "a.jsonl", rows))
    one, two = Answer("reads text", 10), Answer("word by word", CONTEXT.index("word"))
    expected = [(Answer("The model", 0),), (Answer("The model", 22),), (one,), (one, two), (), (), (), (), ()]
    assert [question.answers for question in found] == expected
    assert [question.id for question in found[:3]] == ["a", "b", "3"]
    table = tmp_path / "a.csv"
    table.write_text("question,context,answer,answer_start\nwho,x y x,x,4\nwho,x y x,,\n")
    assert [question.answers for question in read(table)] == [(Answer("x", 4),), ()]
    # As tables write whole numbers of which some are missing.
    table.write_text("question,context,answer,answer_start\nwho,x y x,x,4.0\nwho,x y x,,\n")
    assert [question.answers for question in read(table)] == [(Answer("x", 4),), ()]
    floats = [{**asked, "answer": "The model", "answer_start": 22.0}]
    assert read(write(tmp_path / "b.jsonl", floats))[0].answers == (Answer("The model", 22),)
    assert read(write(tmp_path / "a.json", rows))[0].answers == expected[0]


def test_an_answer_is_where_it_is_said_to_be_or_in_the_one_place_near_by() -> None:
    assert locate("The model", 22, CONTEXT) == Answer("The model", 22)
    # Spaces around it are not of it; spaces in it may be others.
    assert locate(" reads ", 9, CONTEXT) == Answer("reads", 10)
    assert locate("model writes", 26, CONTEXT) == Answer("model  writes", 26)
    assert locate("text, word", 0, CONTEXT) == Answer("text,\nword", 40)
    # Off by a few characters, and the only one near.
    assert locate("writes", 30, CONTEXT) == Answer("writes", 33)
    # Two are near.
    assert locate("The model", 10, CONTEXT) is None
    assert locate("a a", 1, "a a a") is None
    # Far away, missing, nothing.
    assert locate("end", 0, "x" * 60 + " end") is None
    assert locate("end", None, "x" * 60 + " end") == Answer("end", 61)
    assert locate("cat", 0, CONTEXT) is None
    assert locate("cat", -1, CONTEXT) is None
    assert locate("  ", 3, CONTEXT) is None
    assert locate("(a+b)*", 2, "x (a+b)* y") == Answer("(a+b)*", 2)


def test_what_was_moved_and_what_is_wrong_is_noted(tmp_path: Path) -> None:
    def asked(text: str, start: int) -> dict[str, Any]:
        return {"question": "q", "id": text, "answers": [{"text": text, "answer_start": start}]}

    right, moved, wrong = read(
        write(tmp_path / "a.json", squad(asked("reads", 10), asked("writes", 30), asked("cat", 0)))
    )
    assert (right.moved, right.wrong) == (0, None)
    assert (moved.moved, moved.wrong, moved.answers) == (1, None, (Answer("writes", 33),))
    assert [list(right_answers(one)) for one in (right, moved, wrong)] == [["reads"], ["writes"], ["cat"]]
    assert wrong.wrong == "cat" and wrong.where == f"{tmp_path / 'a.json'}: question 'cat'"


@pytest.mark.parametrize(
    ("value", "where", "message", "hint"),
    [
        ([{"context": "x", "answers": []}], ":1", "no 'question' here", ""),
        ([{"question": "q", "contxt": "x", "answers": []}], ":1", "no 'context' here", "did you mean 'contxt'?"),
        ([{"question": "q", "context": "x"}], ":1", "no 'answers' here", "known: context, question"),
        ([{"question": "q", "context": " ", "answers": []}], ":1", "'context' is empty", ""),
        ([{"question": 3, "context": "x", "answers": []}], ":1", "'question' is not a text but int", ""),
        ([{"question": "q", "context": "x\ud800", "answers": []}], ":1", "half a character", ""),
        ([{"question": "q", "context": "x", "answers": [3]}], ":1", "an answer is not a text but int", ""),
        ([{"question": "q", "context": "x", "answers": [{"txt": "x"}]}], ":1", "no 'text' here", "'txt'"),
        ([{"question": "q", "context": "x", "answer": "x", "answer_start": "a"}], ":1", "must be a whole number", ""),
        (
            [{"question": "q", "context": "x", "answer": "x", "answer_start": "9" * 5000}],
            ":1",
            "must be a whole number",
            "",
        ),
        (
            [{"question": "q", "context": "x", "answers": {"text": ["x"], "answer_start": [0, 1]}}],
            ":1",
            "as many places as texts",
            "",
        ),
        ({"dat": []}, "", "no 'data' here, only 'dat'", "did you mean 'dat'?"),
        ({"data": {}}, "", "'data' must be a list of objects", ""),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, "", "no 'context' here", ""),
        ({"data": []}, "", "this file has no questions", ""),
    ],
)
def test_what_is_wrong_is_said_with_its_place(value: Any, where: str, message: str, hint: str, tmp_path: Path) -> None:
    path = write(tmp_path / ("a.json" if isinstance(value, dict) else "a.jsonl"), value)
    with pytest.raises(DataError) as caught:
        read(path)
    assert message in caught.value.message and caught.value.where == f"{path}{where}"
    assert hint in (caught.value.hint or "")


def test_a_question_may_be_asked_without_an_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "q", "context": "x"}])
    (question,) = read_questions([path], answered=False)
    assert question.answers == () and question.wrong is None
