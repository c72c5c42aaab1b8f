"""Promise 2, one loss: however a step is cut, packed, dealt or computed, its loss and its gradients are the same.

And they are those of the public implementation, normalised by the count of trained tokens of the whole step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from ownlm.model.adapters import LoraConfig, adapter_layers, attach, merge
from ownlm.model.checkpoint import load_model_folder, random_model, save_model_folder, state_to_hf
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.tokens.batch import Batch
from ownlm.tokens.loader import Loader
from ownlm.tokens.prepare import tokenize_files
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.run import run_training

# Float32 sums in another order: relative to a gradient's largest value.
TOLERANCE = 1e-5
# Bfloat16 keeps 8 bits; relative to the norm of a gradient, two ways of cutting a step differ by less than two of them.
BFLOAT16_TOLERANCE = 1e-2
LENGTH = 48
BATCH_TOKENS = 1024

Gradients = dict[str, Tensor]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with weights large enough for its logits to differ."""
    shape = {"family": request.param, "layers": 2, "width": 32, "heads": 4, "vocab_size": 320, "max_positions": 128}
    shape |= {"initializer_range": 0.15} | ({"kv_heads": 2} if request.param == "llama" else {})
    folder = tmp_path_factory.mktemp(request.param)
    save_model_folder(random_model(config_from_user(shape), 1), folder / "base")
    return folder / "base"


