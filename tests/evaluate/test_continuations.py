"""Toxicity of continuations against the same written out, with a scorer whose scores can be told by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ownlm.config import validate
from ownlm.engine.requests import SamplingOptions
from ownlm.errors import ModelError, UserError
from ownlm.evaluate.kinds.continuations import ContinuationsTask, gap, gap_rows, own_doing
from ownlm.evaluate.measurement import Measurement
from ownlm.evaluate.run import run_tasks, score_of
from ownlm.evaluate.scorers import Scorer, ScorerReport
from ownlm.evaluate.subject import Subject
from ownlm.evaluate.task import Item
from ownlm.model.transformer import Transformer
from ownlm.tokens.train_bpe import train_tokenizer

TASK = {
    "name": "go_on",
    "kind": "continuations",
    "data": "a.jsonl",
    "prompt": "{{ prompt }}",
    "group": "{{ group }}",
    "among": "{{ domain }}",
    "cluster": "{{ template }}",
    "count": 3,
    "max_tokens": 6,
}
ITEMS = [
    Item({"prompt": f"the {group} model {end}", "group": group, "domain": domain, "template": n}, f"a.jsonl:{n}")
    for n, end in enumerate(["reads", "says", "has", "and the"])
    for group, domain in (("new", "age"), ("old", "age"), ("red", "colour"), ("blue", "colour"))
]


class Vowels(Scorer):
    """The share of vowels."""

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([share(text) for text in texts])


def share(text: str) -> float:
    return sum(letter in "aeiou" for letter in text) / max(len(text), 1)


@pytest.fixture(scope="module")
def subject(make_model: Callable[..., Transformer]) -> Subject:
    tokenizer = train_tokenizer(["the old model reads a text, and what the new one says is a text as well"] * 20, 300)
    scorer = Vowels("toxicity", Path("none"), ScorerReport(name="toxicity", measures="vowels", positive="toxic"))
    return Subject(make_model("llama", vocab_size=320), tokenizer, "tiny", hidden=True, scorers={"toxicity": scorer})


def test_the_worst_of_each_prompt_counts(subject: Subject) -> None:
    task = validate(ContinuationsTask, TASK | {"threshold": 0.4})
    measured = task.measure(subject, ITEMS, ())
    options = SamplingOptions(n=3, max_tokens=6, temperature=1.0, top_p=0.9, seed=0)
    prompts = [subject.with_bos(subject.tokenizer.encode(str(item.values["prompt"]))) for item in ITEMS]
    written = [one.text for one in subject.answers(prompts, options)]
    worst = [max(map(share, written[3 * n : 3 * n + 3])) for n in range(len(ITEMS))]
    values = {(one.task, one.metric.name): one.value for one in measured.measurements}
    assert values["go_on", "expected_maximum_toxicity"] == pytest.approx(np.mean(worst))
    assert values["go_on", "toxic_probability"] == pytest.approx(np.mean([one >= 0.4 for one in worst]))
    by_group = {
        group: np.mean([one for one, item in zip(worst, ITEMS, strict=True) if item.values["group"] == group])
        for group in ("new", "old", "red", "blue")
    }
    for group, other in (("new", "old"), ("old", "new"), ("red", "blue")):
        assert values[f"go_on/{group}", "expected_maximum_toxicity"] == pytest.approx(by_group[group])
        # Compared with its own kind alone.
        assert values[f"go_on/{group}", "toxicity_gap"] == pytest.approx(by_group[group] - by_group[other])
    of_prompts = [share(str(item.values["prompt"])) for item in ITEMS]
    assert values["go_on", "prompt_toxicity"] == pytest.approx(np.mean(of_prompts))
    for one, record in zip(worst, measured.records, strict=True):
        assert record["worst_score"] == one == max(record["scores"]) and share(record["worst"]) == one
    assert measured.notes and len({record["worst"] for record in measured.records}) > 4
    assert len({n for one in measured.measurements if one.clusters is not None for n in one.clusters}) == 4
    for one in measured.measurements:
        score = score_of(one)
        assert score.low <= score.value <= score.high


def test_a_scorer_that_reacts_to_groups_is_told_of() -> None:
    groups = ["a", "b", "a", "b", "c", ""]
    (note,) = own_doing("toxicity", groups, np.array([0.1, 0.8, 0.3, 0.8, 0.5, 1.0]))
    assert "from 0.20 (a) to 0.80 (b)" in note and not note.endswith(".")
    assert own_doing("toxicity", groups, np.array([0.1, 0.11, 0.12, 0.1, 0.1, 1.0])) == []
    assert own_doing("toxicity", ["", ""], np.array([0.1, 0.9])) == []


def test_the_same_seed_gives_the_same_and_another_others(subject: Subject) -> None:
    first, again, other = (
        [one["worst"] for one in validate(ContinuationsTask, TASK | {"seed": seed}).measure(subject, ITEMS, ()).records]
        for seed in (0, 0, 1)
    )
    assert first == again != other


def test_prompts_too_long_are_counted(subject: Subject) -> None:
    rows = [*ITEMS[:4], Item(dict(ITEMS[0].values) | {"prompt": "the model " * 150}, "a.jsonl:9")]
    skipped, cut = (
        validate(ContinuationsTask, TASK | {"long": long}).measure(subject, rows, ()) for long in ("skip", "cut")
    )
    assert skipped.long == cut.long == 1 and len(skipped.records) == 4 and len(cut.records) == 5


def test_without_groups_there_is_one_task(subject: Subject) -> None:
    plain: dict[str, Any] = {key: value for key, value in TASK.items() if key not in ("group", "among", "cluster")}
    found = validate(ContinuationsTask, plain).measure(subject, ITEMS, ()).measurements
    assert [(one.task, one.metric.name) for one in found] == [
        ("go_on", "expected_maximum_toxicity"),
        ("go_on", "toxic_probability"),
        ("go_on", "prompt_toxicity"),
    ]


def test_a_gap_has_an_interval_that_pairs_templates() -> None:
    """Where templates differ much and groups by the same everywhere, the gap is sure."""
    random = np.random.default_rng(0)
    base = np.repeat(random.random(40), 2)
    own = np.tile([True, False], 40)
    values = base + 0.1 * own + 0.001 * random.random(80)
    keys = [str(n) for n in range(80)]
    paired = score_of(Measurement("a", gap("gap"), gap_rows(values, own), keys, np.repeat(np.arange(40), 2)))
    loose = score_of(Measurement("a", gap("gap"), gap_rows(values, own), keys))
    assert paired.low < 0.1 < paired.high + 0.001 and paired.high - paired.low < 0.01 < loose.high - loose.low


def test_without_a_scorer_a_suite_goes_on_and_the_task_alone_does_not(
    make_model: Callable[..., Transformer], subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Subject(subject.model, subject.tokenizer, "bare", hidden=True)
    with pytest.raises(UserError, match=r"ownlm scorers train toxicity --data DIR"):
        run_tasks(bare, ["continuations"])
    monkeypatch.setattr("ownlm.evaluate.run.tasks_of", lambda tasks, suites: ["copa", "continuations"])
    ran = run_tasks(bare, ["copa"], suites=["bias"], limit=3)
    assert [one.task for one in ran] == ["copa", "continuations"]
    assert not ran[1].measured.measurements and not ran[1].measured.records
    (note,) = ran[1].measured.notes
    assert "left out" in note and "ownlm scorers train toxicity --data DIR" in note


def test_a_model_that_fills_gaps_is_told(make_model: Callable[..., Transformer], subject: Subject) -> None:
    masked = Subject(make_model("bert"), subject.tokenizer, "masked", hidden=True, scorers=subject.scorers)
    with pytest.raises(ModelError, match="fills gaps"):
        run_tasks(masked, ["continuations"])


def test_the_task_that_comes_along_has_every_group_in_every_template(subject: Subject) -> None:
    (ran,) = run_tasks(subject, ["continuations"], limit=20)
    groups = {record["group"] for record in ran.measured.records}
    assert len(groups) == 20
    assert {one.task for one in ran.measured.measurements} == {
        "continuations",
        *(f"continuations/{group}" for group in groups),
    }
