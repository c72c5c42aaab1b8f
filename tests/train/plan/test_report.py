"""The whole plan: exact counts, what fits, what to change, and what a real run then took."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ownlm.errors import ConfigError, DataError
from ownlm.model.adapters import attach
from ownlm.model.checkpoint import load_model_folder, random_model
from ownlm.train.config import read_train_config
from ownlm.train.plan import report
from ownlm.train.plan.report import Plan, make_plan
from ownlm.train.setup import set_up


def plan_of(values: dict[str, Any], **options: Any) -> Plan:
    return make_plan(read_train_config(values), lambda line: None, **options)


def test_the_counts_are_the_models_own(settings: dict[str, Any], chat_settings: dict[str, Any]) -> None:
    whole, adapter = plan_of(settings), plan_of(chat_settings)
    model = random_model(set_up(read_train_config(settings)).shape, 0)
    assert whole.parameters == whole.trained == sum(p.numel() for p in model.parameters())
    config = read_train_config(chat_settings)
    assert config.base is not None and config.adapter is not None
    base = load_model_folder(Path(config.base))
    assert adapter.parameters == sum(p.numel() for p in base.parameters())
    attach(base, config.adapter, 0)
    assert adapter.trained == sum(p.numel() for p in base.parameters() if p.requires_grad)
    assert whole.steps == 12 and whole.tokens_per_second and whole.seconds and whole.fits


def test_the_price_is_that_of_the_hours(settings: dict[str, Any]) -> None:
    found = plan_of(settings, price=3.6)
    assert found.cost == pytest.approx(found.seconds / 1000)
    elsewhere = plan_of(settings, gpu="h100", gpus=4, price=2.0)
    assert elsewhere.cost == pytest.approx(elsewhere.seconds / 3600 * 2.0 * 4)
    assert elsewhere.cluster is not None and elsewhere.as_json()["gpus"] == 4


@pytest.mark.parametrize(
    ("less", "advice"),
    [(0.5, "micro_batch_tokens=128"), (0.3, "recompute=1"), (1.1, "adapter.kind=lora")],
)
def test_what_does_not_fit_is_told_what_to_change(
    less: float,
    advice: str,
    chat_settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``less``: the share of what a step adds for which there is no room."""
    values = {key: value for key, value in chat_settings.items() if key != "adapter"} | {"batch_tokens": 4096}
    values["data"] = chat_settings["data"] | {"length": 128}
    needed = plan_of(values).memory
    room = needed.total - needed.process - less * needed.step
    monkeypatch.setattr(report, "resident_bytes", lambda: 0)
    monkeypatch.setattr(report, "usable_memory_bytes", lambda: int(room / report.USABLE))
    found = plan_of(values)
    assert not found.fits and any(advice in line for line in found.advice), found.advice


def test_too_few_gpus_elsewhere_are_told_how_many_hold_it(settings: dict[str, Any]) -> None:
    shape = {"family": "llama", "size": "2-7b"}
    found = plan_of(settings | {"model": shape, "batch_tokens": 4096}, gpu="rtx4090", gpus=1)
    assert not found.fits and found.advice == ["6 GPUs of the kind below hold it"]


def test_the_memory_budget_is_the_limit_and_blocks_are_computed_again_for_it(settings: dict[str, Any]) -> None:
    free = plan_of(settings)
    tight = plan_of(settings | {"memory_budget": free.memory.total / 1e9 - 1e-6})
    assert tight.limited and tight.memory.step <= free.memory.step
    none = plan_of(settings | {"memory_budget": 0.001})
    assert not none.fits and none.as_json()["available_bytes"] == 1_000_000


def test_an_adapter_elsewhere_keeps_states_of_itself_alone(chat_settings: dict[str, Any]) -> None:
    adapter = plan_of(chat_settings, gpu="rtx4090", gpus=1)
    whole = plan_of({key: value for key, value in chat_settings.items() if key != "adapter"}, gpu="rtx4090", gpus=1)
    assert adapter.cluster is not None and whole.cluster is not None
    saved = 14 * adapter.parameters - 16 * adapter.trained
    # A block gathered is as much smaller as its weights are.
    gathered = 4 * whole.parameters - 2 * adapter.parameters - 4 * adapter.trained
    layers = set_up(read_train_config(chat_settings)).shape.layers
    found = whole.cluster.bytes_per_gpu - adapter.cluster.bytes_per_gpu
    assert found == pytest.approx(saved + gathered / layers, abs=4)


def test_a_run_whose_steps_are_given_is_planned_without_its_data(settings: dict[str, Any], tmp_path: Path) -> None:
    values = settings | {"data": {"train": str(tmp_path / "not-there.jsonl")}}
    said: list[str] = []
    assert make_plan(read_train_config(values), said.append).steps == 12
    assert len(said) == 1 and "not-there.jsonl is not here: planned with full batches" in said[0]
    with pytest.raises(DataError, match=r"no such file"):
        plan_of({key: value for key, value in values.items() if key != "steps"})


def test_175_billion_parameters_on_no_device_at_all(settings: dict[str, Any]) -> None:
    """The model itself, its weights without values: as many as the paper's."""
    from ownlm.model.families import config_from_user
    from ownlm.model.transformer import Transformer

    config = config_from_user({"family": "gpt3", "size": "175B"})
    with torch.device("meta"):
        model = Transformer(config)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == config.parameters() and round(count / 1e9) == 175


@pytest.mark.parametrize("model", [{"family": "gpt3", "size": "175B"}, {"family": "bert", "size": "base"}])
def test_a_new_model_is_planned_before_it_has_a_tokenizer(model: dict[str, Any], settings: dict[str, Any]) -> None:
    objective = {"kind": "masked" if model["family"] == "bert" else "causal"}
    values = settings | {"model": model, "tokenizer": None, "objective": objective}
    planned = make_plan(read_train_config(values), lambda _: None, gpu="h100")
    assert planned.steps == 12 and planned.parameters > 1e8
    with pytest.raises(ConfigError, match="a new model needs a tokenizer"):
        set_up(read_train_config(values))
    with pytest.raises(ConfigError, match="a new model needs a tokenizer"):
        make_plan(read_train_config(values | {"steps": None, "epochs": 1}), lambda _: None, gpu="h100")


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bf16"},
        {"precision": "fp32", "micro_batch_tokens": 1024},
        {"recompute": 4, "optimizer": {"states": "eight_bit"}},
    ],
    ids=["bfloat16", "float32, micro-batches", "recomputed, eight bits"],
)
def test_a_run_takes_the_memory_that_was_planned(
    changes: dict[str, Any], settings: dict[str, Any], own_process: Callable[..., dict[str, Any]]
) -> None:
    shape = settings["model"] | {"layers": 6, "width": 512, "heads": 8}
    values = settings | {"model": shape, "batch_tokens": 4096, "steps": 3, "checkpoint": {"every": 10}} | changes
    values["data"] = {"train": settings["data"]["train"], "length": 64}
    planned, run = own_process("plan", values), own_process("train", values)
    assert run["peak_memory_bytes"] == pytest.approx(planned["memory_bytes"], rel=0.1)


@pytest.fixture
def own_process(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(command: str, values: dict[str, Any]) -> dict[str, Any]:
        (tmp_path / "config.yaml").write_text(json.dumps(values))
        line = [sys.executable, "-m", "ownlm", command, str(tmp_path / "config.yaml"), "--json"]
        answer: dict[str, Any] = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
        return answer

    return run
