"""The stack through its public methods: packing, windows, and losses, against the public implementation."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers

from ownlm.model.checkpoint import random_model, save_model_folder
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer

VOCAB = 53
SHAPE = {"layers": 2, "width": 32, "heads": 4, "vocab_size": VOCAB, "max_positions": 64, "initializer_range": 0.2}
MODELS = {
    "gpt2": {"family": "gpt2"},
    "llama": {"family": "llama", "kv_heads": 2, "tied_head": False},
    "mistral": {"family": "mistral", "kv_heads": 1, "sliding_window": 4},
}


@pytest.fixture(params=MODELS, scope="module")
def model(request: pytest.FixtureRequest) -> Transformer:
    return random_model(config_from_user(SHAPE | MODELS[request.param]), seed=2)


@pytest.fixture(scope="module")
def reference(model: Transformer, tmp_path_factory: pytest.TempPathFactory) -> transformers.PreTrainedModel:
    folder = tmp_path_factory.mktemp("reference")
    save_model_folder(model, Path(folder) / "model")
    return transformers.AutoModelForCausalLM.from_pretrained(folder / "model").eval()


def documents(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(sum(lengths))
    return [torch.randint(0, VOCAB, (length,), generator=generator).tolist() for length in lengths]


def reference_losses(reference: transformers.PreTrainedModel, document: list[int]) -> torch.Tensor:
    tokens = torch.tensor(document)
    logits = reference(tokens.unsqueeze(0)).logits[0, :-1]
    return F.cross_entropy(logits, tokens[1:], reduction="none")


@pytest.mark.parametrize("lengths", [(1,), (9,), (5, 5, 5), (3, 8, 8, 1, 20), (20, 1, 1, 2)])
def test_a_document_is_read_the_same_alone_and_packed(model: Transformer, lengths: tuple[int, ...]) -> None:
    packed = documents(*lengths)
    for logits, document in zip(model.logits(packed), packed, strict=True):
        assert torch.allclose(logits, model.logits([document])[0], atol=1e-5)
        assert logits.dtype == torch.float32


def test_a_window_hides_what_lies_behind_it() -> None:
    config = config_from_user(SHAPE | {"family": "mistral", "layers": 1, "sliding_window": 4})
    model = random_model(config, seed=0)
    (document,) = documents(12)
    changed = [(document[0] + 1) % VOCAB, *document[1:]]
    before, after = model.logits([document])[0], model.logits([changed])[0]
    assert not torch.equal(before[:4], after[:4])
    assert torch.equal(before[4:], after[4:])


def test_token_losses_are_the_references(model: Transformer, reference: transformers.PreTrainedModel) -> None:
    packed = documents(4, 11, 11, 2)
    for losses, document in zip(model.losses(packed), packed, strict=True):
        with torch.no_grad():
            assert torch.allclose(losses, reference_losses(reference, document), atol=1e-4)


def test_the_training_loss_and_its_gradients_are_the_references(
    model: Transformer, reference: transformers.PreTrainedModel
) -> None:
    packed = documents(6, 13, 6)
    starts = [0, 6, 19, 25]
    tokens = torch.tensor([token for document in packed for token in document])
    positions = torch.tensor([place for document in packed for place in range(len(document))])
    # The last token of a document has nothing to predict; every third target is not trained.
    weights = torch.tensor([float(i % 3 > 0 and i + 1 not in starts) for i in range(25)])
    model.zero_grad()
    reference.zero_grad()
    loss, count = model.loss(tokens, positions, starts, tokens.roll(-1), weights)
    loss.backward()
    expected = sum(
        (reference_losses(reference, document) * weights[start : start + len(document) - 1]).sum()
        for document, start in zip(packed, starts, strict=False)
    )
    expected.backward()
    assert int(count) == int(weights.sum())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    embedding = model.embedding.token.weight.grad
    assert embedding is not None
    assert torch.allclose(embedding, reference.get_input_embeddings().weight.grad, atol=1e-4)


@pytest.mark.parametrize("times", [1, 2])
def test_a_tied_heads_gradient_holds_what_was_looked_up(times: int) -> None:
    """However often tokens were read before, and whether the head is used at all."""
    model = random_model(config_from_user(SHAPE | MODELS["gpt2"]), seed=2)
    tokens = torch.tensor([3, 3, 7, 50])
    weight, positions, starts = model.embedding.token.weight, torch.arange(4), [0, 4]
    hidden = torch.stack([model.read(tokens, positions, starts)[:4] for _ in range(times)]).sum(0)
    assert torch.equal(copy.deepcopy(model).head_weight, weight)
    head = model.head_weight
    assert head.data_ptr() == weight.data_ptr() and model.head_weight is weight
    ((hidden @ head.t()).square().sum()).backward()
    found, weight.grad = weight.grad, None
    hidden = torch.stack([model.read(tokens, positions, starts)[:4] for _ in range(times)]).sum(0)
    ((hidden @ weight.t()).square().sum()).backward()
    torch.testing.assert_close(found, weight.grad)
    weight.grad = None
    model.read(tokens, positions, starts)[:4, :9].sum().backward()
    assert weight.grad is not None and weight.grad[[3, 7, 50]].any(1).all()
    assert not weight.grad.any(1)[[0, 4, 52]].any()
