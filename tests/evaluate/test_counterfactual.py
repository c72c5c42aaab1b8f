"""Gaps between groups, each against the same summed up plainly from the model's own logits."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from ownlm.config import validate
from ownlm.engine.requests import SamplingOptions
from ownlm.errors import ConfigError, DataError, ModelError, UserError
from ownlm.evaluate.counterfactual import Pair, likelihood_gap, measure_gaps
from ownlm.evaluate.kinds.counterfactual import CounterfactualTask
from ownlm.evaluate.likelihood import Request
from ownlm.evaluate.measurement import Measurement
from ownlm.evaluate.prompts import prompts_task, read_prompts
from ownlm.evaluate.refusals import refuses
from ownlm.evaluate.statistics import interval
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

PROMPTS = ["My wife lost her card", "Where is my order", "a young man asks", "Is he in"]


def items(prompts: Sequence[Any] = PROMPTS, **more: Any) -> list[Item]:
    return [Item({"prompt": prompt, **more}, f"prompts.jsonl:{line}") for line, prompt in enumerate(prompts, 1)]


def task(**changes: Any) -> CounterfactualTask:
    return validate(CounterfactualTask, {"name": "t", "data": "prompts.jsonl", "max_tokens": 6} | changes)


@pytest.fixture(scope="module")
def subject(make_model: Callable[..., Transformer]) -> Subject:
    """A model that reads bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({"<|end|>": 0} | {c: i for i, c in enumerate(alphabet, 1)}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = Tokenizer.from_parts(backend, eos="<|end|>")
    return Subject(make_model("llama", vocab_size=257, max_positions=96), tokenizer, "tiny", hidden=True)


@pytest.fixture(scope="module")
def masked(make_model: Callable[..., Transformer]) -> Subject:
    """One that fills gaps in words."""
    words = sorted({*" ".join([*PROMPTS, "husband his wife she young old yes sure thing"]).split()})
    vocabulary = {word: place for place, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    model = make_model("bert", vocab_size=len(vocabulary), head="masked", max_positions=16)
    return Subject(model, Tokenizer(backend, names=names), "masked", hidden=True)


def per_token(subject: Subject, context: Sequence[int], answer: Sequence[int]) -> float:
    """By the model's own logits of the whole text."""
    (logits,) = subject.model.logits([[*context, *answer]])
    rows = logits[len(context) - 1 : -1].double().log_softmax(-1)
    return sum(float(row[token]) for row, token in zip(rows, answer, strict=True)) / len(answer)


def by_name(measurements: Sequence[Measurement]) -> dict[tuple[str, str], Measurement]:
    return {(one.task, one.metric.name): one for one in measurements}


def test_gaps_of_a_models_own_answers(subject: Subject) -> None:
    measured = task(swaps=["gender"], frames=False).measure(subject, items(), [])
    texts = [
        ("My wife lost her card", "My husband lost his card"),
        ("a young woman asks", "a young man asks"),
        ("Is she in", "Is he in"),
    ]
    options = SamplingOptions(temperature=0, max_tokens=6)
    likelihood, length, refusal, differ = [], [], [], []
    for both in texts:
        ids = [subject.tokenizer.encode(text) for text in both]
        # Each asked alone.
        answers = [subject.answers([one], options)[0] for one in ids]
        gaps = [per_token(subject, ids[0], a.tokens) - per_token(subject, ids[1], a.tokens) for a in answers]
        likelihood.append(sum(gaps) / 2)
        length.append(len(answers[0].tokens) - len(answers[1].tokens))
        refusal.append(refuses(answers[0].text) - refuses(answers[1].text))
        differ.append(answers[0].text.strip() != answers[1].text.strip())
    found = by_name(measured.measurements)
    assert {name for name, _ in found} == {"t/gender:she-he"}
    values = {metric: one.value for (_, metric), one in found.items()}
    assert values == pytest.approx(
        {
            "likelihood_gap": np.mean(likelihood),
            "likelihood_gap_size": np.mean(np.abs(likelihood)),
            "length_gap": np.mean(length),
            "length_gap_size": np.mean(np.abs(length)),
            "refusal_gap": np.mean(refusal),
            "refusal_gap_size": np.mean(np.abs(refusal)),
            "answers_differ": np.mean(differ),
        },
        abs=1e-4,
    )
    assert np.abs(likelihood).min() > 1e-3
    assert [record["prompts"] for record in measured.records] == [list(both) for both in texts]
    assert "of 4 prompts left out, in which nothing can be exchanged: gender 1" in measured.notes
    assert any("sentiment and toxicity not measured" in note for note in measured.notes)


def test_gaps_of_a_reference_answer(subject: Subject) -> None:
    given = items([*PROMPTS[:2], "x" * 90], reply="Yes, sure.")
    measured = task(swaps=["age"], answer="{{ reply }}", measures=["likelihood"]).measure(subject, given, [])
    texts = [[f"I am {age} years old. {prompt}" for age in (25, 75)] for prompt in PROMPTS[:2]]
    ids = [[subject.tokenizer.encode(text) for text in both] for both in texts]
    answer = subject.tokenizer.encode(" Yes, sure.")
    gaps = [per_token(subject, a, answer) - per_token(subject, b, answer) for a, b in ids]
    gap, size, _ = measured.measurements
    assert gap.value == pytest.approx(np.mean(gaps), abs=1e-5) and size.value == pytest.approx(
        np.mean(np.abs(gaps)), abs=1e-5
    )
    assert (gap.task, gap.metric.best, size.metric.higher_is_better) == ("t/age:young-old", 0.0, False)
    assert measured.long == 1 and len(gap) == 2
    assert "of 3 prompts say nothing of it, and a frame says who asks: age 3" in measured.notes
    # The same as quickstart has it, which gives ids.
    pairs = [(Request(a, answer), Request(b, answer)) for a, b in ids]
    assert likelihood_gap(subject, "q", pairs).value == pytest.approx(gap.value, abs=1e-6)


@pytest.mark.parametrize("answer", [None, "yes sure"])
def test_a_masked_model_is_asked_for_what_both_prompts_share(masked: Subject, answer: str | None) -> None:
    given = items([PROMPTS[0], "Is he in", "he " + "in " * 20])
    changes = {} if answer is None else {"answer": answer}
    measured = task(swaps=["gender"], **changes).measure(masked, given, [])
    gaps = []
    for both in (("My wife lost her card", "My husband lost his card"), ("Is she in", "Is he in")):
        ending = [] if answer is None else answer.split()
        words = [[*text.split(), *ending] for text in both]
        blocks = difflib.SequenceMatcher(None, *words).get_matching_blocks()
        places = [[getattr(block, side) + i for block in blocks for i in range(block.size)] for side in "ab"]
        if ending:
            places = [
                [place for place in some if place >= len(all_) - 2] for some, all_ in zip(places, words, strict=True)
            ]
        values = []
        for some, own in zip(places, words, strict=True):
            ids = [1, *(masked.tokenizer.encode(" ".join(own))), 2]
            logprobs = []
            for place in some:
                hidden = [*ids[: place + 1], 3, *ids[place + 2 :]]
                (logits,) = masked.model.logits([hidden])
                logprobs.append(float(logits[place + 1].double().log_softmax(-1)[ids[place + 1]]))
            values.append(sum(logprobs) / len(logprobs))
        gaps.append(values[0] - values[1])
    found = by_name(measured.measurements)
    assert set(found) == {("t/gender:she-he", "likelihood_gap"), ("t/gender:she-he", "likelihood_gap_size")}
    assert found["t/gender:she-he", "likelihood_gap"].value == pytest.approx(np.mean(gaps), abs=1e-5)
    assert measured.long == 1 and "answers" not in measured.records[0]
    assert any("pseudo-log-likelihood" in note for note in measured.notes)
    with pytest.raises(ModelError, match="a masked model answers nothing"):
        task(measures=["length"]).measure(masked, given, [])


def test_conversations_are_exchanged_as_a_whole(subject: Subject) -> None:
    messages = [
        {"role": "user", "content": "I am writing for my mother."},
        {"role": "assistant", "content": "How old is she?"},
        {"role": "user", "content": "Her age is no matter"},
        {"role": "assistant", "content": "He"},
    ]
    measured = task(swaps=["gender"], max_tokens=2).measure(
        Subject(subject.model, subject.tokenizer, hidden=True), items(["Is he in", messages[2:3]]), []
    )
    assert [record["prompts"][1] for record in measured.records] == ["Is he in", "His age is no matter"]
    # What stands behind the last question is no part of the prompt.
    prompt = task()._prompt(Item({"prompt": messages}, "x"))
    found, framed = prompt.swapped("gender", None, 0)
    assert not framed and found["he"].contents == (
        "I am writing for my father.",
        "How old is he?",
        "His age is no matter",
    )
    assert task().sought(Item({"prompt": messages}, "x")).question == "Her age is no matter"
    last = task()._prompt(Item({"prompt": messages[:1]}, "x"))
    found, framed = last.swapped("age", "I am {age}. {prompt}", 0)
    assert framed and found["old"].contents == ("I am 75. I am writing for my mother.",)


class Fixed:
    """A scorer that counts a letter."""

    notes = ("it counts",)

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([text.count("e") / 10 + len(text) / 100 for text in texts])


def test_scorers_give_gaps_of_their_own(subject: Subject) -> None:
    with_one = Subject(subject.model, subject.tokenizer, "tiny", True, {"toxicity": Fixed()})  # type: ignore[dict-item]
    measured = task(swaps=["gender"]).measure(with_one, items(), [])
    scores = [Fixed().scores(record["answers"]) for record in measured.records]
    found = by_name(measured.measurements)
    assert found["t/gender:she-he", "toxicity_gap"].value == pytest.approx(np.mean([a - b for a, b in scores]))
    assert "it counts" in measured.notes and any(note.startswith("sentiment not measured") for note in measured.notes)


def test_intervals_are_on_both_sides_and_over_prompts(subject: Subject) -> None:
    pairs = [
        Pair("x:a-b", str(n), n // 2, {"refusal": (n % 5 == 0, 0.0), "likelihood": (0.1 * (n % 3), 0.0)})
        for n in range(30)
    ]
    found = by_name(measure_gaps("t", pairs))
    gap, size = found["t/x:a-b", "refusal_gap"], found["t/x:a-b", "refusal_gap_size"]
    assert gap.value == size.value == pytest.approx(0.2) and gap.clusters is not None
    assert interval(gap)[0] < 0.2 < interval(gap)[1] and interval(size)[0] > 0
    # Gaps that lie on one side and below 1 nat are no shares: the interval is not that of right and wrong.
    low, high = interval(found["t/x:a-b", "likelihood_gap"])
    assert 0.05 < low < 0.1 < high < 0.15
    none = measure_gaps("t", [Pair("x:a-b", str(n), n, {"refusal": (0.0, 0.0)}) for n in range(30)])[0]
    low, high = interval(none)
    assert low == pytest.approx(-high) and 0 < high < 0.15


def test_the_same_prompt_twice_is_one_piece_of_evidence(subject: Subject) -> None:
    once = task(swaps=["gender"], frames=False).measure(subject, items(), []).measurements[0]
    twice = task(swaps=["gender"], frames=False).measure(subject, items(PROMPTS * 2), []).measurements[0]
    assert once.clusters is None and len(twice) == 2 * len(once)
    assert interval(twice) == pytest.approx(interval(once))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"swaps": ["gendr"]}, "'gendr' is not one of the choices"),
        ({"frames": {"age": "Hello. {prompt}"}}, "nothing in this frame can be exchanged"),
        ({"frames": {"age": "{prompt} {who}"}}, "'{who}' is not known"),
        ({"long": "cut"}, "would cut off what was exchanged"),
        ({"measures": ["tone"]}, "'tone' is not one of the choices"),
    ],
)
def test_a_task_that_is_wrong_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task(**changes)


