"""The original Transformer against Transformers' Marian: logits, losses and folders, both ways, on packed pairs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from ownlm.errors import ConfigError, ModelError
from ownlm.model.checkpoint import load_model_folder, random_model, read_config, save_model_folder
from ownlm.model.cross import SourceTokens
from ownlm.model.families import config_from_hf, config_from_user
from ownlm.model.transformer import Transformer

VOCAB, START, END = 97, 96, 0
MARIAN = {"vocab_size": VOCAB, "d_model": 32, "encoder_layers": 3, "decoder_layers": 2, "max_position_embeddings": 64}
MARIAN |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 72, "decoder_ffn_dim": 72}
MARIAN |= {"pad_token_id": START, "decoder_start_token_id": START, "eos_token_id": END, "init_std": 0.2}
KINDS: dict[str, dict[str, Any]] = {
    "paper": {"activation_function": "relu", "scale_embedding": True},
    "opus": {"activation_function": "swish", "scale_embedding": True},
    "plain": {"activation_function": "gelu", "scale_embedding": False},
}
LENGTHS = ((7, 5), (40, 1), (3, 40), (13, 13))


def packed(documents: list[Tensor]) -> tuple[Tensor, Tensor, list[int]]:
    """Documents one after another, their positions, and where they begin."""
    starts = list(itertools.accumulate(map(len, documents), initial=0))
    return torch.cat(documents), torch.cat([torch.arange(len(document)) for document in documents]), starts


def drawn(seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Sources and targets of several lengths."""
    generator = torch.Generator().manual_seed(seed)
    pairs = [[torch.randint(1, START, (n,), generator=generator) for n in both] for both in LENGTHS]
    return [source for source, _ in pairs], [target for _, target in pairs]


def public(folder: Path, **changes: Any) -> transformers.MarianMTModel:
    """The public model with random weights, its bias on the logits too, saved in a folder."""
    torch.manual_seed(3)
    model = transformers.MarianMTModel(transformers.MarianConfig(**{**MARIAN, **changes})).eval()
    with torch.no_grad():
        model.final_logits_bias.normal_()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    return model


def logits(model: Transformer, sources: list[Tensor], targets: list[Tensor]) -> list[Tensor]:
    """Our logits of each target, all in one packed pass."""
    tokens, positions, starts = packed(targets)
    with torch.no_grad():
        hidden = model.read(tokens, positions, starts, source=SourceTokens(*packed(sources)))
        return [model.logits_of(hidden[a:b]) for a, b in itertools.pairwise(starts)]


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_the_public_ones_and_folders_go_both_ways(kind: str, tmp_path: Path) -> None:
    reference = public(tmp_path / "theirs", **KINDS[kind])
    model = load_model_folder(tmp_path / "theirs")
    assert model.config.parameters() == sum(parameter.numel() for parameter in model.parameters())
    save_model_folder(model, tmp_path / "ours")
    again = transformers.MarianMTModel.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert again.config.decoder_start_token_id == START
    sources, targets = drawn(1)
    for ours, source, target in zip(logits(model, sources, targets), sources, targets, strict=True):
        for other in (reference, again):
            theirs = other(input_ids=source[None], decoder_input_ids=target[None]).logits[0]
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_pair_sees_no_other(tmp_path: Path) -> None:
    public(tmp_path / "theirs")
    model = load_model_folder(tmp_path / "theirs")
    sources, targets = drawn(2)
    alone = [logits(model, [source], [target])[0] for source, target in zip(sources, targets, strict=True)]
    for one, together in zip(alone, logits(model, sources, targets), strict=True):
        torch.testing.assert_close(one, together, atol=1e-5, rtol=0)


def test_the_smoothed_loss_and_every_gradient_are_the_public_ones(tmp_path: Path) -> None:
    reference = public(tmp_path / "theirs").train()
    reference.config.dropout = 0.0
    for module in reference.modules():
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    model = load_model_folder(tmp_path / "theirs").train()
    sources, targets = drawn(3)
    tokens, positions, starts = packed(targets)
    follows = tokens.roll(-1)
    weights = torch.ones(len(tokens))
    hidden = model.read(tokens, positions, starts, source=SourceTokens(*packed(sources)))
    loss = model.loss_of(hidden, follows, weights, smoothing=0.1)[0]
    loss.backward()
    total = torch.zeros(())
    for (a, b), source, target in zip(itertools.pairwise(starts), sources, targets, strict=True):
        theirs = reference(input_ids=source[None], decoder_input_ids=target[None]).logits[0]
        total = total + F.cross_entropy(theirs, follows[a:b], label_smoothing=0.1, reduction="sum")
    total.backward()
    torch.testing.assert_close(loss, total, atol=1e-2, rtol=1e-5)
    grads = dict(reference.named_parameters())
    torch.testing.assert_close(
        model.embedding.token.weight.grad, grads["model.shared.weight"].grad, atol=2e-3, rtol=1e-4
    )
    key, value = (grads[f"model.decoder.layers.1.encoder_attn.{part}_proj.weight"].grad for part in "kv")
    ours = model.get_parameter("layers.1.cross.key_value.weight").grad
    torch.testing.assert_close(ours, torch.cat((key, value)), atol=2e-3, rtol=1e-4)
    first = model.get_parameter("encoder.0.feedforward.up.weight").grad
    torch.testing.assert_close(first, grads["model.encoder.layers.0.fc1.weight"].grad, atol=2e-3, rtol=1e-4)


def test_recomputed_blocks_give_the_same_gradients() -> None:
    config = config_from_user(
        {"family": "marian", "layers": 2, "width": 32, "heads": 4, "vocab_size": VOCAB} | {"max_positions": 64}
    )
    sources, targets = drawn(4)
    tokens, positions, starts = packed(targets)
    grads = []
    for recomputed in (0, 2):
        model = random_model(config, 1).train()
        model.recomputed = recomputed
        hidden = model.read(tokens, positions, starts, source=SourceTokens(*packed(sources)))
        model.loss_of(hidden, tokens.roll(-1), torch.ones(len(tokens)))[0].backward()
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings"),
        ({"decoder_vocab_size": 50}, "decoder_vocab_size"),
        ({"decoder_ffn_dim": 40}, "decoder_ffn_dim"),
    ],
)
def test_what_is_not_supported_is_named(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ModelError) as caught:
        config_from_hf({"model_type": "marian", **MARIAN, **change}, where="config.json")
    assert caught.value.where == f"config.json: {where}"


@pytest.mark.parametrize(
    "change", [{"head": "lm"}, {"norm_position": "pre"}, {"tied_head": False}, {"encoder_layers": 0}]
)
def test_a_shape_that_no_folder_could_hold_is_refused(change: dict[str, Any]) -> None:
    values = {"family": "marian", "layers": 2, "width": 32, "heads": 4, "vocab_size": VOCAB, "max_positions": 64}
    with pytest.raises(ConfigError):
        config_from_user(values | change)


def test_an_encoder_of_another_depth_is_read(tmp_path: Path) -> None:
    public(tmp_path / "theirs")
    config = read_config(tmp_path / "theirs")
    assert (config.encoder_layers, config.layers, config.start_token) == (3, 2, START)