@pytest.fixture(scope="module", params=["text", "chat"])
def loader(request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Texts, some of them split, or conversations of which only the answers are trained."""
    file, length = ("train.jsonl", LENGTH) if request.param == "text" else ("chats.jsonl", BATCH_TOKENS)
    prepared = tokenize_files(
        [corpus / file],
        load_tokenizer(corpus / "tokenizer"),
        kind=request.param,
        length=length,
        cache_folder=tmp_path_factory.mktemp("cache"),
    )
    return Loader([TokenDataset(prepared.folder)], batch_tokens=BATCH_TOKENS, length=length, seed=3)


def step_of(model: Transformer, batches: Iterable[Batch], trained: int) -> tuple[float, Gradients]:
    """The loss and gradients of a step, as the loop adds them up."""
    model.zero_grad(set_to_none=True)
    total = 0.0
    for batch in batches:
        weights = batch.weights / trained
        loss, _ = model.loss(batch.tokens, batch.positions, batch.document_starts, batch.targets, weights)
        loss.backward()
        total += loss.item()
    return total, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def alone(loader: Loader) -> list[Batch]:
    """Every document of the step in a batch of its own."""
    return loader.micro_batches(0, 1)


def equal(found: tuple[float, Gradients], expected: tuple[float, Gradients], tolerance: float = TOLERANCE) -> None:
    assert found[0] == pytest.approx(expected[0], rel=tolerance)
    assert set(found[1]) == set(expected[1])
    for name, gradient in expected[1].items():
        # A key's bias moves every score of a row alike, so that its gradient is nothing but rounding.
        scale = max(gradient.abs().max().item(), 1e-3)
        assert (found[1][name] - gradient).abs().max() <= tolerance * scale, name


def test_any_micro_batch_split_any_packing_and_any_workers(folder: Path, loader: Loader) -> None:
    model, trained = load_model_folder(folder), loader.trained_tokens(0)
    whole = step_of(model, [loader.batch(0)], trained)
    assert len(alone(loader)) > 12 and loader.batch(0).trained_tokens == trained
    equal(step_of(model, alone(loader), trained), whole)
    for size in (LENGTH, 100, 333, BATCH_TOKENS):
        equal(step_of(model, loader.micro_batches(0, size), trained), whole)
    for workers in (2, 3, 64):
        shares = [loader.batch(0, worker, workers) for worker in range(workers)]
        equal(step_of(model, [share for share in shares if len(share)], trained), whole)


def test_it_is_the_public_loss_over_the_count_of_all_trained_tokens(folder: Path, loader: Loader) -> None:
    trained = loader.trained_tokens(0)
    found = step_of(load_model_folder(folder), loader.micro_batches(0, 200), trained)
    reference = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    total = 0.0
    for batch in alone(loader):
        # A piece's last token may predict the document's next one, which the reference has to be given to read.
        tokens = torch.cat((batch.tokens, batch.targets[-1:]))
        labels = torch.where(torch.cat((torch.zeros(1), batch.weights)) > 0, tokens, -100)
        loss = reference(input_ids=tokens[None], labels=labels[None], num_items_in_batch=trained).loss
        loss.backward()
        total += loss.item()
    names = {id(parameter): name for name, parameter in reference.named_parameters()}
    expected = {names[id(p)]: p.grad for p in reference.parameters() if p.grad is not None}
    ours = state_to_hf(found[1], load_model_folder(folder).config)
    equal((found[0], {name: ours[name] for name in expected}), (total, expected))


def test_a_merged_adapter_gives_the_loss_and_the_gradient_of_the_one_beside_the_base(
    folder: Path, loader: Loader
) -> None:
    """The loss is equal, and so is what reaches the stream: the gradients of the norms, which no adapter touches."""
    model, trained = load_model_folder(folder), loader.trained_tokens(0)
    attach(model, LoraConfig(rank=4), 0)
    for name, layer in adapter_layers(model).items():
        layer.b.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    model.requires_grad_(True)
    beside = step_of(model, loader.micro_batches(0, 200), trained)
    merge(model)
    merged = step_of(model, [loader.batch(0)], trained)
    shared = {name: gradient for name, gradient in beside[1].items() if name in merged[1]}
    assert any("norm" in name for name in shared) and any("embedding" in name for name in shared)
    equal((merged[0], {name: merged[1][name] for name in shared}), (beside[0], shared))


def test_bfloat16_keeps_the_promise_within_its_own_precision(folder: Path, loader: Loader) -> None:
    model, trained = load_model_folder(folder), loader.trained_tokens(0)
    exact = step_of(model, [loader.batch(0)], trained)
    model.compute_dtype = torch.bfloat16
    whole = step_of(model, [loader.batch(0)], trained)
    assert all(gradient.dtype == torch.float32 for gradient in whole[1].values())
    assert whole[0] == pytest.approx(exact[0], rel=1e-2)
    for size in (1, 100, 333):
        cut = step_of(model, loader.micro_batches(0, size), trained)
        assert cut[0] == pytest.approx(whole[0], rel=1e-3)
        for name, gradient in whole[1].items():
            scale = max(gradient.norm().item(), 1e-3)
            assert (cut[1][name] - gradient).norm() <= BFLOAT16_TOLERANCE * scale, name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiled_parts_give_the_same_step(folder: Path, loader: Loader, dtype: torch.dtype) -> None:
    model, trained = load_model_folder(folder), loader.trained_tokens(0)
    model.compute_dtype = dtype
    eager = step_of(model, loader.micro_batches(0, 200), trained)
    model.compile_parts()
    compiled = step_of(model, loader.micro_batches(0, 200), trained)
    if dtype == torch.float32:
        equal(compiled, eager)
        return
    assert compiled[0] == pytest.approx(eager[0], rel=1e-3)
    for name, gradient in eager[1].items():
        scale = max(gradient.norm().item(), 1e-3)
        assert (compiled[1][name] - gradient).norm() <= BFLOAT16_TOLERANCE * scale, name


def curve(settings: dict[str, Any], out: Path, **changes: Any) -> list[dict[str, float]]:
    config = settings | {"out": str(out), "steps": 4, "checkpoint": {"every": 4}} | changes
    run_training(read_train_config(config), say=lambda message: None)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().split("\n")[:-1]]
    return [row for row in rows if "loss" in row]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("kind", ["whole model", "adapter, chats"])
def test_a_runs_curve_does_not_depend_on_the_micro_batch(
    kind: str, settings: dict[str, Any], chat_settings: dict[str, Any], tmp_path: Path
) -> None:
    config = settings if kind == "whole model" else chat_settings
    auto, *others = (curve(config, tmp_path / str(size), micro_batch_tokens=size) for size in ("auto", 1, 70, 4096))
    for other in others:
        # The first step's weights are equal; from the second on, AdamW has divided rounding by rounding.
        for row, expected, tolerance in zip(other, auto, (TOLERANCE, 1e-4, 1e-4, 1e-4), strict=True):
            assert row["loss"] == pytest.approx(expected["loss"], rel=tolerance)
            assert row["grad_norm"] == pytest.approx(expected["grad_norm"], rel=10 * tolerance)
            assert row["tokens"] == expected["tokens"] and row["trained_tokens"] == expected["trained_tokens"]
