"""Items found in documents: planted ones of every kind, against a reference that compares words one by one."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.errors import DataError
from ownlm.evaluate.kinds.text import ContinuationTask, PerplexityTask
from ownlm.evaluate.run import read_with_items
from ownlm.evaluate.seen.datasets import Document
from ownlm.evaluate.seen.find import Exposure, find_items
from ownlm.evaluate.suites import read_task, task_names
from ownlm.evaluate.task import Item


def how(found: list[Exposure]) -> list[str]:
    return [one.how for one in found]


def right(item: Item) -> str:
    return item.values["options"][item.values["gold"]]


def test_planted_items_of_every_kind(task: Any, make_items: Any, documents_of: Any) -> None:
    items = make_items(40)
    q = [item.values["q"] for item in items]
    reworded = re.sub(r"^Why did the (\S+)", r"What made \1, as it is asked,", q[3])
    texts = [
        f"An old book. {q[0]} It was {right(items[0])}. The end.",
        f"{q[1]} Nobody could say.",
        f"It was {right(items[2])}.",
        f"{reworded} {right(items[3])}",
        "Read the following question with great care and choose the right answer.\nQuestion: Who?\nAnswer: me",
        q[5].split()[3] + " " + q[5].split()[4],
    ]
    found = find_items({"riddles": (task, items)}, documents_of(texts), hidden=True)
    assert how(found) == ["in full", "in part", "not found", "in full", *["not found"] * 36]
    first, second = found[0].places[0], found[1].places[0]
    assert (first.document, first.where, first.share, first.answer) == ("id1", "train.jsonl:1", 1.0, True)
    assert q[0] in first.text and right(items[0]) in first.text and "An old book" not in first.text
    assert second.share == 1.0 and second.answer is False and second.text == q[1]
    assert right(items[0]) in found[0].text and found[0].where == "riddles.jsonl:1"


def test_a_template_is_no_item_however_few_share_it(task: Any, make_items: Any, documents_of: Any) -> None:
    items = make_items(2)
    text = "Read the following question with great care and choose the right answer.\nQuestion: "
    found = find_items({"riddles": (task, items)}, documents_of([text + "Is it raining?\nAnswer: no"]), hidden=True)
    assert how(found) == ["not found", "not found"]


def test_what_stands_in_many_documents_without_an_answer_is_common(
    task: Any, make_items: Any, documents_of: Any
) -> None:
    items = make_items(30)
    question = items[0].values["q"]
    texts = [f"Text {number}. {question}" for number in range(25)]
    (first, *_) = find_items({"riddles": (task, items)}, documents_of(texts), hidden=True)
    assert first.how == "common text" and first.documents == 25 and not first.seen
    (first, *_) = find_items(
        {"riddles": (task, items)}, documents_of([*texts, f"{question} {right(items[0])}"]), hidden=True
    )
    assert first.how == "in full" and first.documents == 1


def test_short_items_cannot_be_judged(task: Any, make_items: Any, documents_of: Any) -> None:
    short = Item({"q": "Is it?", "options": ["no", "yes", "so"], "gold": 0}, "riddles.jsonl:41")
    found = find_items({"riddles": (task, [*make_items(20), short])}, documents_of(["Is it? no"]), hidden=True)
    assert found[-1].how == "cannot be judged" and how(found[:-1]) == ["not found"] * 20


def test_a_passage_without_its_question_is_no_item(made_up: Any, make_items: Any, documents_of: Any) -> None:
    boolq, _ = read_task("boolq")
    draw = random.Random(5)
    passages = [" ".join(made_up(draw, 60)) for _ in range(12)]
    questions = ["is the " + " ".join(made_up(draw, 8)) for _ in passages]
    items = [
        Item({"query": f"Passage: {p}.\nQuestion: {q}?", "choices": ["no", "yes"], "gold": 1}, f"boolq.jsonl:{n}")
        for n, (p, q) in enumerate(zip(passages, questions, strict=True))
    ]
    texts = [passages[0], f"{passages[1]}. {questions[1]}? yes", f"{questions[2]}?"]
    found = find_items({"boolq": (boolq, items)}, documents_of(texts), hidden=True)
    assert how(found)[:3] == ["not found", "in full", "in part"] and set(how(found)[3:]) == {"not found"}


def test_of_a_long_text_a_part_is_a_part(made_up: Any, documents_of: Any) -> None:
    task = PerplexityTask(name="articles", data="a.jsonl", text="{{ text }}")
    draw = random.Random(3)
    texts = [" ".join(made_up(draw, 800)) for _ in range(3)]
    items = [Item({"text": text}, f"a.jsonl:{number}") for number, text in enumerate(texts)]
    quarter = " ".join(texts[1].split()[200:400])
    found = find_items({"articles": (task, items)}, documents_of([texts[0], quarter, quarter]), hidden=True)
    assert how(found) == ["in full", "in part", "not found"]
    assert found[1].documents == 2 and all(0.2 < place.share < 0.3 for place in found[1].places)


def test_a_continuation_is_the_answer(made_up: Any, documents_of: Any) -> None:
    task = ContinuationTask(name="last", data="l.jsonl", prompt="{{ a }}", continuation=" {{ b }}")
    draw = random.Random(4)
    rows = [{"a": " ".join(made_up(draw, 20)), "b": made_up(draw, 1)[0]} for _ in range(10)]
    items = [Item(row, f"l.jsonl:{number}") for number, row in enumerate(rows)]
    found = find_items(
        {"last": (task, items)}, documents_of([f"{rows[0]['a']} {rows[0]['b']}", rows[1]["a"]]), hidden=True
    )
    assert how(found)[:3] == ["in full", "in part", "not found"]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_what_was_planted_word_for_word_is_found_and_nothing_else(
    made_up: Any, task: Any, make_items: Any, seed: int, data: st.DataObject
) -> None:
    draw = random.Random(f"texts {seed}")
    items = make_items(12, seed)
    planted = data.draw(st.lists(st.tuples(st.integers(0, 11), st.booleans()), max_size=6))
    texts = [" ".join(made_up(draw, draw.randint(0, 60))) for _ in range(5)]
    for number, with_answer in planted:
        place = draw.randrange(len(texts))
        end = f" {right(items[number])}" if with_answer else ""
        texts[place] += f"\n{items[number].values['q'].upper()}{end}.\n" + " ".join(made_up(draw, 70))
    documents = [Document(str(number), str(number), text) for number, text in enumerate(texts)]
    found = find_items({"riddles": (task, items)}, documents, hidden=True)
    assert how(found) == [plain_search(item, texts) for item in items]


def plain_search(item: Item, texts: list[str]) -> str:
    """The reference: the question's words in a row, and the answer's right after."""
    question, answer = (words(text) for text in (item.values["q"], right(item)))
    how = "not found"
    for text in texts:
        told = words(text)
        for start in range(len(told) - len(question) + 1):
            end = start + len(question)
            if told[start:end] == question:
                how = "in full" if told[end : end + len(answer)] == answer or how == "in full" else "in part"
    return how


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@pytest.mark.parametrize("name", task_names())
def test_tasks_that_come_along_are_found_in_their_own_texts(name: str, documents_of: Callable[..., Any]) -> None:
    try:
        ((task, items),) = read_with_items([name], [], None, 60).values()
    except DataError:
        pytest.skip("its items do not come with ownlm")
    sought = [task.sought(item) for item in items]
    texts = [f"{one.passage} {one.question} {' '.join(one.answers[:1])}" for one in sought[:20]]
    found = find_items({name: (task, items)}, documents_of(texts), hidden=True)
    # Some are short, or made from one template, or the same question with another answer.
    assert {one.how for one in found[:20]} <= {"in full", "in part", "cannot be judged"}
    # Beginnings of a few words, all of a few templates, can none of them be judged.
    assert sum(one.seen for one in found[:20]) >= 5 or name == "continuations"
