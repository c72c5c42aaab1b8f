"""StereoSet's scores of tiny models are those of each sentence and mask read alone."""

from __future__ import annotations

import math
import string
from collections.abc import Callable

import pytest

from ownlm.errors import DataError, ModelError
from ownlm.evaluate.bias.stereoset import NO_HEAD, StereoSetTask, Triple, attribute, measure_triples
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item
from ownlm.model.transformer import Transformer

Items = Callable[..., list[Item]]
TASK = StereoSetTask(name="stereoset", data="x.jsonl")
OPTIONS = ("stereotype", "anti_stereotype", "unrelated")


def chance(subject: Subject, ids: list[int], place: int, target: int) -> float:
    """The probability of a token in a row of a text read alone."""
    (logits,) = subject.model.logits([ids])
    return float(logits[place].double().softmax(-1)[target])


def causal_score(subject: Subject, item: Item, text: str) -> float:
    encode, eos = subject.tokenizer.encode, subject.tokenizer.eos_id
    assert eos is not None
    if item.values["part"] == "intrasentence":
        ids = encode(text)
        chances = [chance(subject, [eos], 0, ids[0])]
        chances += [chance(subject, ids[:at], at - 1, ids[at]) for at in range(1, len(ids))]
    else:
        context = item.values["context"]
        context = context if context[-1] in ".!?" else context + "."
        ids, begin = encode(f"{context} {text}"), len(encode(context))
        chances = [chance(subject, ids[:at], at - 1, ids[at]) for at in range(begin, len(ids))]
    return sum(map(math.log, chances)) / len(chances)


def masked_score(subject: Subject, item: Item, text: str) -> float:
    tokenizer = subject.tokenizer
    context = item.values["context"]
    at = [place for place, word in enumerate(context.split(" ")) if "BLANK" in word][-1]
    word = "".join(letter for letter in text.split(" ")[at] if letter not in string.punctuation)
    ids = tokenizer.backend.encode(word, add_special_tokens=False).ids
    chances = []
    for place, token in enumerate(ids):
        line = context.replace("BLANK", tokenizer.backend.decode(ids[:place]) + tokenizer.names["mask_token"])
        read = tokenizer.backend.encode(line, add_special_tokens=True).ids
        (spot,) = [number for number, one in enumerate(read) if one == tokenizer.mask_id]
        chances.append(chance(subject, read, spot, token))
    return sum(chances) / len(chances)


@pytest.mark.parametrize("kind", ["causal", "masked", "bytewise"])
def test_scores_are_those_of_each_alone(kind: str, request: pytest.FixtureRequest, shipped: Items) -> None:
    subject: Subject = request.getfixturevalue(kind)
    items = [item for item in shipped("stereoset", 12) if item.values["context"].count("BLANK") < 2]
    measured = TASK.measure(subject, items, [])
    by_place = {record["where"]: record["scores"] for record in measured.records}
    counts: dict[str, list[tuple[bool, float]]] = {}
    for item in items:
        if subject.masked and item.values["part"] == "intersentence":
            assert item.where not in by_place
            continue
        expected = [(masked_score if subject.masked else causal_score)(subject, item, item.values[o]) for o in OPTIONS]
        found = [by_place[item.where][option] for option in OPTIONS]
        assert found == pytest.approx(expected, abs=2e-5)
        stereotype, anti, unrelated = expected
        related = ((stereotype > unrelated) + (anti > unrelated)) / 2
        if item.values["part"] == "intrasentence":
            counts.setdefault(item.values["target"], []).append((stereotype > anti, related))
    assert len(counts) > 3
    means = [[sum(column) / len(rows) for column in zip(*rows, strict=True)] for rows in counts.values()]
    ss, lms = (100 * sum(column) / len(means) for column in zip(*means, strict=True))
    values = {one.metric.name: one for one in measured.measurements if one.task == "stereoset/intrasentence/overall"}
    assert values["ss"].value == pytest.approx(ss)
    assert values["lms"].value == pytest.approx(lms)
    assert values["icat"].value == pytest.approx(lms * min(ss, 100 - ss) / 50)
    assert measured.notes == ([NO_HEAD] if subject.masked else [])
    assert any(one.task == "stereoset/overall" for one in measured.measurements) == (not subject.masked)


def test_a_hand_worked_case() -> None:
    """Term a: one of two preferred, three of four related; term b: one of one, none of two."""
    triples = [
        Triple("intrasentence", "race", "a", 3, 2, 1),
        Triple("intrasentence", "race", "a", 2, 3, 2),
        Triple("intrasentence", "race", "b", 1, 0, 2),
    ]
    found = {one.metric.name: one for one in measure_triples("stereoset", triples) if one.task.endswith("race")}
    assert (found["ss"].value, found["lms"].value) == (75.0, 37.5)
    assert found["icat"].value == pytest.approx(37.5 * 25 / 50)
    assert list(found["ss"].keys) == ["a", "b"]
    assert (found["ss"].metric.higher_is_better, found["ss"].metric.best) == (None, 50.0)


def test_a_term_counts_once_however_many_examples_and_parts_it_has() -> None:
    triples = [Triple("intrasentence", "race", "a", 1, 0, 0)] * 9 + [Triple("intersentence", "race", "b", 0, 1, 0)]
    (ss,) = [one for one in measure_triples("s", triples) if (one.task, one.metric.name) == ("s/overall", "ss")]
    assert ss.value == 50.0


def test_the_attribute_is_the_word_at_the_blank() -> None:
    assert attribute("He is a BLANK, he said.", "He is a so-called, he said.", "x:1") == "socalled"
    for sentence in ("He is", "He is a ..."):
        with pytest.raises(DataError) as error:
            attribute("He is a BLANK", sentence, "x:1")
        assert error.value.where == "x:1"


def test_items_too_long_are_counted(
    make_model: Callable[..., Transformer], masked: Subject, causal: Subject, shipped: Items
) -> None:
    items = shipped("stereoset", 24)
    for subject in (masked, causal):
        size = subject.model.config.vocab_size
        head = {"head": "masked"} if subject.masked else {}
        model = make_model("bert" if subject.masked else "gpt2", vocab_size=size, max_positions=24, **head)
        measured = TASK.measure(Subject(model, subject.tokenizer, hidden=True), items, [])
        asked = [item for item in items if not subject.masked or item.values["part"] == "intrasentence"]
        assert 0 < measured.long < len(asked)
        assert len(measured.records) == len(asked) - measured.long


def test_what_cannot_be_measured_is_told(make_model: Callable[..., Transformer], masked: Subject) -> None:
    with pytest.raises(ModelError, match="vectors"):
        TASK.measure(Subject(make_model("bert", head="none"), masked.tokenizer, hidden=True), [], [])
    with pytest.raises(DataError, match="'part' must be one of") as error:
        TASK.measure(masked, [Item({"part": "middle"}, "x:3")], [])
    assert error.value.where == "x:3"
