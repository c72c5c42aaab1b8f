"""Hidden tokens: a loss that is the public implementation's, however a step is cut; runs that resume; what is refused."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from ownlm.config import merge
from ownlm.errors import ConfigError, DataError, ModelError
from ownlm.model.checkpoint import random_model, read_config, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.tokens.batch import Batch
from ownlm.tokens.dataset import Part, write_dataset
from ownlm.tokens.loader import Loader
from ownlm.tokens.masked_text import FOLLOWS, tokenize_for_masking
from ownlm.tokens.prepare import tokenize_files
from ownlm.tokens.shards import TokenDataset
from ownlm.tokens.tokenizer import Tokenizer, load_tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.objectives.masked import Masked, MaskedConfig

SCRIPT = Path(__file__).parents[1] / "train_and_die.py"


@pytest.fixture
def tokenizer(encoder: Path) -> Tokenizer:
    return load_tokenizer(encoder)


@pytest.fixture
def texts(corpus: Path, tmp_path: Path) -> Path:
    """Texts of several sentences, some of them longer than the tiny encoder reads."""
    rows = [json.loads(line)["text"] for line in (corpus / "train.jsonl").read_text().split("\n") if line]
    joined = [" ".join(rows[i : i + 1 + i % 4]) for i in range(0, 60, 2)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in joined))
    return tmp_path / "texts.jsonl"


@pytest.fixture
def masked_settings(settings: dict[str, Any], encoder: Path, texts: Path, corpus: Path) -> dict[str, Any]:
    """A run of a tiny BERT from random weights."""
    shape = {"family": "bert", "layers": 2, "width": 32, "heads": 2, "vocab_size": 304, "max_positions": 64}
    return settings | {
        "model": shape,
        "tokenizer": str(encoder),
        "objective": {"kind": "masked"},
        "data": {"train": str(texts), "validation": str(corpus / "held.jsonl"), "length": 48},
    }


def loader_of(path: Path, tokenizer: Tokenizer, cache: Path, pairs: bool, batch_tokens: int = 400) -> Loader:
    prepared = tokenize_for_masking(path, tokenizer, 48, cache_folder=cache, pairs=pairs)
    return Loader([TokenDataset(prepared.folder)], batch_tokens=batch_tokens, length=48, seed=0)


def padded(batch: Batch) -> dict[str, torch.Tensor]:
    """A batch as the public classes take it."""
    sizes = [b - a for a, b in itertools.pairwise(batch.document_starts)]
    shape = (len(sizes), max(sizes))
    result = {name: torch.zeros(shape, dtype=torch.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    result["labels"] = torch.full(shape, -100)
    for row, (a, b) in enumerate(itertools.pairwise(batch.document_starts)):
        result["input_ids"][row, : b - a] = batch.tokens[a:b]
        result["attention_mask"][row, : b - a] = 1
        result["labels"][row, : b - a] = torch.where(batch.weights[a:b] != 0, batch.targets[a:b], -100)
        if batch.segments is not None:
            result["token_type_ids"][row, : b - a] = batch.segments[a:b]
    return result


@pytest.mark.parametrize("pairs", [False, True])
def test_the_loss_and_its_gradient_are_those_of_transformers(
    texts: Path, tokenizer: Tokenizer, tmp_path: Path, pairs: bool
) -> None:
    shape = {"family": "bert", "layers": 2, "width": 32, "heads": 4, "vocab_size": 304, "max_positions": 64}
    model = random_model(config_from_user(shape | {"initializer_range": 0.2, "next_sentence": pairs}), 0)
    save_model_folder(model, tmp_path / "bert")
    kind = transformers.BertForPreTraining if pairs else transformers.BertForMaskedLM
    reference = kind.from_pretrained(tmp_path / "bert").eval()
    objective = Masked(MaskedConfig(next_sentence=pairs), 0)
    objective.tokenizer(tokenizer)
    loaded = loader_of(texts, tokenizer, tmp_path / "cache", pairs).micro_batches(0, 150)
    batches = [objective.batch(batch, 4) for batch in loaded]
    counted = [objective.all_units(batch) for batch in batches]
    assert len(batches) > 2 and len(counted[0]) == objective.parts == 1 + pairs
    units = [sum(column) for column in zip(*counted, strict=True)]
    total = 0.0
    for batch in batches:
        loss = objective.loss(model, batch, *(1.0 / part for part in units))
        loss.backward()
        total += loss.item()
    # The public classes get the whole step in one padded batch.
    whole = objective.batch(loader_of(texts, tokenizer, tmp_path / "cache", pairs).batch(0), 4)
    given = padded(whole)
    if pairs:
        assert 0 < whole.columns[FOLLOWS].sum() < len(whole.documents)
        given["next_sentence_label"] = 1 - whole.columns[FOLLOWS][:, 0]
    expected = reference(**given).loss
    expected.backward()
    assert total == pytest.approx(expected.item(), rel=1e-5)
    encoder = reference.bert
    theirs = {
        "layers.0.attention.output.weight": encoder.encoder.layer[0].attention.output.dense.weight,
        "embedding.token.weight": encoder.embeddings.word_embeddings.weight,
        "embedding.segment.weight": encoder.embeddings.token_type_embeddings.weight,
        "head.dense.weight": reference.cls.predictions.transform.dense.weight,
        "head.bias": reference.cls.predictions.bias,
    }
    if pairs:
        theirs |= {
            "head.pooler.weight": encoder.pooler.dense.weight,
            "head.pair.bias": reference.cls.seq_relationship.bias,
        }
    for name, weight in theirs.items():
        assert weight.grad is not None
        torch.testing.assert_close(model.get_parameter(name).grad, weight.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("pairs", [False, True])
def test_a_step_is_one_however_it_is_cut_and_dealt(
    ready: Callable[..., Any], equal: Callable[..., None], texts: Path, pairs: bool
) -> None:
    here = ready(texts, 700, kind="masked", next_sentence=pairs, whole_words=True)
    whole = here.step([here.loader.batch(0)])
    for size in (1, 100, 333):
        equal(here.step(here.loader.micro_batches(0, size)), whole)
    for workers in (2, 3, 40):
        shares = [here.loader.batch(0, worker, workers) for worker in range(workers)]
        equal(here.step([share for share in shares if len(share)]), whole)
    idle = here.objective.batch(here.loader.idle_batch(0), 0).untrained()
    assert here.objective.all_units(idle) == (0.0,) * here.objective.parts
    assert here.objective.loss(here.model, idle, 1.0).item() == 0


def test_dynamic_masks_change_with_the_step_and_static_ones_do_not(
    texts: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    batch = loader_of(texts, tokenizer, tmp_path / "cache", pairs=False).batch(0)
    for dynamic in (True, False):
        objective = Masked(MaskedConfig(dynamic=dynamic), 3)
        objective.tokenizer(tokenizer)
        first, later = (objective.batch(batch, step) for step in (0, 9))
        assert torch.equal(first.weights, later.weights) != dynamic
        held = [objective.batch(batch, None) for _ in range(2)]
        assert torch.equal(held[0].tokens, held[1].tokens) and not torch.equal(held[0].weights, first.weights)
        assert torch.equal(first.targets, batch.tokens)
        wanted = [max(1, round(0.15 * (b - a - 2))) for a, b in itertools.pairwise(batch.document_starts)]
        assert objective.trained_tokens(first).tolist() == wanted
        other = Masked(MaskedConfig(dynamic=dynamic), 4)
        other.tokenizer(tokenizer)
        assert not torch.equal(other.batch(batch, 0).weights, first.weights)


@pytest.mark.parametrize("objective", [{}, {"next_sentence": True, "whole_words": True}])
def test_a_run_learns_counts_every_token_and_loads_in_transformers(
    masked_settings: dict[str, Any], train: Callable[..., Any], undrawn: None, objective: dict[str, Any]
) -> None:
    done = train(merge(masked_settings, {f"objective.{key}": value for key, value in objective.items()}), steps=30)
    losses = [loss for _, loss in done.validations]
    assert losses[-1] < losses[0]
    measured = [row for row in done.run.metrics if "val_loss" in row]
    assert all(0 <= row["val_accuracy"] <= 1 for row in measured)
    if objective:
        for row in measured:
            assert row["val_loss"] == pytest.approx(row["val_masked_loss"] + row["val_next_sentence_loss"])
            assert 0 <= row["val_next_sentence_accuracy"] <= 1
    total = done.run.summary["ledger"]["total"]
    assert total["tokens"] == total["trained"] + total["masked"] + total["unseen"]
    assert 0 < total["trained"] < 0.25 * (total["trained"] + total["masked"])
    assert done.run.summary["trained_tokens"] == total["trained"]
    public = transformers.AutoModelForPreTraining if objective else transformers.AutoModelForMaskedLM
    _, report = public.from_pretrained(done.run.model, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert read_config(done.run.model).next_sentence == bool(objective)


def curve(run: Path) -> list[tuple[int, str, str]]:
    """Every step's loss and gradient norm and every validation, as text so that each bit counts."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().split("\n")[:-1]]
    return [(r["step"], repr(r.get("loss", r.get("val_loss"))), repr(r.get("grad_norm"))) for r in rows]


