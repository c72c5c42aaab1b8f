"""Tasks measured while a run goes on: what is written, and that the run is the same bits without them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ownlm import api
from ownlm.config import merge
from ownlm.errors import ConfigError, DataError, Interrupted, ModelError, UserError
from ownlm.evaluate import during
from ownlm.evaluate.during import prepare
from ownlm.evaluate.run import Ran
from ownlm.evaluate.task import Measured
from ownlm.tokens.tokenizer import Tokenizer
from ownlm.train import loop as loops
from ownlm.train.config import read_train_config
from ownlm.train.evaluation import EvaluateConfig, Measure
from ownlm.train.run import Run, run_training

pytestmark = pytest.mark.usefixtures("undrawn")

SCRIPT = Path(__file__).parent / "train_and_die.py"
CHOICE = """
name: words
kind: choice
data: words.jsonl
prompt: "{{ q }}"
choices: "{{ options }}"
answer: "{{ gold }}"
metrics: [accuracy]
"""
WRITES = """
name: writes
kind: generate
data: words.jsonl
prompt: "{{ q }}"
answers: "{{ options[gold] }}"
max_tokens: 4
pattern: "e"
metrics: [pattern]
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Two tasks: of choices, and of what the model writes."""
    rows = [{"q": f"the model {n}", "options": ["reads text", "has seen"], "gold": n % 2} for n in range(4)]
    (tmp_path / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "writes.yaml").write_text(WRITES)
    (tmp_path / "words.yaml").write_text(CHOICE)
    return tmp_path / "words.yaml"


@pytest.fixture
def measured(settings: dict[str, Any], task: Path) -> dict[str, Any]:
    """A run that measures them."""
    tasks = [str(task), str(task.with_name("writes.yaml"))]
    return settings | {"evaluate": {"every": 5, "tasks": tasks, "shots": [0, 1]}}


def rows_of(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def evaluations(run: Path) -> list[dict[str, Any]]:
    return [row for row in rows_of(run) if "scores" in row]


def curve(run: Path) -> list[tuple[Any, ...]]:
    """Every number of a run that time has no part in, as text so that each bit counts."""
    rows = [row for row in rows_of(run) if "scores" not in row]
    return [tuple(repr(row.get(key)) for key in ("step", "loss", "val_loss", "grad_norm", "lr")) for row in rows]


def train(config: dict[str, Any], prepared: Any = prepare, **changes: Any) -> Run:
    dotted = {key.replace("__", "."): value for key, value in changes.items()}
    return run_training(read_train_config(merge(config, dotted)), lambda message: None, prepared)


@pytest.mark.parametrize("more", [{"dropout": 0.1}, {"ema": {"decay": 0.9}}, {"precision": "bf16"}])
def test_a_run_is_the_same_bits_with_and_without(
    settings: dict[str, Any], measured: dict[str, Any], tmp_path: Path, more: dict[str, Any]
) -> None:
    plain = train(settings | more)
    run = train(measured | more | {"out": str(tmp_path / "measured")})
    assert curve(run.folder) == curve(plain.folder)
    weights = [(one.model / "model.safetensors").read_bytes() for one in (run, plain)]
    assert weights[0] == weights[1]
    assert [row["step"] for row in evaluations(run.folder)] == [0, 5, 10, 12]
    names = [(s["task"], s["shots"], s["metric"], s["n"]) for s in evaluations(run.folder)[0]["scores"]]
    assert names[:2] == [("words", 0, "accuracy", 4), ("words", 1, "accuracy", 3)]
    assert names[2:] == [("writes", 0, "pattern", 4), ("writes", 1, "pattern", 3)]


def test_scores_are_those_of_the_model_that_results(measured: dict[str, Any], task: Path) -> None:
    """Of the averaged weights, where they are what results."""
    for out, ema in (("plain", None), ("averaged", {"decay": 0.5})):
        config = measured | {"out": str(task.parent / out), "ema": ema, "optimizer": {"lr": 3e-2}}
        run = train(config, validate__every=None, data__validation=[])
        model = api.load_model(run.model, dtype="float32")
        found = api.evaluate(model, measured["evaluate"]["tasks"], shots=[0, 1])
        last = evaluations(run.folder)[-1]["scores"]
        assert last == [{key: asdict(score)[key] for key in last[0]} for score in found]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_adapter_counts(chat_settings: dict[str, Any], measured: dict[str, Any], precision: str) -> None:
    """What is measured has the adapter in it, also where the model writes."""
    writes = [measured["evaluate"]["tasks"][1]]
    config = chat_settings | {"precision": precision, "optimizer": {"lr": 0.3}, "adapter": {"rank": 8}}
    seen: list[list[str]] = []

    def watching(asked: EvaluateConfig, tokenizer: Tokenizer, say: Callable[[str], None]) -> Measure:
        inner = prepare(asked, tokenizer, say)

        def measure(model: Any, most: int | None = None) -> Iterator[Any]:
            seen.append(api.generate(model, ["the model"], tokenizer=tokenizer, max_tokens=8, temperature=0))
            yield from inner(model, most)

        return measure

    train(config, watching, evaluate__tasks=writes, steps=8, schedule__kind="constant")
    assert seen[0] != seen[-1]


def test_killed_runs_miss_no_evaluation_and_make_none_twice(measured: dict[str, Any], tmp_path: Path) -> None:
    config = measured | {"out": str(tmp_path / "cut"), "dropout": 0.1}
    config["evaluate"] = measured["evaluate"] | {"every": 3}
    whole = train(config, out=str(tmp_path / "whole"))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    done = subprocess.run([sys.executable, str(SCRIPT), str(path), "evaluation", "6"], check=False)
    assert done.returncode == -signal.SIGKILL
    train(config)
    cut = tmp_path / "cut"
    assert curve(cut) == curve(whole.folder) and evaluations(cut) == evaluations(whole.folder)
    assert [row["step"] for row in evaluations(cut)] == [0, 3, 6, 9, 12]


@pytest.mark.parametrize("step", [5, 12])
def test_who_is_told_to_stop_in_an_evaluation_leaves_it_and_makes_it_later(
    measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int
) -> None:
    calls = 0

    def stopping(asked: EvaluateConfig, tokenizer: Tokenizer, say: Callable[[str], None]) -> Measure:
        inner = prepare(asked, tokenizer, say)

        def measure(model: Any, most: int | None = None) -> Iterator[Any]:
            nonlocal calls
            calls += 1
            for one in inner(model, most):
                if calls == (2 if step == 5 else 4):
                    os.kill(os.getpid(), signal.SIGINT)
                yield one

        return measure

    whole = train(measured, out=str(tmp_path / "whole"))
    with pytest.raises(Interrupted, match=f"stopped at step {step} of 12"):
        train(measured, stopping)
    assert step not in [row["step"] for row in evaluations(Path(measured["out"]))]
    assert not (Path(measured["out"]) / "run.json").exists()
    run = train(measured)
    assert curve(run.folder) == curve(whole.folder) and evaluations(run.folder) == evaluations(whole.folder)


@pytest.mark.parametrize(
    ("changes", "error", "said", "where"),
    [
        ({"tasks": ["boolk"]}, UserError, "there is no task 'boolk'", "evaluate: task"),
        ({"suites": ["cor"]}, UserError, "there is no suite 'cor'", "evaluate: suite"),
        ({"tasks": ["piqa"]}, DataError, "the data of task 'piqa' is not here", "evaluate: piqa"),
        ({"shots": [4]}, UserError, "4 examples cannot be taken of 4 items", "evaluate: shots of words"),
    ],
)
def test_what_cannot_be_measured_is_told_before_the_first_step(
    measured: dict[str, Any], changes: dict[str, Any], error: type[UserError], said: str, where: str
) -> None:
    with pytest.raises(error, match=said) as told:
        train(measured | {"evaluate": measured["evaluate"] | changes})
    assert told.value.where == where and "--data" not in str(told.value.hint)
    assert not (Path(measured["out"]) / "metrics.jsonl").exists()


@pytest.mark.parametrize("kind", ["masked", "classify"])
def test_a_model_that_cannot_do_a_task_is_told_before_the_first_step(
    settings: dict[str, Any], measured: dict[str, Any], encoder: Path, corpus: Path, kind: str
) -> None:
    kept = {key: value for key, value in settings.items() if key not in ("model", "tokenizer")}
    config = kept | {"base": str(encoder), "objective": {"kind": kind}, "evaluate": measured["evaluate"]}
    if kind == "classify":
        rows = [{"text": f"the model {n}", "label": "ab"[n % 2]} for n in range(20)]
        path = encoder.parent / "labels.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        config |= {"data": {"train": str(path)}}
    with pytest.raises(ModelError, match="writes no text") as told:
        train(config)
    assert told.value.where is not None and told.value.where.startswith("evaluate")
    assert not any("loss" in row for row in rows_of(Path(config["out"])))


def test_a_masked_model_is_measured_on_what_it_can(settings: dict[str, Any], encoder: Path) -> None:
    kept = {key: value for key, value in settings.items() if key not in ("model", "tokenizer")}
    config = kept | {"base": str(encoder), "objective": {"kind": "masked"}, "steps": 2}
    run = train(config | {"evaluate": {"tasks": ["crows_pairs"], "limit": 12}})
    assert [row["step"] for row in evaluations(run.folder)] == [0, 1, 2]
    assert any(score["metric"] == "preference" for score in evaluations(run.folder)[0]["scores"])


def test_other_tasks_on_the_way_are_tried_at_once(measured: dict[str, Any], task: Path) -> None:
    train(measured, steps=4, schedule__kind="constant")
    with pytest.raises(DataError, match="piqa"):
        train(measured, steps=6, schedule__kind="constant", evaluate__tasks=["piqa"])
    broken = task.with_name("broken.yaml")
    broken.write_text(CHOICE.replace("{{ gold }}", "{{ nothing }}").replace("words\n", "broken\n", 1))
    with pytest.raises(UserError):
        train(measured, steps=6, schedule__kind="constant", evaluate__tasks=[str(broken)])
    assert max(row["step"] for row in rows_of(Path(measured["out"]))) == 4
    run = train(measured, steps=6, schedule__kind="constant", evaluate__every=3)
    assert [row["step"] for row in evaluations(run.folder)] == [0, 4, 6]


def test_a_run_started_without_the_means_says_so(measured: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="nothing to evaluate with"):
        train(measured, None)
    with pytest.raises(ConfigError, match="name a task or a suite"):
        read_train_config(measured | {"evaluate": {"every": 2}})


def test_what_does_not_fit_is_counted(measured: dict[str, Any], task: Path) -> None:
    with task.with_name("words.jsonl").open("a") as file:
        file.write(json.dumps({"q": "word " * 200, "options": ["a", "b"], "gold": 0}) + "\n")
    said: list[str] = []
    config = read_train_config(merge(measured, {"evaluate.tasks": [str(task)], "evaluate.shots": [0], "steps": 1}))
    run = run_training(config, said.append, prepare)
    (score,) = evaluations(run.folder)[0]["scores"]
    assert (score["n"], score["long"]) == (4, 1) and any("; 1 item too long" in line for line in said)


def test_what_is_left_out_is_said_once(measured: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = Ran("sentences", 0, Measured([], [], notes=["needs a head that this model has not"]))
    monkeypatch.setattr(during, "run_ready", lambda subject, ready: iter([left_out]))
    said: list[str] = []
    run = run_training(read_train_config(merge(measured, {"steps": 2})), said.append, prepare)
    assert said.count("sentences: needs a head that this model has not") == 1
    assert [row["scores"] for row in evaluations(run.folder)] == [[], []]


def test_trackers_get_a_number_a_name(measured: dict[str, Any]) -> None:
    from ownlm.train.evaluation import tracked

    row = {"task": "words", "metric": "accuracy", "value": 0.5, "low": None, "high": 0.9, "n": 6, "shots": 1}
    names = {"eval/words/accuracy/1_shots": 0.5, "eval/words/accuracy/1_shots/low": None}
    assert tracked([row]) == names | {"eval/words/accuracy/1_shots/high": 0.9}


@pytest.mark.slow
@pytest.mark.parametrize("shard", [1, 2])
def test_several_workers_measure_what_one_does(measured: dict[str, Any], tmp_path: Path, shard: int) -> None:
    alone = train(measured)
    config = measured | {"out": str(tmp_path / "two"), "distributed": {"shard": shard}}
    path = tmp_path / "two.yaml"
    path.write_text(json.dumps(config))
    command = [sys.executable, "-m", "ownlm", "train", str(path), "--workers", "2", "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found = evaluations(tmp_path / "two")
    assert [row["step"] for row in found] == [row["step"] for row in evaluations(alone.folder)]
    for one, other in zip(found, evaluations(alone.folder), strict=True):
        assert one["scores"] == other["scores"]


def test_the_loop_imports_nothing_that_measures() -> None:
    assert not hasattr(loops, "run_tasks") and during.prepare is prepare