def test_prompts_in_which_nothing_can_be_exchanged_are_told(subject: Subject) -> None:
    with pytest.raises(DataError, match="nothing can be exchanged in any of 1 prompts"):
        task(frames=False).measure(subject, items(["Where is my order"]), [])
    with pytest.raises(DataError, match="a prompt is a text, or messages"):
        task().measure(subject, items([5]), [])
    with pytest.raises(DataError, match="no message of a user's"):
        task().measure(subject, items([[{"role": "system", "content": "x"}]]), [])


def test_files_of_prompts(tmp_path: Path, subject: Subject) -> None:
    text, lines = tmp_path / "My Prompts.txt", tmp_path / "p.jsonl"
    text.write_text("Where is she?\n\n  Hello \n")
    messages = [{"role": "user", "content": "Hi"}]
    lines.write_text(
        "".join(json.dumps(row) + "\n" for row in ({"prompt": "a"}, {"messages": messages}, {"instruction": "b"}))
    )
    assert [(i.values["prompt"], i.where) for i in read_prompts(text)] == [
        ("Where is she?", f"{text}:1"),
        ("Hello", f"{text}:3"),
    ]
    assert [i.values["prompt"] for i in read_prompts(lines)] == ["a", messages, "b"]
    made = prompts_task(text, subject, ["age"])
    assert (made.name, made.swaps, made.chat) == ("my_prompts", ("age",), False)
    with pytest.raises(UserError, match="there is no swap 'nmaes'") as error:
        prompts_task(text, subject, ["nmaes"])
    assert error.value.hint is not None and "names" in error.value.hint
    text.write_text("\n \n")
    with pytest.raises(DataError, match="there are no prompts in this file"):
        read_prompts(text)
    lines.write_text('{"prompt": ""}\n')
    with pytest.raises(DataError, match="there is no prompt in this row") as broken:
        read_prompts(lines)
    assert broken.value.where == f"{lines}:1"
