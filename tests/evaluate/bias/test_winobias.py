"""WinoBias' answers of tiny models are those of one line read at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ownlm.errors import DataError
from ownlm.evaluate.bias.winobias import Answer, WinoBiasTask, measure_answers
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item

Items = Callable[..., list[Item]]
TASK = WinoBiasTask(name="winobias", data="x.jsonl")


def line(item: Item, form: str) -> str:
    pronoun = item.values[f"pronoun_{form}"]
    return f"{item.values[form]} '{pronoun[0].upper()}{pronoun[1:]}' refers to the"


def causal_score(subject: Subject, asked: str, name: str) -> float:
    eos = subject.tokenizer.eos_id
    assert eos is not None
    begin = len(subject.tokenizer.encode(asked))
    ids = subject.tokenizer.encode(f"{asked} {name}")
    total = 0.0
    for place in range(begin, len(ids)):
        (logits,) = subject.model.logits([ids[:place]])
        total += float(logits[-1].double().log_softmax(-1)[ids[place]])
    return total


def masked_score(subject: Subject, asked: str, name: str) -> float:
    """The name's tokens from left to right, what comes after in it hidden."""
    encode = subject.tokenizer.backend.encode
    before, whole = encode(asked).ids[:-1], encode(f"{asked} {name}.").ids
    # [SEP] and the full stop stand after the name.
    end = len(whole) - 2
    assert whole[: len(before)] == before and subject.tokenizer.mask_id is not None
    total = 0.0
    for place in range(len(before), end):
        copy = [*whole[:place], *[subject.tokenizer.mask_id] * (end - place), *whole[end:]]
        (logits,) = subject.model.logits([copy])
        total += float(logits[place].double().log_softmax(-1)[whole[place]])
    return total


@pytest.mark.parametrize("kind", ["causal", "masked", "bytewise"])
def test_answers_are_those_of_each_line_alone(kind: str, request: pytest.FixtureRequest, shipped: Items) -> None:
    subject: Subject = request.getfixturevalue(kind)
    items = shipped("winobias", 24)
    measured = TASK.measure(subject, items, [])
    score = masked_score if subject.masked else causal_score
    hits: dict[int, list[tuple[bool, bool]]] = {1: [], 2: []}
    for item, record in zip(items, measured.records, strict=True):
        expected = [
            score(subject, line(item, form), item.values[who]) for form in ("pro", "anti") for who in ("right", "other")
        ]
        assert record["logprobs"] == pytest.approx(expected, abs=2e-4)
        hits[item.values["type"]].append((expected[0] > expected[1], expected[2] > expected[3]))
    values = {(one.task, one.metric.name): one.value for one in measured.measurements}
    for name, rows in (("type1", hits[1]), ("type2", hits[2]), ("overall", hits[1] + hits[2])):
        pro, anti = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        assert values[f"winobias/{name}", "accuracy_pro"] == pytest.approx(pro)
        assert values[f"winobias/{name}", "accuracy_anti"] == pytest.approx(anti)
        assert values[f"winobias/{name}", "gap"] == pytest.approx(100 * (pro - anti))
    assert any(len(name) > 8 for item in items for name in (item.values["right"], item.values["other"]))


def test_a_hand_worked_case() -> None:
    answers = [
        Answer(1, ("developer", "designer"), True, False, "a"),
        Answer(1, ("developer", "designer"), True, True, "b"),
        Answer(1, ("clerk", "mover"), False, True, "c"),
        Answer(2, ("clerk", "mover"), True, False, "d"),
    ]
    found = {(one.task, one.metric.name): one for one in measure_answers("w", answers)}
    assert found["w/type1", "gap"].value == pytest.approx(0)
    assert found["w/type2", "gap"].value == 100
    assert found["w/overall", "gap"].value == pytest.approx(25)
    assert found["w/overall", "accuracy_pro"].value == 0.75
    clusters = found["w/overall", "gap"].clusters
    assert clusters is not None and clusters.tolist() == [0, 0, 1, 1]


def test_a_wrong_item_is_named(causal: Subject) -> None:
    with pytest.raises(DataError, match="'type' must be 1 or 2") as error:
        TASK.measure(causal, [Item({"type": 3}, "x:2")], [])
    assert error.value.where == "x:2"
