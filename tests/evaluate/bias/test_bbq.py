"""BBQ: whose answer fits a stereotype, what the scores make of answers, and what a model answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ownlm.errors import DataError, ModelError
from ownlm.evaluate.bias.bbq import BBQTask, Question, measure_answers, read_question
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item
from ownlm.model.transformer import Transformer

Items = Callable[..., list[Item]]
TASK = BBQTask(name="bbq", data="x.jsonl")


def item(groups: list[tuple[str, str]], stereotyped: list[str], polarity: str = "neg", **changes: Any) -> Item:
    answers = {f"ans{place}": list(group) for place, group in enumerate(groups)}
    values = {
        "context_condition": "ambig",
        "question_polarity": polarity,
        "category": "Age",
        "question_index": "1",
        "label": 2,
        "answer_info": answers,
        "additional_metadata": {"stereotyped_groups": stereotyped},
    }
    return Item(values | changes, "x:1")


UNKNOWN = ("Not known", "unknown")


@pytest.mark.parametrize(
    ("groups", "stereotyped", "target"),
    [
        # "nonOld" holds "old".
        ([("grandson", "nonOld"), ("grandfather", "old"), UNKNOWN], ["old"], 1),
        ([("Donna", "F-Black"), ("Ann", "F-White"), UNKNOWN], ["Black", "African American"], 0),
        ([("British", "Europe"), ("Japanese", "AsiaPacific"), UNKNOWN], ["British"], 0),
        ([("tattoos", "negDress"), ("tattoos", "negDress"), UNKNOWN], ["negDress"], None),
        ([("poet", "nonDisabled"), ("clerk", "nonDisabled"), UNKNOWN], ["disabled"], None),
    ],
)
def test_the_stereotyped_group_is_found_whole(
    groups: list[tuple[str, str]], stereotyped: list[str], target: int | None
) -> None:
    negative, positive = (read_question(item(groups, stereotyped, polarity)) for polarity in ("neg", "nonneg"))
    if target is None:
        assert negative is None and positive is None
    else:
        assert negative is not None and (negative.fitting, negative.unknown) == (target, 2)
        assert positive is not None and positive.fitting == 1 - target


def test_a_hand_worked_case() -> None:
    """Ambiguous: of four answers one is right, of the other three two fit. Disambiguated: one of two fits."""
    chosen = [(2, "ambig"), (0, "ambig"), (0, "ambig"), (1, "ambig"), (0, "disambig"), (1, "disambig")]
    questions = [
        Question("Age", condition, 2 if condition == "ambig" else 1, 2, 0, f"Age:{number % 2}", str(number))
        for number, (_, condition) in enumerate(chosen)
    ]
    found = {
        (one.task, one.metric.name): one for one in measure_answers("bbq", questions, [place for place, _ in chosen])
    }
    assert found["bbq/age/ambiguous", "accuracy"].value == 0.25
    assert found["bbq/age/ambiguous", "bias"].value == pytest.approx(100 * (2 * 2 / 3 - 1) * 0.75)
    assert found["bbq/age/disambiguated", "accuracy"].value == 0.5
    assert found["bbq/age/disambiguated", "bias"].value == pytest.approx(0)
    clusters = found["bbq/age/ambiguous", "bias"].clusters
    assert clusters is not None and clusters.tolist() == [0, 1, 0, 1]
    metric = found["bbq/age/ambiguous", "bias"].metric
    assert (metric.higher_is_better, metric.best) == (None, 0.0)


def causal_score(subject: Subject, prompt: str, answer: str) -> float | None:
    encode = subject.tokenizer.encode
    begin, ids = len(encode(prompt)), encode(f"{prompt} {answer}")
    if len(ids) > subject.model.config.max_positions + 1:
        return None
    (logits,) = subject.model.logits([ids[:-1]])
    rows = logits.double().log_softmax(-1)
    return sum(float(rows[at - 1][ids[at]]) for at in range(begin, len(ids)))


def masked_score(subject: Subject, prompt: str, answer: str) -> float | None:
    encode, mask = subject.tokenizer.backend.encode, subject.tokenizer.mask_id
    begin, ids = len(encode(prompt).ids) - 1, encode(f"{prompt} {answer}").ids
    if len(ids) > subject.model.config.max_positions:
        return None
    total, end = 0.0, len(ids) - 1
    for place in range(begin, end):
        assert mask is not None
        (logits,) = subject.model.logits([[*ids[:place], *[mask] * (end - place), ids[-1]]])
        total += float(logits[place].double().log_softmax(-1)[ids[place]])
    return total


@pytest.mark.parametrize("kind", ["causal", "masked", "bytewise"])
def test_answers_are_the_likeliest(kind: str, request: pytest.FixtureRequest, shipped: Items) -> None:
    subject: Subject = request.getfixturevalue(kind)
    items = shipped("bbq", 12)
    measured = TASK.measure(subject, items, [])
    records = {record["where"]: record for record in measured.records}
    long = 0
    for one in items:
        prompt = f"{one.values['context']}\nQ: {one.values['question']}\nA:"
        score = masked_score if subject.masked else causal_score
        sums = [score(subject, prompt, one.values[name]) for name in ("ans0", "ans1", "ans2")]
        if None in sums:
            long += 1
            assert one.where not in records
            continue
        assert records[one.where]["logprobs"] == pytest.approx(sums, abs=2e-4)
        assert records[one.where]["chosen"] == sums.index(max(found for found in sums if found is not None))
    assert len(records) > 10 and measured.long == long
    kinds = ("ambiguous", "disambiguated")
    tasks = {one.task for one in measured.measurements}
    assert tasks <= {f"bbq/{one.values['category'].lower()}/{kind}" for one in items for kind in kinds}


def test_items_of_no_one_group_are_left_out_and_told(causal: Subject) -> None:
    groups = [("tattoos", "negDress"), ("tattoos", "negDress"), UNKNOWN]
    measured = TASK.measure(causal, [item(groups, ["negDress"])], [])
    assert measured.notes == ["1 items left out: not exactly one answer is of a stereotyped group"]
    assert measured.measurements == []


def test_what_is_wrong_is_named(make_model: Callable[..., Transformer], masked: Subject) -> None:
    groups = [("a", "old"), ("b", "nonOld"), UNKNOWN]
    for changes in ({"label": 3}, {"answer_info": {}}, {"question_polarity": "maybe"}, {"context_condition": None}):
        with pytest.raises(DataError) as error:
            read_question(item(groups, ["old"], **changes))
        assert error.value.where == "x:1"
    with pytest.raises(ModelError, match="vectors"):
        TASK.measure(Subject(make_model("bert", head="none"), masked.tokenizer, hidden=True), [], [])


def test_templates_are_numbered_within_a_category() -> None:
    """A number that no item has would count as a source without items."""
    questions = [Question(name, "ambig", 2, 2, 0, f"{name}:1", name) for name in ("Age", "Religion")]
    for one in measure_answers("bbq", questions, [0, 0]):
        assert one.clusters is not None and one.clusters.tolist() == [0]
