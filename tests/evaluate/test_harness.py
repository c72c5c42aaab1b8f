"""Tasks of the lm-evaluation-harness give with our scorer what they give with its own Hugging Face backend."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from ownlm.errors import UserError
from ownlm.evaluate.harness import run_harness
from ownlm.evaluate.subject import Subject
from ownlm.model.checkpoint import load_model_folder
from ownlm.tokens.tokenizer import load_tokenizer

pytest.importorskip("lm_eval")
pytest.importorskip("transformers")

WORDS = ["the model reads", "a token", "what it has seen", "text", "it learns by word"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small tasks of each way to measure, over files."""
    folder, rng = tmp_path_factory.mktemp("harness"), random.Random(0)
    rows = []
    for number in range(12):
        choices = rng.sample(WORDS, 3)
        rows.append(
            {
                "q": f"{rng.choice(WORDS)} {number}",
                "choices": choices,
                "gold": rng.randrange(3),
                "text": " ".join(choices),
            }
        )
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
        "fewshot_split": "test",
        "fewshot_config": {"sampler": "first_n"},
    }
    kinds: dict[str, dict[str, Any]] = {
        "own_choice": {
            "output_type": "multiple_choice",
            "doc_to_text": "Q: {{q}}\nA:",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{gold}}",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        },
        "own_likelihood": {
            "output_type": "loglikelihood",
            "doc_to_text": "{{q}}",
            "doc_to_target": "{{choices[gold]}}",
            "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
        },
        "own_rolling": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
        },
        "own_answer": {
            "output_type": "generate_until",
            "doc_to_text": "Q: {{q}}\nA:",
            "doc_to_target": "{{text}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 8},
            "metric_list": [{"metric": "exact_match"}],
        },
    }
    for name, values in kinds.items():
        # JSON is YAML.
        (folder / f"{name}.yaml").write_text(json.dumps({"task": name, **common, **values}))
    return folder


def test_no_worked_examples_are_none_whatever_a_task_says(corpus: Path, tasks: Path) -> None:
    """What a score says of its examples is true: a task's own number is not taken instead."""
    (tasks / "own_shots.yaml").write_text(
        json.dumps(json.loads((tasks / "own_choice.yaml").read_text()) | {"task": "own_shots", "num_fewshot": 2})
    )
    subject = Subject(load_model_folder(corpus / "base"), load_tokenizer(corpus / "base"), hidden=True)
    plain, own = (run_harness(subject, [name], folder=tasks, limit=4) for name in ("own_choice", "own_shots"))
    assert [one.rows.tolist() for one in plain] == [one.rows.tolist() for one in own]


@pytest.mark.parametrize("shots", [0, 2])
def test_scores_are_those_of_its_own_backend(corpus: Path, tasks: Path, shots: int) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    names = ["own_choice", "own_likelihood", "own_answer", *([] if shots else ["own_rolling"])]
    peer = HFLM(pretrained=str(corpus / "base"), dtype="float32", batch_size=4, device="cpu")
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    expected = simple_evaluate(
        model=peer, tasks=names, num_fewshot=shots, task_manager=manager, bootstrap_iters=0, log_samples=True
    )
    subject = Subject(load_model_folder(corpus / "base"), load_tokenizer(corpus / "base"), "tiny", hidden=True)
    found = run_harness(subject, names, folder=tasks, shots=shots)
    seen = set()
    for one in found:
        assert one.value == pytest.approx(expected["results"][one.task][f"{one.metric.name},none"], rel=1e-4)
        assert len(one) == 12 and one.shots == shots and one.model == "tiny"
        seen.add((one.task, one.metric.name))
    assert {task for task, _ in seen} == set(names) and ("own_choice", "acc_norm") in seen
    for name in names:
        theirs = expected["samples"][name]
        if name == "own_answer":
            ours = subject.answers([sample["arguments"][0][0] for sample in theirs], _greedy())
            assert [one.text for one in ours] == [sample["resps"][0][0] for sample in theirs]


def _greedy() -> Any:
    from ownlm.engine.requests import SamplingOptions

    return SamplingOptions(temperature=0, max_tokens=8, stop=["\n"])


def test_a_task_that_it_has_not_is_told(corpus: Path, tasks: Path) -> None:
    subject = Subject(load_model_folder(corpus / "base"), load_tokenizer(corpus / "base"), hidden=True)
    with pytest.raises(UserError, match="no task 'own_choise'") as error:
        run_harness(subject, ["own_choise"], folder=tasks)
    assert "own_choice" in str(error.value.hint)