def test_a_killed_run_ends_as_the_uninterrupted_one(
    masked_settings: dict[str, Any], train: Callable[..., Any], tmp_path: Path, undrawn: None
) -> None:
    config = merge(masked_settings, {"objective.next_sentence": True, "dropout": 0.1})
    whole, cut = (config | {"out": str(tmp_path / name)} for name in ("whole", "cut"))
    train(whole)
    (tmp_path / "config.json").write_text(json.dumps(cut))
    command = [sys.executable, str(SCRIPT), str(tmp_path / "config.json")]
    step = str(random.Random(0).randint(5, 11))
    assert subprocess.run([*command, "step", step], check=False).returncode == -signal.SIGKILL
    subprocess.run([*command, "never"], check=True)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_base_without_a_head_gets_one_drawn_from_the_seed(
    masked_settings: dict[str, Any], encoder: Path, train: Callable[..., Any], undrawn: None
) -> None:
    config = {key: value for key, value in masked_settings.items() if key not in ("model", "tokenizer")}
    runs = [
        train(config | {"base": str(encoder), "out": f"{config['out']}-{name}"}, steps=3, seed=seed).run
        for name, seed in (("one", 1), ("two", 1), ("three", 2))
    ]
    weights = [(run.model / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1] != weights[2]
    shape = read_config(runs[0].model)
    assert (shape.head, shape.next_sentence) == ("masked", False)
    # What a base can tell already it still can, and what is asked for is added.
    for held, asked in itertools.product((False, True), repeat=2):
        base = shape.model_copy(update={"next_sentence": held})
        assert Masked(MaskedConfig(next_sentence=asked), 0).shape(base, []).next_sentence == (held or asked)


def test_a_built_data_set_of_texts_is_framed(
    masked_settings: dict[str, Any], texts: Path, tokenizer: Tokenizer, tmp_path: Path, train: Callable[..., Any]
) -> None:
    prepared = tokenize_files([texts], tokenizer, kind="text", length=48, cache_folder=tmp_path / "built")
    tokenizer.save(tmp_path / "built" / "tokenizer")
    write_dataset(tmp_path / "built", {"train": [Part("a", prepared.folder)]}, kind="text")
    runs = [
        train(merge(masked_settings, {"out": str(tmp_path / str(n)), "data.train": str(source)}), steps=4)
        for n, source in enumerate([texts, tmp_path / "built"])
    ]
    assert [step["loss"] for step in runs[0].steps] == [step["loss"] for step in runs[1].steps]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"objective__mask": 0}, ConfigError, "greater than 0"),
        ({"objective__mask": 1}, ConfigError, "less than 1"),
        ({"objective__replace": [0.5, 0.1, 0.1]}, ConfigError, "add up to 1"),
        ({"objective__replace": [1.5, -0.5, 0.0]}, ConfigError, "must not be negative"),
        ({"objective__replace": [0.5, 0.5]}, ConfigError, "replace"),
        ({"objective__maskk": 0.2}, ConfigError, "unknown key 'maskk'"),
        ({"data__length": 2}, ConfigError, "leave no room for text"),
        ({"data__length": 4, "objective__next_sentence": True}, ConfigError, "leave no room for text"),
        ({"model__family": "gpt2"}, ConfigError, "cannot fill gaps"),
        ({"model__family": "distilbert", "objective__next_sentence": True}, ConfigError, "two halves apart"),
    ],
)
def test_what_does_not_fit_is_said_before_the_first_step(
    masked_settings: dict[str, Any],
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    train: Callable[..., Any],
) -> None:
    with pytest.raises(error, match=message):
        train(masked_settings, **changes)


