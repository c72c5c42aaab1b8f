"""The model as the engine runs it gives the bits of the model it was made from."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from ownlm.engine.packed_model import PackedLinear, PackedModel
from ownlm.model.adapters import LoraConfig, adapter_layers, attach, merge
from ownlm.model.packed import Packed
from ownlm.model.transformer import Transformer

TOKENS = torch.arange(40) % 7


@torch.no_grad()
def logits(model: PackedModel | Transformer) -> torch.Tensor:
    return model.logits_of(model(TOKENS, torch.arange(40), Packed([0, 40])))


def packs() -> bool:
    return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3", "gemma2"])
@pytest.mark.parametrize("tied_head", [True, False])
def test_packed_products_have_the_same_bits(make_model: Callable[..., Transformer], name: str, tied_head: bool) -> None:
    if not packs():
        pytest.skip("this machine has no bfloat16 instructions")
    model = make_model(name, dtype=torch.bfloat16, tied_head=tied_head)
    packed = PackedModel(model)
    assert any(isinstance(module, PackedLinear) for module in packed._model.modules())
    assert torch.equal(logits(packed), logits(model))


def test_adapters_are_kept(make_model: Callable[..., Transformer]) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        model = make_model("llama", dtype=dtype)
        plain = logits(model)
        attach(model, LoraConfig(rank=2), seed=0)
        for layer in adapter_layers(model).values():
            torch.nn.init.normal_(layer.b, std=0.3)
        assert not torch.allclose(logits(model), plain)
        torch.testing.assert_close(logits(PackedModel(model)), logits(model), atol=1e-5, rtol=1e-5)


def test_weights_that_need_no_change_are_shared(llama: Transformer) -> None:
    packed = PackedModel(llama)
    ours = {weight.data_ptr() for weight in llama.parameters()}
    assert {weight.data_ptr() for weight in packed._model.parameters()} == ours
    assert torch.equal(logits(packed), logits(llama))


def test_wider_weights_are_narrowed_and_the_model_is_left_alone(make_model: Callable[..., Transformer]) -> None:
    model = make_model("llama")
    model.compute_dtype = torch.bfloat16
    packed = PackedModel(model)
    assert {weight.dtype for weight in packed._model.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert torch.equal(logits(packed), logits(model))


def test_rotary_frequencies_stay_exact(make_model: Callable[..., Transformer]) -> None:
    model = make_model("llama", dtype=torch.bfloat16)
    assert PackedModel(model)._model.frequencies.dtype == torch.float32


@pytest.mark.parametrize("keep", [True, False])
def test_merged_layers_are_packed_like_any_other(make_model: Callable[..., Transformer], keep: bool) -> None:
    if not packs():
        pytest.skip("this machine has no bfloat16 instructions")
    model = make_model("llama", dtype=torch.bfloat16)
    layers = len([module for module in PackedModel(model)._model.modules() if isinstance(module, PackedLinear)])
    attach(model, LoraConfig(rank=2), 0)
    for layer in adapter_layers(model).values():
        torch.nn.init.normal_(layer.b)
    merge(model, keep=keep)
    packed = PackedModel(model)
    assert len([module for module in packed._model.modules() if isinstance(module, PackedLinear)]) == layers
    assert torch.equal(logits(packed), logits(model))
