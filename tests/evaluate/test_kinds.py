"""Each kind of task against the same written out plainly, an item at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from ownlm.config import validate
from ownlm.engine.engine import Engine
from ownlm.engine.requests import SamplingOptions
from ownlm.errors import ConfigError, DataError, ModelError
from ownlm.evaluate.kinds.choice import ChoiceTask
from ownlm.evaluate.kinds.generate import GenerateTask
from ownlm.evaluate.kinds.text import ContinuationTask, PerplexityTask
from ownlm.evaluate.subject import Subject, rolling_windows
from ownlm.evaluate.task import Item, choose
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

ITEMS = [
    Item({"q": q, "options": options, "gold": gold, "from": source}, f"items.jsonl:{line}")
    for line, (q, options, gold, source) in enumerate(
        [
            ("the sky is", ["blue", "made of very old cheese"], 0, "a"),
            ("ice is", ["warm", "cold"], 1, "a"),
            ("a cat says", ["moo", "meow", "tick tock"], 1, "b"),
            ("two and two are", ["four", "five"], 0, "c"),
            ("water is", ["wet", "dry"], 0, "c"),
        ],
        1,
    )
]


@pytest.fixture(scope="module")
def subject(make_model: Callable[..., Transformer]) -> Subject:
    """A model that reads bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(models.BPE({"<|end|>": 0} | {c: i for i, c in enumerate(alphabet, 1)}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = Tokenizer.from_parts(backend, eos="<|end|>")
    return Subject(make_model("llama", vocab_size=257), tokenizer, "tiny", hidden=True)


def logprob(subject: Subject, before: str, after: str) -> tuple[float, bool]:
    """By the model's own logits of the whole text, which bytes cut where texts are cut."""
    ids = subject.tokenizer.encode(before + after)
    (logits,) = subject.model.logits([ids])
    count = len(after.encode())
    rows = logits[-count - 1 : -1].double().log_softmax(-1)
    return sum(float(row[i]) for row, i in zip(rows, ids[-count:], strict=True)), rows.argmax(-1).tolist() == ids[
        -count:
    ]


def choice_task(**changes: Any) -> ChoiceTask:
    values = {
        "name": "t",
        "data": "items.jsonl",
        "prompt": "Q: {{ q }}",
        "choices": "{{ options }}",
        "answer": "{{ gold }}",
        "metrics": ["accuracy", "accuracy_norm"],
    }
    return validate(ChoiceTask, values | changes)


@pytest.mark.parametrize("shots", [0, 2])
def test_choices(subject: Subject, shots: int) -> None:
    task = choice_task(cluster="{{ from }}")
    items, examples = choose(task, ITEMS, None, shots)
    measured = task.measure(subject, items, examples)
    assert len(items) == len(ITEMS) - shots and not {i.key for i in items} & {i.key for i in examples}
    head = "".join(f"Q: {e.values['q']} {e.values['options'][e.values['gold']]}\n\n" for e in examples)
    plain, scaled = [], []
    for item, record in zip(items, measured.records, strict=True):
        found = [logprob(subject, f"{head}Q: {item.values['q']}", f" {option}")[0] for option in item.values["options"]]
        assert record["logprobs"] == pytest.approx(found, abs=1e-4)
        by_length = [value / len(option) for value, option in zip(found, item.values["options"], strict=True)]
        plain.append(found.index(max(found)) == item.values["gold"])
        scaled.append(by_length.index(max(by_length)) == item.values["gold"])
    accuracy, norm = measured.measurements
    assert accuracy.value == sum(plain) / len(plain) and norm.value == sum(scaled) / len(scaled)
    assert accuracy.shots == shots and accuracy.model == "tiny" and accuracy.metric.name == "accuracy"
    sources = [item.values["from"] for item in items]
    same = [[a == b for a in sources] for b in sources]
    assert accuracy.clusters is not None
    assert [[a == b for a in accuracy.clusters] for b in accuracy.clusters] == same


def test_a_prompt_may_hold_the_choice(subject: Subject) -> None:
    task = choice_task(prompt="{{ choice }}", continuation=": {{ q }}", metrics=["accuracy"])
    (record, *_) = task.measure(subject, ITEMS, []).records
    assert record["logprobs"] == pytest.approx(
        [logprob(subject, option, ": the sky is")[0] for option in ITEMS[0].values["options"]], abs=1e-4
    )


def test_classes_have_a_table(subject: Subject) -> None:
    items = [
        Item({"q": item.values["q"], "gold": "yes" if i % 2 else "no"}, item.where) for i, item in enumerate(ITEMS)
    ]
    task = choice_task(choices=["no", "yes"], metrics=["accuracy", "macro_f1", "matthews", "calibration_error"])
    measured = task.measure(subject, items, [])
    right, chosen = ([record[key] for record in measured.records] for key in ("right", "chosen"))
    scores = []
    for label in (0, 1):
        hits = sum(a == b == label for a, b in zip(right, chosen, strict=True))
        counted = right.count(label) + chosen.count(label)
        scores += [2 * hits / counted] if counted else []
    assert measured.measurements[1].value == pytest.approx(sum(scores) / len(scores))
    with pytest.raises(DataError, match="macro_f1 needs the same choices"):
        choice_task(metrics=["macro_f1"]).measure(subject, ITEMS, [])


@pytest.mark.parametrize("answer", ["3", "-1", "nothing", "{{ q }}"])
def test_an_answer_that_is_no_choice_is_told_with_its_line(subject: Subject, answer: str) -> None:
    with pytest.raises(DataError, match="not among the choices") as error:
        choice_task(answer=answer).measure(subject, ITEMS, [])
    assert error.value.where == "items.jsonl:1"


@pytest.mark.parametrize("long", ["skip", "cut"])
def test_what_is_too_long_is_counted_and_never_cut_in_silence(subject: Subject, long: str) -> None:
    items = [*ITEMS, Item({"q": "a" * 200, "options": ["x", "y"], "gold": 0}, "items.jsonl:6")]
    measured = choice_task(long=long).measure(subject, items, [])
    assert measured.long == 1
    assert len(measured.records) == len(measured.measurements[0]) == len(ITEMS) + (long == "cut")
    if long == "cut":
        room = "a" * (subject.model.config.max_positions + 1 - 2)
        assert measured.records[-1]["logprobs"][0] == pytest.approx(logprob(subject, room, " x")[0], abs=1e-4)


def test_continuations(subject: Subject) -> None:
    values = {"name": "c", "data": "x.jsonl", "prompt": "{{ q }}", "continuation": " {{ options[gold] }}"}
    measured = validate(ContinuationTask, values).measure(subject, ITEMS, [])
    found = [logprob(subject, i.values["q"], f" {i.values['options'][i.values['gold']]}") for i in ITEMS]
    accuracy, perplexity = measured.measurements
    assert accuracy.value == sum(greedy for _, greedy in found) / len(found)
    assert perplexity.value == pytest.approx(math.exp(-sum(value for value, _ in found) / len(found)), rel=1e-4)


def test_perplexity_predicts_each_token_once(subject: Subject) -> None:
    texts = ["The sky  is blue.", "größer " * 40, "x"]
    task = validate(PerplexityTask, {"name": "p", "data": "x.jsonl", "text": "{{ text }}"})
    measured = task.measure(subject, [Item({"text": text}, "x:1") for text in texts], [])
    most, end = subject.model.config.max_positions, 0
    nats = tokens = 0.0
    for text in texts:
        ids = subject.tokenizer.encode(text)
        tokens += len(ids)
        for start in range(0, len(ids), most):
            # A last window reaches back for what it lacks.
            stop = min(start + most, len(ids))
            context = [end, *ids][stop - most if start else 0 : stop + 1]
            nats += float(subject.model.losses([context])[0][-(stop - start) :].double().sum())
    by_name = {m.metric.name: m.value for m in measured.measurements}
    words, size = sum(len(text.split(" ")) - text.count("  ") for text in texts), sum(len(t.encode()) for t in texts)
    assert by_name["word_perplexity"] == pytest.approx(math.exp(nats / words), rel=1e-4)
    assert by_name["byte_perplexity"] == pytest.approx(math.exp(nats / size), rel=1e-4)
    assert by_name["bits_per_byte"] == pytest.approx(nats / size / math.log(2), rel=1e-4)
    assert by_name["token_perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-4)


def test_windows_cover_a_text_and_are_full() -> None:
    for length in range(1, 40):
        windows = list(rolling_windows(range(1, length + 1), 0, 7))
        assert [t for window in windows for t in window.continuation] == list(range(1, length + 1))
        assert all(len(w.context) + len(w.continuation) == 8 for w in windows[1:])
    assert list(rolling_windows([], 0, 7)) == []


def test_a_masked_model_cannot_do_it(subject: Subject, make_model: Callable[..., Transformer]) -> None:
    masked = Subject(make_model("bert", vocab_size=257), subject.tokenizer, hidden=True)
    with pytest.raises(ModelError, match="writes no text"):
        choice_task().measure(masked, ITEMS, [])


def test_more_examples_keep_the_fewer(tmp_path: Path) -> None:
    task = choice_task()
    drawn = [json.dumps([e.values for e in choose(task, ITEMS, None, count)[1]])[1:-1] for count in (1, 2, 3)]
    assert drawn[2].startswith(drawn[1]) and drawn[1].startswith(drawn[0])


def generate_task(**changes: Any) -> GenerateTask:
    values = {"name": "g", "data": "x.jsonl", "prompt": "Q: {{ q }}\nA:", "max_tokens": 6, "metrics": ["exact"]}
    return validate(GenerateTask, values | {"answers": "{{ options[gold] }}"} | changes)


def test_answers_are_the_engines_and_compared_with_the_right_ones(subject: Subject) -> None:
    prompts = [f"Q: {item.values['q']}\nA:" for item in ITEMS]
    engine = Engine(subject.model, subject.tokenizer)
    said = [one.text.strip() for one in engine.generate(prompts, SamplingOptions(temperature=0, max_tokens=6))]
    items = [
        Item(
            {
                **item.values,
                "right": text if i % 2 else ["no", f" {text} "],
                "rules": [{"rule": "lacks", "value": "zzz"}],
            },
            "",
        )
        for i, (item, text) in enumerate(zip(ITEMS, said, strict=True))
    ]
    items[0] = Item(
        {**items[0].values, "right": "something else", "rules": [{"rule": "contains", "value": "zzz"}] * 2}, ""
    )
    metrics = ["exact", "rules", "rules_each", "json", "chrf", "pattern"]
    task = generate_task(answers="{{ right }}", rules="{{ rules }}", pattern="[^q]", metrics=metrics)
    measured = task.measure(subject, items, [])
    assert [record["answer"] for record in measured.records] == said
    by_name = {m.metric.name: m.value for m in measured.measurements}
    some = sum(bool(text) for text in said[1:])
    assert by_name["exact"] == 4 / 5 and by_name["rules"] == some / 5 and by_name["rules_each"] == some / 6
    assert set(measured.records[0]) == {"where", "prompt", "answer", "right_answers", "rules", "rules_kept"}


def test_examples_stand_before_or_are_earlier_turns(subject: Subject) -> None:
    (prompt,) = generate_task()._prompts(subject, ITEMS[:1], ITEMS[1:3])
    text = "Q: ice is\nA: cold\n\nQ: a cat says\nA: meow\n\nQ: the sky is\nA:"
    assert subject.tokenizer.decode(prompt) == text
    (prompt,) = generate_task(chat=True, prompt="{{ q }}?")._prompts(subject, ITEMS[:1], ITEMS[1:2])
    turns = [("user", "ice is?"), ("assistant", "cold"), ("user", "the sky is?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    assert prompt == subject.tokenizer.render(messages, add_generation_prompt=True)


@pytest.mark.parametrize("long", ["skip", "cut"])
def test_a_prompt_that_leaves_no_room_is_counted(subject: Subject, long: str) -> None:
    items = [*ITEMS, Item({"q": "a" * 300, "options": ["x"], "gold": 0}, "x:6")]
    measured = generate_task(long=long).measure(subject, items, [])
    assert measured.long == 1 and len(measured.records) == len(ITEMS) + (long == "cut")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": None}, "the metric 'exact' needs 'answers'"),
        ({"metrics": ["rules_each"]}, "the metric 'rules_each' needs 'rules'"),
        ({"metrics": ["pattern"]}, "the metric 'pattern' needs 'pattern'"),
        ({"metrics": ["pattern"], "pattern": "("}, "no regular expression"),
    ],
)
def test_what_a_metric_needs_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        generate_task(**changes)