def test_a_tokenizer_without_a_mask_token_is_refused(
    masked_settings: dict[str, Any], corpus: Path, train: Callable[..., Any]
) -> None:
    with pytest.raises(ModelError, match="no mask token"):
        train(masked_settings, tokenizer=str(corpus / "tokenizer"), model__vocab_size=320)


def test_nothing_but_unknown_tokens_is_an_error(
    masked_settings: dict[str, Any], tmp_path: Path, train: Callable[..., Any]
) -> None:
    odd = tmp_path / "odd.jsonl"
    odd.write_text('{"text": "жжж жж"}\n{"text": "жж"}\n')
    with pytest.raises(DataError, match="the tokenizer knows no token of these texts") as caught:
        train(merge(masked_settings, {"data": {"train": str(odd), "length": 48}}))
    assert caught.value.where == str(odd)


def test_texts_of_unknown_tokens_are_left_out_and_counted(
    masked_settings: dict[str, Any], tmp_path: Path, train: Callable[..., Any]
) -> None:
    odd = tmp_path / "odd.jsonl"
    odd.write_text('{"text": "жжж жж"}\n{"text": "the model"}\n{"text": "жж"}\n')
    changes = {"data": {"train": str(odd), "length": 8}, "batch_tokens": 8}
    summary = train(merge(masked_settings, changes), steps=3).run.summary
    dropped = summary["ledger"]["total"]["dropped"]
    assert {reason: part["documents"] for reason, part in dropped.items()} == {"no token that the tokenizer knows": 2}
    assert summary["steps"] == 3


def test_datasets_of_other_kinds_and_lengths_are_refused(
    masked_settings: dict[str, Any], texts: Path, tokenizer: Tokenizer, tmp_path: Path, train: Callable[..., Any]
) -> None:
    made = {
        pairs: tokenize_for_masking(texts, tokenizer, 48, cache_folder=tmp_path / "made", pairs=pairs).folder
        for pairs in (False, True)
    }
    for asked in (False, True):
        with pytest.raises(DataError, match="this dataset was made for masked"):
            train(merge(masked_settings, {"data.train": str(made[not asked]), "objective.next_sentence": asked}))
    with pytest.raises(ConfigError, match="none may be split"):
        train(merge(masked_settings, {"data.train": str(made[False]), "data.length": 20}))
    assert train(merge(masked_settings, {"data.train": str(made[False])}), steps=2).run.summary["steps"] == 2


def test_an_encoder_is_no_next_token_model(masked_settings: dict[str, Any], train: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="sees what comes next"):
        train(masked_settings, objective={"kind": "causal"})
    assert read_train_config(masked_settings).objective.kind == "masked"
