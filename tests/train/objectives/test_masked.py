"""Hidden tokens: what is chosen, what it becomes, and a loss that is the public implementation's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.config import merge
from ownlm.errors import ConfigError, ModelError
from ownlm.model.checkpoint import random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.tokens.batch import Batch
from ownlm.tokens.tokenizer import Tokenizer
from ownlm.train.config import read_train_config
from ownlm.train.objectives.masked import Masked, MaskedConfig, _Vocabulary, hide

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PIECES += ["al", "##pha", "be", "##ta", "##s", "river", "house", "tree", "moon", "reads", "##ing", "a", "the"]
CLS, SEP, MASK = 2, 3, 4


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    vocabulary = {piece: number for number, piece in enumerate(PIECES)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.decoder = tokenizers.decoders.WordPiece()
    specials = [("[CLS]", CLS), ("[SEP]", SEP)]
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=specials
    )
    backend.add_special_tokens(PIECES[:5])
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "unk_token": "[UNK]"}
    return Tokenizer(backend, names=names | {"pad_token": "[PAD]"})


def batch_of(documents: list[list[int]], pieces: list[int]) -> Batch:
    starts = np.cumsum([0, *map(len, documents)]).tolist()
    tokens = torch.tensor([token for document in documents for token in document])
    positions = torch.cat([torch.arange(len(document)) for document in documents])
    ones = torch.ones(len(tokens))
    return Batch(tokens, positions, tuple(starts), tokens.roll(-1), ones, tuple(pieces))


words = st.lists(st.integers(5, len(PIECES) - 1), min_size=1, max_size=40)
documents = st.lists(words.map(lambda ids: [CLS, *ids, SEP]), min_size=1, max_size=8)


@settings(deadline=None, max_examples=60)
@given(documents, st.floats(0.05, 0.9), st.booleans(), st.integers(0, 10**6))
def test_each_document_hides_its_share_and_nothing_special(
    tokenizer: Tokenizer, rows: list[list[int]], share: float, whole: bool, step: int
) -> None:
    config = MaskedConfig(mask=share, whole_words=whole)
    vocabulary = _Vocabulary.of(tokenizer, whole)
    batch = batch_of(rows, list(range(len(rows))))
    hidden, chosen = hide(batch, config, vocabulary, (7, step))
    tokens = batch.tokens.numpy()
    assert (hidden[~chosen] == tokens[~chosen]).all()
    assert not chosen[tokens < 5].any() and not (np.isin(hidden, [0, 1, 2, 3]) & chosen).any()
    for row, (a, b) in zip(rows, zip(batch.document_starts, batch.document_starts[1:], strict=False), strict=True):
        wanted = max(1, round(share * (len(row) - 2)))
        told = int(chosen[a:b].sum())
        if not whole:
            assert told == wanted
            continue
        # By brute force: a word is a piece and the "##" pieces after it.
        groups: list[list[int]] = []
        for place in range(1, len(row) - 1):
            follows = PIECES[row[place]].startswith("##") and groups and groups[-1][-1] == place - 1
            groups[-1].append(place) if follows else groups.append([place])
        for group in groups:
            assert len({bool(chosen[a + place]) for place in group}) == 1
        assert wanted <= told < wanted + max(map(len, groups))


@settings(deadline=None, max_examples=30)
@given(documents, st.randoms(use_true_random=False))
def test_what_is_hidden_does_not_depend_on_the_packing(
    tokenizer: Tokenizer, rows: list[list[int]], random: Any
) -> None:
    vocabulary = _Vocabulary.of(tokenizer, False)
    order = list(range(len(rows)))
    together = hide(batch_of(rows, order), MaskedConfig(), vocabulary, (1, 3))
    random.shuffle(order)
    shuffled = batch_of([rows[i] for i in order], order)
    again = hide(shuffled, MaskedConfig(), vocabulary, (1, 3))
    starts = np.cumsum([0, *map(len, rows)])
    for place, i in enumerate(order):
        a, b = shuffled.document_starts[place], shuffled.document_starts[place + 1]
        for found, expected in zip(again, together, strict=True):
            assert (found[a:b] == expected[starts[i] : starts[i + 1]]).all()


def test_replacements_come_in_their_shares(tokenizer: Tokenizer) -> None:
    rows = [[CLS, *([5 + i % 13 for i in range(200)]), SEP] for _ in range(300)]
    batch = batch_of(rows, list(range(300)))
    hidden, chosen = hide(batch, MaskedConfig(), _Vocabulary.of(tokenizer, False), (0, 1))
    n = int(chosen.sum())
    assert n == 300 * 30
    masked = (hidden[chosen] == MASK).mean()
    same = (hidden[chosen] == batch.tokens.numpy()[chosen]).mean()
    # Four standard deviations of a binomial; a random token is the same one in 13 times.
    assert masked == pytest.approx(0.8, abs=4 * (0.16 / n) ** 0.5)
    assert same == pytest.approx(0.1 + 0.1 / 13, abs=4 * (0.1 / n) ** 0.5)
    random = hidden[chosen & (hidden != MASK) & (hidden != batch.tokens.numpy())]
    counts = np.bincount(random, minlength=len(PIECES))[5:]
    assert counts.min() > 0.5 * counts.mean()
    # Every place is as likely as any other.
    by_place = chosen.reshape(300, 202)[:, 1:-1].sum(0)
    assert abs(by_place - 45).max() < 5 * (45 * 0.85) ** 0.5


def test_dynamic_masks_change_with_the_step_and_static_ones_do_not(tokenizer: Tokenizer) -> None:
    batch = batch_of([[CLS, *range(5, 18), SEP]] * 20, list(range(20)))
    for dynamic in (True, False):
        objective = Masked(MaskedConfig(dynamic=dynamic), 3)
        objective.tokenizer(tokenizer)
        first, later = (objective.batch(batch, step) for step in (0, 9))
        assert torch.equal(first.weights, later.weights) != dynamic
        held = [objective.batch(batch, None) for _ in range(2)]
        assert torch.equal(held[0].tokens, held[1].tokens)
        assert torch.equal(first.targets, batch.tokens) and first.trained_tokens == 20 * 2


def test_the_loss_and_its_gradient_are_those_of_transformers(tokenizer: Tokenizer, tmp_path: Path) -> None:
    shape = {"family": "bert", "layers": 2, "width": 32, "heads": 4, "vocab_size": len(PIECES), "max_positions": 64}
    config = config_from_user(shape | {"initializer_range": 0.2})
    model = random_model(config, 0)
    save_model_folder(model, tmp_path / "bert")
    reference = transformers.BertForMaskedLM.from_pretrained(tmp_path / "bert").eval()
    rows = [[CLS, *([5 + (i * k) % 13 for i in range(length)]), SEP] for k, length in ((3, 7), (5, 30), (7, 18))]
    objective = Masked(MaskedConfig(mask=0.3), 0)
    objective.tokenizer(tokenizer)
    batch = objective.batch(batch_of(rows, [0, 1, 2]), 4)
    units = objective.units(batch)
    loss = objective.loss(model, batch, 1.0 / units)
    loss.backward()
    longest = max(map(len, rows))
    inputs, labels, attended = (torch.full((3, longest), fill) for fill in (0, -100, 0))
    for row, (a, b) in enumerate(zip(batch.document_starts, batch.document_starts[1:], strict=False)):
        inputs[row, : b - a] = batch.tokens[a:b]
        attended[row, : b - a] = 1
        labels[row, : b - a] = torch.where(batch.weights[a:b] != 0, batch.targets[a:b], -100)
    expected = reference(input_ids=inputs, attention_mask=attended, labels=labels).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    theirs = reference.bert.encoder.layer[0].attention.output.dense.weight.grad
    torch.testing.assert_close(model.layers[0].attention.output.weight.grad, theirs, rtol=1e-3, atol=1e-6)
    embedding = reference.bert.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(model.embedding.token.weight.grad, embedding, rtol=1e-3, atol=1e-5)


@pytest.fixture
def masked_settings(settings: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "tokenizer").mkdir()
    tokenizer.save(tmp_path / "tokenizer")
    texts = [" ".join(PIECES[10 + (i * k) % 8].removeprefix("##") for i in range(5 + k % 40)) for k in range(1, 80)]
    for name, chosen in (("train", texts[:60]), ("held", texts[60:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in chosen))
    shape = {"family": "bert", "layers": 2, "width": 32, "heads": 2, "vocab_size": len(PIECES), "max_positions": 32}
    return settings | {
        "model": shape,
        "tokenizer": str(tmp_path / "tokenizer"),
        "objective": {"kind": "masked"},
        "data": {"train": str(tmp_path / "train.jsonl"), "validation": str(tmp_path / "held.jsonl"), "length": 16},
    }


def test_a_run_learns_counts_every_token_and_loads_in_transformers(
    masked_settings: dict[str, Any], train: Callable[..., Any]
) -> None:
    done = train(masked_settings, steps=30)
    losses = [loss for _, loss in done.validations]
    assert losses[-1] < losses[0]
    assert all("val_accuracy" in row for row in done.run.metrics if "val_loss" in row)
    total = done.run.summary["ledger"]["total"]
    assert total["tokens"] == total["trained"] + total["masked"] + total["unseen"] and total["trained"] > 0
    model = transformers.AutoModelForMaskedLM.from_pretrained(done.run.model)
    assert isinstance(model, transformers.BertForMaskedLM)


def test_micro_batches_change_nothing_but_rounding(masked_settings: dict[str, Any], train: Callable[..., Any]) -> None:
    runs = [
        train(merge(masked_settings, {"out": f"{masked_settings['out']}-{size}"}), micro_batch_tokens=size)
        for size in (256, 48)
    ]
    losses = [[row["loss"] for row in done.steps] for done in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"objective__mask": 0}, ConfigError, "greater than 0"),
        ({"objective__replace": [0.5, 0.1, 0.1]}, ConfigError, "add up to 1"),
        ({"data__length": 2}, ConfigError, "leave no room for text"),
        ({"model__family": "gpt2"}, ConfigError, "cannot fill gaps"),
        ({"objective__maskk": 0.2}, ConfigError, "unknown key 'maskk'"),
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


def test_an_encoder_is_no_next_token_model(masked_settings: dict[str, Any], train: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="sees what comes next"):
        train(masked_settings, objective={"kind": "causal"})
    assert read_train_config(masked_settings).objective.kind == "masked"
