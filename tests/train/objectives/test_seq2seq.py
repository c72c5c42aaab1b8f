"""One text from another: the public loss and gradients, the same for any split, and a run that learns to turn words."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers

from ownlm.errors import ConfigError, DataError
from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder, state_to_hf
from ownlm.model.families import config_from_user
from ownlm.prediction.rewriting import RewriteOptions, rewrite
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.setup import set_up

WORDS = ["the", "a", "model", "reads", "text", "learns"]
SHAPE = {"family": "marian", "layers": 2, "width": 32, "heads": 4, "vocab_size": 320, "max_positions": 64}


def pairs(count: int, seed: int, longest: int = 12) -> list[dict[str, str]]:
    """Words, and the same words backwards."""
    draw = random.Random(seed)
    drawn = [draw.choices(WORDS, k=draw.randint(1, longest)) for _ in range(count)]
    return [{"source": " ".join(words), "target": " ".join(words[::-1])} for words in drawn]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def config(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("OWNLM_HOME", str(tmp_path / "home"))
    data = {"train": str(write(tmp_path / "train.jsonl", pairs(120, 1))), "length": 32}
    data["validation"] = str(write(tmp_path / "held.jsonl", pairs(20, 2)))
    return {
        "out": str(tmp_path / "run"),
        "model": SHAPE,
        "tokenizer": str(corpus / "tokenizer"),
        "data": data,
        "objective": {"kind": "seq2seq"},
        "batch_tokens": 512,
        "precision": "fp32",
        "steps": 4,
        "optimizer": {"lr": 3e-3},
    }


@pytest.fixture
def base(corpus: Path, tmp_path: Path) -> Path:
    """A random model as a folder."""
    model = random_model(config_from_user({**SHAPE, "initializer_range": 0.2, "start_token": 310}), 3)
    save_model_folder(model, tmp_path / "base", tokenizer=load_tokenizer(corpus / "tokenizer"))
    return tmp_path / "base"


def test_the_loss_and_gradients_are_the_public_ones(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready_for: Callable[..., Any]
) -> None:
    rows = pairs(30, 5)
    ready = ready_for(base, write(tmp_path / "pairs.jsonl", rows), 10_000, kind="seq2seq", smoothing=0.1)
    ready.model.train()
    loss, gradients = ready.step([ready.loader.batch(0)])
    public = transformers.MarianMTModel.from_pretrained(base, dtype=torch.float32).train()
    for module in public.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    tokenizer = load_tokenizer(base)
    total, count = torch.zeros(()), 0
    for row in rows:
        source, target = ([*tokenizer.encode(row[key]), tokenizer.eos_id] for key in ("source", "target"))
        given = torch.tensor([[310, *target[:-1]]])
        logits = public(input_ids=torch.tensor([source]), decoder_input_ids=given).logits[0]
        total = total + F.cross_entropy(logits, torch.tensor(target), label_smoothing=0.1, reduction="sum")
        count += len(target)
    (total / count).backward()
    assert loss == pytest.approx(total.item() / count, rel=1e-5)
    theirs = {name: parameter.grad for name, parameter in public.named_parameters() if parameter.grad is not None}
    ours = state_to_hf(gradients, ready.model.config)
    # The public class learns nothing of the start token's embedding, which is its padding.
    for grads in (ours, theirs):
        grads["model.shared.weight"][310] = 0.0
    for name in ours.keys() & theirs.keys():
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-3)
    assert len(ours.keys() & theirs.keys()) > 40


@pytest.mark.parametrize("micro", [20, 60, 200])
def test_any_split_into_micro_batches_gives_one_loss(
    micro: int, base: Path, tmp_path: Path, ready_for: Callable[..., Any]
) -> None:
    ready = ready_for(base, write(tmp_path / "pairs.jsonl", pairs(30, 5)), 10_000, kind="seq2seq")
    whole, gradients = ready.step([ready.loader.batch(0)])
    parts, others = ready.step(ready.loader.micro_batches(0, micro))
    assert parts == pytest.approx(whole, rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.usefixtures("undrawn")
def test_a_run_learns_and_its_ledger_knows_every_token(config: dict[str, Any], train: Callable[..., Any]) -> None:
    data = config["data"]
    write(Path(data["train"]), pairs(400, 1, longest=2))
    write(Path(data["validation"]), pairs(30, 2, longest=2))
    trained = train(config, steps=None, epochs=20, batch_tokens=128, objective__smoothing=0.0, validate__every=1000)
    summary = trained.run.summary
    total = summary["ledger"]["total"]
    assert total["documents"] == 800 and total["unseen"] == 0 and total["dropped"] == {}
    model = load_model_folder(trained.run.model)
    tokenizer = load_tokenizer(trained.run.model)
    assert read_config(trained.run.model).start_token == tokenizer.eos_id, "the tokenizer knows no padding"
    rows = [json.loads(line) for line in Path(data["validation"]).read_text().splitlines()]
    made = rewrite(model, tokenizer, [row["source"] for row in rows], RewriteOptions(beams=2))
    right = sum(one.output == row["target"] for one, row in zip(made, rows, strict=True))
    assert right >= 25 and summary["val_loss"] < 0.3


def test_two_workers_train_what_one_does(config: dict[str, Any], tmp_path: Path) -> None:
    losses = {}
    for name, arguments in (("one", []), ("two", ["--workers", "2"])):
        path = tmp_path / f"{name}.yaml"
        path.write_text(json.dumps(config | {"out": str(tmp_path / name)}))
        command = [sys.executable, "-m", "ownlm", "train", str(path), *arguments, "--json"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=240)
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / name / "metrics.jsonl").read_text().split("\n")[:-1]
        losses[name] = [row.get("loss", row.get("val_loss")) for row in map(json.loads, lines)]
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-5)


def test_a_model_without_an_encoder_is_refused(config: dict[str, Any]) -> None:
    changed = config | {"model": {**SHAPE, "family": "gpt2"}}
    with pytest.raises(ConfigError, match="a gpt2 model has no encoder beside its decoder") as caught:
        set_up(read_train_config(changed))
    assert caught.value.where == "objective.kind"


def test_other_objectives_refuse_an_encoder_with_a_decoder(config: dict[str, Any]) -> None:
    for kind in ("causal", "chat", "span", "preference"):
        with pytest.raises(ConfigError, match="it has an encoder and a decoder") as caught:
            set_up(read_train_config(config | {"objective": {"kind": kind}}))
        assert caught.value.where == "objective.kind"


def test_a_dataset_of_another_kind_is_refused(config: dict[str, Any], corpus: Path, train: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="not clear which columns"):
        write(Path(config["data"]["train"]), [{"a": "x", "b": "y", "c": "z"}])
        train(config)
