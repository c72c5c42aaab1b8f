"""Weights in few bits against the published code, a brute-force search and arithmetic; products against plain ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ownlm.errors import ModelError
from ownlm.model.adapters import DoraLinear, LoraConfig, LoraLinear, adapter_layers, attach, merge
from ownlm.model.checkpoint import random_model
from ownlm.model.config import ModelConfig
from ownlm.model.families import config_from_user
from ownlm.model.layers import Linear
from ownlm.model.quantized import (
    BLOCK,
    GROUP,
    Kind,
    QuantizedLinear,
    block_linears,
    block_weights,
    dequantize,
    dequantize_model,
    nf4_code,
    quantize,
    quantize_model,
    quantize_weight,
    quantized_bytes,
    quantized_layers,
)
from ownlm.model.transformer import Transformer

KINDS: tuple[Kind, ...] = ("int8", "nf4")
kinds = pytest.mark.parametrize("kind", KINDS)
doubles = pytest.mark.parametrize("double", [True, False])

# Dettmers et al. 2023, appendix E.
PUBLISHED = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)


def drawn(*shape: int, seed: int = 0, scale: float = 0.02) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def config(family: str = "llama", width: int = 32) -> ModelConfig:
    shape = {"layers": 2, "width": width, "heads": 4, "vocab_size": 97, "max_positions": 64, "initializer_range": 0.2}
    return config_from_user({"family": family, **shape})


def test_the_code_is_the_published_one() -> None:
    assert nf4_code() == pytest.approx(PUBLISHED, abs=2e-7)


@kinds
@doubles
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 64), (130, 128), (257, 96), (300, 1100)])
def test_each_value_becomes_the_nearest_code_of_its_block(kind: Kind, double: bool, shape: tuple[int, int]) -> None:
    weight = drawn(*shape)
    stored = quantize(weight, kind, double)
    wide = dequantize(stored, shape, torch.float32).view(-1).double()
    blocks = -(-weight.numel() // BLOCK)
    code = torch.arange(-127, 128) if kind == "int8" else torch.tensor(nf4_code())
    scales = brute_scales(stored, blocks)
    for block, (values, scale) in enumerate(zip(weight.view(-1).split(BLOCK), scales, strict=True)):
        choices = code.double() * scale
        nearest = (values.double().unsqueeze(1) - choices).abs().amin(1)
        found = (wide[block * BLOCK : block * BLOCK + len(values)] - values).abs()
        assert (found <= nearest + 1e-6 * scale).all()


def brute_scales(stored: Any, blocks: int) -> list[float]:
    """By the definition, one after another."""
    if stored.scales.dtype == torch.bfloat16:
        return stored.scales.double().tolist()
    codes, steps, mean = stored.scales.tolist(), stored.steps.tolist(), stored.mean.item()
    wide = [max(mean + codes[block] * steps[block // GROUP], 0.0) for block in range(blocks)]
    return torch.tensor(wide).bfloat16().tolist()


@kinds
def test_doubled_scales_are_near_the_largest_of_their_block(kind: Kind) -> None:
    weight = drawn(300, 1088)
    blocks = weight.numel() // BLOCK
    largest = weight.view(-1, BLOCK).abs().amax(1) / (127 if kind == "int8" else 1)
    exact, doubled = (torch.tensor(brute_scales(quantize(weight, kind, d), blocks)) for d in (False, True))
    torch.testing.assert_close(exact, largest, rtol=2**-8, atol=0)
    assert ((doubled - largest).abs() / largest).max() < 0.02


@kinds
@doubles
def test_what_is_lost_is_what_so_many_bits_lose(kind: Kind, double: bool) -> None:
    """Of normal values: a 255-step grid over a block's range, and the 9% that NormalFloat4's bins are wide."""
    weight = drawn(512, 640)
    lost = (dequantize(quantize(weight, kind, double), (512, 640), torch.float32) - weight).norm() / weight.norm()
    assert lost.item() == pytest.approx({"int8": 0.006, "nf4": 0.092}[kind], rel=0.03)


@kinds
@doubles
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_way_of_widening_gives_the_same(kind: Kind, double: bool, dtype: torch.dtype) -> None:
    """The parts and tables of a CPU against one value at a time; more than one part, and a last block that is not full."""
    shape = (701, 611)
    stored = quantize(drawn(*shape), kind, double)
    codes = stored.codes.int()
    if kind == "nf4":
        values = torch.tensor(nf4_code()).to(dtype)[torch.stack((codes >> 4, codes & 15), 1).view(-1)]
    else:
        values = codes.to(dtype)
    scales = torch.tensor(brute_scales(stored, len(stored.scales)), dtype=dtype)
    expected = (values.view(-1, BLOCK) * scales.unsqueeze(1)).view(-1)[: 701 * 611].view(shape)
    assert torch.equal(dequantize(stored, shape, dtype), expected)


@kinds
@doubles
def test_zeros_stay_zeros_and_the_largest_survive(kind: Kind, double: bool) -> None:
    weight = torch.zeros(8, 64)
    weight[3], weight[5, 7] = drawn(64), -2.0
    wide = dequantize(quantize(weight, kind, double), (8, 64), torch.float32)
    assert not wide[[0, 1, 2, 4, 6, 7]].any()
    assert wide[5, 7] == pytest.approx(-2.0, rel=0.01) and wide[5].count_nonzero() == 1
    if not double:
        again = dequantize(quantize(wide, kind, double), (8, 64), torch.float32)
        assert torch.equal(again, wide), "what is on the grid stays on it"


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(KINDS),
    st.booleans(),
    st.floats(1e-6, 1e6),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_any_shape_and_size_keeps_within_half_a_step(
    rows: int, columns: int, kind: Kind, double: bool, scale: float, seed: int
) -> None:
    weight = drawn(rows, columns, seed=seed, scale=scale)
    wide = dequantize(quantize(weight, kind, double), (rows, columns), torch.float32)
    blocks = F.pad(weight.view(-1), (0, -weight.numel() % BLOCK)).view(-1, BLOCK).abs().amax(1)
    largest = blocks.repeat_interleave(BLOCK)[: weight.numel()].view(rows, columns)
    # The widest gap of the code, and what a doubled scale may be off by among the scales of its group.
    step = {"int8": 0.5 / 127, "nf4": (1 - PUBLISHED[-2]) / 2 + 0.03}[kind]
    slack = 0.005 * largest + (blocks.max() / 254 if double else 0)
    assert ((wide - weight).abs() <= step * largest + slack).all()


@kinds
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_refused_by_name(kind: Kind, value: float) -> None:
    model = random_model(config(), 0)
    with torch.no_grad():
        model.layers[1].feedforward.down.weight[3, 5] = value
    with pytest.raises(ModelError, match="not a finite number") as raised:
        quantize_model(model, kind)
    assert raised.value.where == "layers.1.feedforward.down.weight"


@kinds
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_products_and_gradients_are_those_of_the_widened_weight(kind: Kind, dtype: torch.dtype, bias: bool) -> None:
    layer = Linear(96, (40, 24), bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(drawn(*parameter.shape, seed=2))
    few = QuantizedLinear(layer, layer.weight, kind)
    assert few.segments == (40, 24)
    x = drawn(7, 96, seed=3, scale=1).to(dtype).requires_grad_()
    with torch.no_grad():
        layer.weight.copy_(few.dense(torch.float32))
    plain = x.detach().clone().requires_grad_()
    expected = F.linear(plain, few.dense(dtype), None if layer.bias is None else layer.bias.to(dtype))
    assert torch.equal(few(x), expected)
    with torch.no_grad():
        assert torch.equal(few(x), expected)
    grad = drawn(7, 64, seed=4, scale=1).to(dtype)
    gradients = []
    for out, leaf in ((few(x), x), (expected, plain)):
        layer.bias = layer.bias if layer.bias is None else layer.bias.requires_grad_()
        wanted = [leaf] if layer.bias is None else [leaf, layer.bias]
        gradients.append(torch.autograd.grad(out, wanted, grad))
    for found, wanted_gradient in zip(*gradients, strict=True):
        assert torch.equal(found, wanted_gradient)


@kinds
def test_the_backward_pass_keeps_the_codes_and_nothing_wide(kind: Kind) -> None:
    layer = QuantizedLinear(Linear(512, 512, bias=False), drawn(512, 512), kind)
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    x = drawn(4, 512, scale=1).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = layer(x)
    assert {t.data_ptr() for t in kept if t.numel()} <= {t.data_ptr() for t in layer.stored if t.numel()}
    out.sum().backward()
    assert x.grad is not None


@kinds
@doubles
@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("width", [32, 40])
def test_the_bytes_are_counted_exactly(kind: Kind, double: bool, family: str, width: int) -> None:
    model = random_model(config(family, width), 0)
    linears = block_linears(model)
    assert len(linears) == 8 and not any("head" in name for name in linears)
    weights = sum(layer.weight.numel() for layer in linears.values())
    quantize_model(model, kind, double)
    layers = quantized_layers(model)
    assert set(layers) == set(linears)
    assert sum(layer.stored.nbytes for layer in layers.values()) == quantized_bytes(model.config, kind, double)
    bits = 8 * quantized_bytes(model.config, kind, double) / weights
    # One block in two here has a last one that is not full, and every layer its own mean.
    assert bits == pytest.approx({"int8": 8, "nf4": 4}[kind] + (0.125 if double else 0.25), abs=0.25)


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8.127), ("nf4", 4.127)])
def test_a_large_model_takes_what_the_paper_says(kind: Kind, bits: float) -> None:
    """8 or 4 bits, and 0.127 for the doubled scales (Dettmers et al. 2023, section 3)."""
    shape = {"family": "llama", "layers": 2, "width": 4096, "heads": 32, "vocab_size": 100, "max_positions": 64}
    large = config_from_user(shape)
    weights = block_weights(large)
    norms_and_embedding = 5 * 4096 + 100 * 4096
    assert weights == large.parameters() - norms_and_embedding
    assert 8 * quantized_bytes(large, kind) / weights == pytest.approx(bits, abs=5e-4)
    assert 8 * quantized_bytes(large, kind, double=False) / weights == pytest.approx(round(bits) + 0.25, abs=5e-4)


def test_only_what_stands_under_the_blocks_is_quantized() -> None:
    shape = {"family": "llama", "layers": 1, "width": 32, "heads": 4, "vocab_size": 97, "max_positions": 64}
    model = random_model(config_from_user({**shape, "tied_head": False}), 0)
    weights = {name: p.clone() for name, p in model.named_parameters()}
    done = {name for name, p in weights.items() if quantize_weight(model, name, p, "nf4")}
    assert done == {f"layers.0.{name}.weight" for name in (
        "attention.qkv", "attention.output", "feedforward.up", "feedforward.down"
    )}  # fmt: skip
    left = dict(model.named_parameters())
    assert set(left) == set(weights) - done
    assert all(torch.equal(left[name], weights[name]) for name in left)
    assert isinstance(model.head, Linear)


@kinds
def test_moving_and_narrowing_a_model_leaves_the_codes_alone(kind: Kind) -> None:
    model = random_model(config(), 0)
    quantize_model(model, kind)
    layer = model.layers[0].attention.qkv
    before = [tensor.clone() for tensor in layer.stored]
    for changed in (model.to(torch.bfloat16), model.half().to("cpu"), copy.deepcopy(model)):
        after = changed.layers[0].attention.qkv.stored
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(after, before, strict=True))
    assert model.layers[0].attention_norm.weight.dtype == torch.float16


@kinds
@pytest.mark.parametrize("adapter", [None, "lora", "dora"])
def test_a_compiled_graph_computes_the_same(kind: Kind, adapter: Any) -> None:
    model = random_model(config("gpt2"), 0)
    quantize_model(model, kind)
    if adapter is not None:
        attach(model, LoraConfig(rank=4, kind=adapter, targets=["up"]), 0)
        torch.nn.init.normal_(model.layers[0].feedforward.up.b, std=0.1)
    layer = model.layers[0].feedforward.up
    results = []
    for forward in (layer, torch.compile(layer, backend="aot_eager")):
        x = drawn(5, 32, scale=1).requires_grad_()
        out = forward(x)
        out.square().sum().backward()
        results.append([out, x.grad, *(p.grad for p in layer.parameters() if p.requires_grad)])
        layer.zero_grad()
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-5)


def loss_of(model: Transformer) -> Tensor:
    tokens = torch.arange(40) % 23
    loss, count = model.loss(tokens[:-1], torch.arange(39), [0, 20, 39], tokens[1:], torch.ones(39))
    return loss / count


@kinds
@pytest.mark.parametrize("adapter", ["lora", "dora"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_adapters_learn_beside_a_base_that_stays_as_it_is(kind: Kind, adapter: Any, family: str) -> None:
    model = random_model(config(family), 0)
    quantize_model(model, kind)
    codes = {name: layer.stored.codes.clone() for name, layer in quantized_layers(model).items()}
    plain = loss_of(model)
    attach(model, LoraConfig(rank=4, kind=adapter), 0)
    assert torch.equal(loss_of(model), plain), "a fresh adapter changes nothing"
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.03)
    for _ in range(15):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    assert loss_of(model) < 0.5 * plain
    layers = adapter_layers(model)
    assert {type(layer) for layer in layers.values()} == {DoraLinear if adapter == "dora" else LoraLinear}
    for name, layer in layers.items():
        assert isinstance(layer.base, QuantizedLinear)
        assert torch.equal(layer.base.stored.codes, codes[name])


@kinds
@pytest.mark.parametrize("adapter", ["lora", "dora"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_merges_exactly_into_what_it_was_trained_on(kind: Kind, adapter: Any, dtype: torch.dtype) -> None:
    model = random_model(config("gpt2"), 0).to(dtype)
    model.compute_dtype = dtype
    quantize_model(model, kind)
    attach(model, LoraConfig(rank=4, kind=adapter), 0)
    with torch.no_grad():
        for name, layer in adapter_layers(model).items():
            layer.b.copy_(drawn(*layer.b.shape, seed=len(name), scale=0.05))
    before = loss_of(model).item()
    with pytest.raises(ModelError, match="cannot be added into a quantized base") as raised:
        merge(model)
    assert raised.value.hint is not None and len(adapter_layers(model)) == 8
    dequantize_model(model)
    assert loss_of(model).item() == before, "the same products, of the same bits"
    merge(model)
    assert not adapter_layers(model) and {p.dtype for p in model.parameters()} == {dtype}
    assert loss_of(model).item() == pytest.approx(before, rel=1e-5 if dtype == torch.float32 else 1e-2)
