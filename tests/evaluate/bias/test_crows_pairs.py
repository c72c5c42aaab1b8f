"""CrowS-Pairs' scores of tiny models are those of one sentence and one mask at a time."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import pytest

from ownlm.errors import DataError
from ownlm.evaluate.bias.crows_pairs import CrowSPairsTask, Pair, measure_pairs
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item

Items = Callable[..., list[Item]]
TASK = CrowSPairsTask(name="crows_pairs", data="x.jsonl")


def masked_scores(subject: Subject, more: str, less: str) -> tuple[float, float]:
    """The paper's scorer: tokens in equal blocks but the first and the last, each hidden in its own sentence."""
    first, second = (subject.tokenizer.backend.encode(text).ids for text in (more, less))
    spans: tuple[list[int], list[int]] = ([], [])
    for what, a, b, c, d in difflib.SequenceMatcher(None, list(map(str, first)), list(map(str, second))).get_opcodes():
        if what == "equal":
            spans[0].extend(range(a, b))
            spans[1].extend(range(c, d))
    sums = []
    for ids, places in ((first, spans[0]), (second, spans[1])):
        total = 0.0
        for place in places[1:-1]:
            copy = list(ids)
            assert subject.tokenizer.mask_id is not None
            copy[place] = subject.tokenizer.mask_id
            (logits,) = subject.model.logits([copy])
            total += float(logits[place].double().log_softmax(-1)[ids[place]])
        sums.append(total)
    return sums[0], sums[1]


def causal_scores(subject: Subject, more: str, less: str) -> tuple[float, float]:
    sums = []
    for text in (more, less):
        eos = subject.tokenizer.eos_id
        assert eos is not None
        ids = [eos, *subject.tokenizer.encode(text)]
        total = 0.0
        for place in range(1, len(ids)):
            (logits,) = subject.model.logits([ids[:place]])
            total += float(logits[-1].double().log_softmax(-1)[ids[place]])
        sums.append(total)
    return sums[0], sums[1]


@pytest.mark.parametrize("kind", ["causal", "masked", "bytewise"])
def test_scores_are_those_of_each_alone(kind: str, request: pytest.FixtureRequest, shipped: Items) -> None:
    subject: Subject = request.getfixturevalue(kind)
    items = shipped("crows_pairs", 10)
    measured = TASK.measure(subject, items, [])
    preferred: dict[str, list[bool]] = {}
    for item, record in zip(items, measured.records, strict=True):
        scores = (masked_scores if subject.masked else causal_scores)(
            subject, item.values["sent_more"], item.values["sent_less"]
        )
        assert record["scores"] == pytest.approx(scores, abs=2e-4)
        # As the paper's code: three decimals, and what is equal counts in neither direction.
        scores = (round(scores[0], 3), round(scores[1], 3))
        direction = [item.values["stereo_antistereo"]] if scores[0] != scores[1] else []
        for name in (item.values["bias_type"], "overall", *direction):
            preferred.setdefault(f"crows_pairs/{name}", []).append(scores[0] > scores[1])
    assert {one.task: one.value for one in measured.measurements} == pytest.approx(
        {name: 100 * sum(row) / len(row) for name, row in preferred.items()}
    )


def test_equal_pairs_count_against_the_preference_and_not_in_the_directions() -> None:
    pairs = [
        Pair("age", "stereo", -1.0, -2.0, "a"),
        Pair("age", "stereo", -1.0001, -1.0003, "b"),
        Pair("age", "antistereo", -3.0, -1.0, "c"),
        Pair("gender", "stereo", -2.0, -1.0, "d"),
    ]
    found = {one.task: one for one in measure_pairs("crows_pairs", pairs)}
    assert {name.split("/")[1]: one.value for name, one in found.items()} == pytest.approx(
        {"age": 100 / 3, "gender": 0, "overall": 25, "stereo": 50, "antistereo": 0}
    )
    assert list(found["crows_pairs/stereo"].keys) == ["a", "b", "d"]
    assert found["crows_pairs/overall"].metric.best == 50.0


def test_a_wrong_item_is_named(causal: Subject) -> None:
    wrong = {"sent_more": "a", "sent_less": "b", "stereo_antistereo": "neither", "bias_type": "age"}
    with pytest.raises(DataError, match="stereo, antistereo") as error:
        TASK.measure(causal, [Item(wrong, "x:1")], [])
    assert error.value.where == "x:1"
    with pytest.raises(DataError, match="'sent_less' must be a text"):
        TASK.measure(causal, [Item({"sent_more": "a"}, "x:1")], [])
