"""The small parts against the framework's own, in the dtypes that training mixes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from ownlm.model.layers import LayerNorm, Linear, RMSNorm, make_norm, norm_beside, split_columns

TOKENS, INPUTS = 11, 24


def filled(module: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module.to(dtype)


def stream(dtype: torch.dtype) -> Tensor:
    return torch.randn(TOKENS, INPUTS, generator=torch.Generator().manual_seed(5)).to(dtype).requires_grad_()


def narrow(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The tensor as it computes: rounded to ``dtype``, then wide again for the reference's sake."""
    return None if tensor is None else tensor.detach().to(dtype).double().requires_grad_()


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("computes", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_linear_layer_computes_in_its_inputs_dtype_and_its_gradient_has_the_weights(
    stored: torch.dtype, computes: torch.dtype, bias: bool
) -> None:
    layer = filled(Linear(INPUTS, (5, 3), bias), stored)
    assert isinstance(layer, Linear) and (layer.segments, layer.outputs) == ((5, 3), 8)
    x = stream(computes)
    above = torch.randn(TOKENS, 8, generator=torch.Generator().manual_seed(6)).to(computes)
    out = layer(x)
    assert out.dtype == computes
    out.backward(above)

    wide_x, weight, offset = narrow(x, computes), narrow(layer.weight, computes), narrow(layer.bias, computes)
    assert wide_x is not None and weight is not None
    expected = F.linear(wide_x, weight, offset)
    expected.backward(above.double())
    # A bfloat16 result is rounded to 8 bits; sums of 24 float32 products to about 20.
    tolerance = 1e-2 if torch.bfloat16 in (stored, computes) else 1e-5
    pairs = [(out, expected), (x.grad, wide_x.grad), (layer.weight.grad, weight.grad)]
    if layer.bias is not None and offset is not None:
        pairs.append((layer.bias.grad, offset.grad))
        assert layer.bias.grad is not None and layer.bias.grad.dtype == stored
    assert layer.weight.grad is not None and layer.weight.grad.dtype == stored
    for found, wanted in pairs:
        assert found is not None and wanted is not None
        assert (found.double() - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.usefixtures("route")
def test_no_rows_at_all_are_no_error() -> None:
    layer, norm = filled(Linear(INPUTS, 4, True)), filled(LayerNorm(INPUTS, 1e-5))
    x = torch.zeros(0, INPUTS, dtype=torch.bfloat16, requires_grad=True)
    out = layer(norm(x))
    out.sum().backward()
    assert out.shape == (0, 4) and x.grad is not None and x.grad.shape == x.shape
    assert all(p.grad is not None and not p.grad.any() for p in [*layer.parameters(), *norm.parameters()])


@pytest.mark.usefixtures("route")
def test_a_frozen_wider_weight_lets_the_gradient_through() -> None:
    layer = filled(Linear(INPUTS, 4, True))
    layer.requires_grad_(False)
    x = stream(torch.bfloat16)
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.any()
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_norms_are_the_frameworks(kind: type[RMSNorm] | type[LayerNorm], dtype: torch.dtype) -> None:
    norm, x = filled(kind(INPUTS, 1e-5)), stream(dtype)
    found = norm(x)
    assert found.dtype == dtype
    wide, weight = x.detach().double(), norm.weight.detach().to(dtype).double()
    if isinstance(norm, LayerNorm):
        expected = F.layer_norm(wide, (INPUTS,), weight, norm.bias.detach().to(dtype).double(), 1e-5)
    else:
        expected = F.rms_norm(wide, (INPUTS,), weight, 1e-5)
    tolerance = 1e-5 if dtype == torch.float32 else 1.6e-2
    assert (found.double() - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_norm_with_an_offset_is_gemmas(dtype: torch.dtype) -> None:
    theirs = transformers.models.gemma.modeling_gemma.GemmaRMSNorm(INPUTS, eps=1e-6)
    ours = make_norm("rmsnorm", INPUTS, 1e-6, unit_offset=True)
    assert torch.equal(ours(stream(dtype)), theirs(stream(dtype)))
    filled(ours), filled(theirs)
    pairs = []
    for norm in (ours, theirs):
        x = stream(dtype)
        out = norm(x)
        out.backward(torch.linspace(-1, 1, out.numel()).view_as(out).to(dtype))
        pairs.append((out, x.grad, norm.weight.grad))
    for found, wanted in zip(*pairs, strict=True):
        assert found is not None and wanted is not None and found.dtype == wanted.dtype
        assert (found - wanted).norm() <= (1e-5 if dtype == torch.float32 else 1e-2) * wanted.norm()


@pytest.mark.usefixtures("route")
def test_a_norms_statistics_are_float32_in_a_bfloat16_stream() -> None:
    """In bfloat16 a sum of 4,096 ones stops at 256; the mean square would be a sixteenth of the right one."""
    x = torch.ones(1, 4096, dtype=torch.bfloat16)
    assert torch.equal(RMSNorm(4096, 0.0)(x), x)
    far = torch.cat((x + 98, x + 100), 1)
    assert torch.equal(LayerNorm(8192, 0.0)(far).float().sign(), torch.cat((-x, x), 1).float())


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("kind", [RMSNorm, LayerNorm])
def test_a_norms_gradients_are_summed_over_many_tokens_in_float32(kind: type[RMSNorm] | type[LayerNorm]) -> None:
    """A bfloat16 sum of thousands of terms of one sign stops growing at 256 times the size of one."""
    norm = filled(kind(INPUTS, 1e-5))
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(8192, INPUTS, generator=generator).bfloat16().requires_grad_()
    above = (torch.randn(8192, INPUTS, generator=generator) + 0.5).bfloat16()
    norm(x).backward(above)
    assert x.grad is not None and x.grad.dtype == torch.bfloat16
    exact, wide = filled(kind(INPUTS, 1e-5)), x.detach().float().requires_grad_()
    exact(wide).backward(above.float())
    for (name, found), expected in zip(norm.named_parameters(), exact.parameters(), strict=True):
        assert found.grad is not None and expected.grad is not None and found.grad.dtype == torch.float32
        assert (found.grad - expected.grad).norm() < 0.01 * expected.grad.norm(), name
    assert wide.grad is not None
    assert (x.grad.float() - wide.grad).norm() < 0.01 * wide.grad.norm()


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_what_is_made_of_a_norm_and_added_to_its_input_has_the_same_gradients(kind: str) -> None:
    norm, x, above = filled(make_norm(kind, INPUTS, 1e-5)), stream(torch.bfloat16), stream(torch.bfloat16).detach()
    normed, kept = norm_beside(norm, x)
    assert torch.equal(normed, norm(x)) and torch.equal(kept, x)
    (kept + normed * 2).backward(above)
    again = x.detach().clone().requires_grad_()
    weights = [parameter.grad for parameter in norm.parameters()]
    norm.zero_grad()
    (again + norm(again) * 2).backward(above)
    torch.testing.assert_close(x.grad, again.grad, rtol=2**-6, atol=2**-6)
    for parameter, grad in zip(norm.parameters(), weights, strict=True):
        assert torch.equal(parameter.grad, grad)


@pytest.mark.usefixtures("route")
def test_one_of_a_norms_two_results_may_go_unused() -> None:
    norm, above = filled(make_norm("layernorm", INPUTS, 1e-5)), stream(torch.bfloat16).detach()
    for used in (0, 1):
        x, alone = stream(torch.bfloat16), stream(torch.bfloat16)
        norm_beside(norm, x)[used].backward(above)
        (norm(alone), alone * 1)[used].backward(above)
        assert torch.equal(x.grad, alone.grad)


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("joined", [True, False])
def test_split_columns_gives_the_parts_and_their_gradients(joined: bool) -> None:
    x, sizes = stream(torch.bfloat16), (8, 4, 12)
    parts = split_columns(x, sizes)
    assert all(torch.equal(a, b) for a, b in zip(parts, x.split(sizes, 1), strict=True))
    above = torch.randn(TOKENS, INPUTS, generator=torch.Generator().manual_seed(6)).bfloat16()
    grads = above.split(sizes, 1) if joined else [part.contiguous() for part in above.split(sizes, 1)]
    torch.autograd.backward(parts, grads)
    assert x.grad is not None and torch.equal(x.grad, above)
