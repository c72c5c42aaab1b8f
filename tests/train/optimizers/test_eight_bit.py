"""Eight-bit moments: how far a number can be off, and AdamW with them against AdamW without."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.model.layers import Linear
from ownlm.train.config import OptimizerConfig
from ownlm.train.optimizer import make_optimizer, set_rate
from ownlm.train.optimizers.eight_bit import CPU_CHUNK, block_length, chunks, dequantised, new_codes, quantise


@st.composite
def blocks(draw: st.DrawFn) -> Tensor:
    """Normal numbers whose sizes spread over many decades, some of them 0, some blocks nothing but 0."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(1, 4)), draw(st.sampled_from([64, 192, 256]))
    x = torch.randn(shape, generator=generator)
    x *= 10 ** (draw(st.floats(0, 4)) * torch.randn(shape, generator=generator).clamp(-3, 3))
    x *= torch.rand(shape, generator=generator) >= draw(st.sampled_from([0.0, 0.3, 1.0]))
    # What lies below 1e-28 counts as nothing, so the numbers stay above.
    return x * 10.0 ** draw(st.floats(-8, 8))


def there_and_back(x: Tensor, signed: bool) -> Tensor:
    codes, scale = new_codes(x, signed)
    quantise(x, codes, scale)
    return dequantised(codes, scale)


def bound(x: Tensor, top: int) -> Tensor:
    """How far x may be off: half a code to the side that is farther away, and what float32 rounds."""
    largest = x.abs().double().amax(-1, keepdim=True)
    place = (x.abs().double() / largest.clamp(min=1e-300)) ** 0.25 * top
    return largest * (((place + 0.5) / top) ** 4 - (place / top) ** 4) * (1 + 1e-4) + 1e-5 * x.abs()


@settings(deadline=None)
@given(blocks())
def test_no_number_is_farther_off_than_half_a_code(x: Tensor) -> None:
    assert ((there_and_back(x, True).double() - x).abs() <= bound(x, 127)).all()
    positive = x.abs()
    found = there_and_back(positive, False).double()
    # The unsigned code has no zero: its least value stands for what is smaller.
    least = positive.amax(-1, keepdim=True).double() / 255**4
    assert ((found - positive).abs() <= torch.maximum(bound(positive, 255), least * (1 + 1e-5))).all()


@settings(deadline=None)
@given(blocks())
def test_sign_largest_and_order_stay(x: Tensor) -> None:
    found = there_and_back(x, True)
    assert (found * x >= 0).all()
    largest = x.abs().amax(-1)
    assert torch.allclose(found.abs().amax(-1), largest, rtol=1e-6, atol=0)
    for row, back in zip(x, found, strict=True):
        assert (back[row.argsort()].diff() >= 0).all()
    again = there_and_back(found, True)
    assert torch.allclose(again, found, rtol=1e-5, atol=0), "what a code stands for has that code"


@settings(deadline=None)
@given(blocks())
def test_a_second_moment_is_never_divided_away(x: Tensor) -> None:
    x = x.abs()
    found = there_and_back(x, False)
    some = (x.amax(-1, keepdim=True) > 0).expand_as(x)
    assert (found[some] > 0).all() and not found[~some].any()


@pytest.mark.parametrize(
    ("shape", "length"),
    [
        ((3, 768), 256),
        ((3, 576), 192),
        ((3, 896), 224),
        ((3, 100), 100),
        ((3, 257), None),
        ((3, 16), None),
        ((768,), None),
    ],
)
def test_a_block_is_a_part_of_a_row(shape: tuple[int, ...], length: int | None) -> None:
    assert block_length(torch.zeros(shape)) == length


def test_chunks_cover_everything_once() -> None:
    x = torch.arange(300 * 512).view(300, 512)
    scale = torch.arange(300 * 2).view(300, 2)
    pieces = list(chunks(scale, x))
    assert len(pieces) > 2 and all(piece.numel() <= CPU_CHUNK for _, piece in pieces)
    assert torch.cat([piece.flatten() for _, piece in pieces]).equal(x.flatten())
    assert all(s.flatten().equal(piece[:, 0] // 256) for s, piece in pieces)


class _Largest(TorchDispatchMode):
    """The largest tensor that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {arg.untyped_storage().data_ptr() for arg in args if isinstance(arg, Tensor)}
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in known:
            self.numbers = max(self.numbers, result.numel())
        return result


def test_no_whole_moment_is_ever_in_float32() -> None:
    model = nn.Module()
    model.inner = Linear(1024, 512, bias=False)
    model.inner.weight.grad = torch.ones(512, 1024)
    optimizer = make_optimizer(model, OptimizerConfig(states="eight_bit"))
    with _Largest() as largest:
        optimizer.step()
    assert 0 < largest.numbers <= CPU_CHUNK < model.inner.weight.numel() / 4


def plain_eight_bit_adamw(x: Tensor, gradients: list[Tensor], lrs: list[float], config: OptimizerConfig) -> Tensor:
    """Kingma and Ba's algorithm in float64; after each update both moments go through the code, block by block."""

    def coded(moment: Tensor, top: int) -> Tensor:
        blocks = moment.view(-1, 256)
        largest = blocks.abs().amax(-1, keepdim=True)
        code = ((blocks.abs() / largest) ** 0.25 * top).round().clamp(min=1 if top == 255 else 0)
        return ((code / top) ** 4 * largest * blocks.sign()).view_as(moment)

    x = x.double()
    first, root = torch.zeros_like(x), torch.zeros_like(x)
    for step, (gradient, lr) in enumerate(zip(gradients, lrs, strict=True), 1):
        g = gradient.double()
        first = config.betas[0] * first + (1 - config.betas[0]) * g
        root = (config.betas[1] * root**2 + (1 - config.betas[1]) * g**2).sqrt()
        unbiased = first / (1 - config.betas[0] ** step), root / math.sqrt(1 - config.betas[1] ** step)
        x = x - lr * (unbiased[0] / (unbiased[1] + config.eps) + config.weight_decay * x)
        first, root = coded(first, 127), coded(root, 255)
    return x


@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.8, 0.999), (0.0, 0.5)])
def test_updates_are_adamws_over_coded_moments(betas: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    model = nn.Module()
    model.inner = Linear(512, 300, bias=False)
    weight = model.inner.weight
    weight.data = torch.randn(weight.shape, generator=generator)
    start, lrs = weight.detach().clone(), [1e-2, 3e-2, 0.0, 1e-2, 5e-3]
    config = OptimizerConfig(states="eight_bit", betas=betas, eps=1e-6)
    given = [torch.randn(weight.shape, generator=generator) * 10.0 ** (step - 3) for step in range(5)]
    optimizer = make_optimizer(model, config)
    for gradient, lr in zip(given, lrs, strict=True):
        weight.grad = gradient
        set_rate(optimizer, lr)
        optimizer.step()
    off = (weight - plain_eight_bit_adamw(start, given, lrs, config)).abs()
    # Where float32 and float64 round to neighbouring codes the two part by a little; elsewhere they agree.
    assert off.max() < 2e-3 and off.quantile(0.98) < 1e-5


def test_gradients_need_not_be_contiguous() -> None:
    models = []
    for turned in (False, True):
        model = nn.Module()
        model.inner = Linear(128, 256, bias=False)
        model.inner.weight.data = torch.ones(256, 128)
        gradient = torch.randn(256, 128, generator=torch.Generator().manual_seed(0))
        model.inner.weight.grad = gradient.t().contiguous().t() if turned else gradient
        make_optimizer(model, OptimizerConfig(states="eight_bit")).step()
        models.append(model)
    assert torch.equal(models[0].inner.weight, models[1].inner.weight)


@pytest.fixture(scope="module")
def train_on_text(shared_data: Path) -> Callable[[OptimizerConfig], float]:
    """Trains a small model on bytes of English (5.5 nats each at first); the mean loss of the last steps."""
    text = torch.tensor(list((shared_data / "tinyshakespeare" / "input.txt").read_bytes()[:200_000]))

    def run(config: OptimizerConfig) -> float:
        shape = {"layers": 2, "width": 64, "heads": 2, "vocab_size": 256, "max_positions": 64, "tied_head": False}
        model = random_model(config_from_user({"family": "llama", **shape}), 0)
        optimizer = make_optimizer(model, config)
        positions, starts = torch.arange(64).repeat(8), list(range(0, 513, 64))
        generator = torch.Generator().manual_seed(1)
        losses = []
        for step in range(120):
            rows = torch.randint(0, len(text) - 65, (8, 1), generator=generator) + torch.arange(65)
            tokens, targets = text[rows[:, :-1]].flatten(), text[rows[:, 1:]].flatten()
            loss, _ = model.loss(tokens, positions, starts, targets, torch.full((512,), 1 / 512))
            loss.backward()
            set_rate(optimizer, config.lr * min(1.0, (step + 1) / 20, (120 - step) / 60))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
        assert losses[0] > 5
        return sum(losses[-20:]) / 20

    return run


def test_training_comes_as_far_as_in_float32(train_on_text: Callable[[OptimizerConfig], float]) -> None:
    losses = {}
    for kind, states, embeddings in (
        ("adamw", "float32", False),
        ("adamw", "eight_bit", False),
        ("adamw", "eight_bit", True),
        ("muon", "float32", False),
        ("muon", "eight_bit", False),
    ):
        config = OptimizerConfig(kind=kind, states=states, eight_bit_embeddings=embeddings, lr=3e-3)
        losses[kind, states, embeddings] = train_on_text(config)
    wide = losses["adamw", "float32", False]
    assert wide < 2.5
    assert losses["adamw", "eight_bit", False] == pytest.approx(wide, rel=0.01)
    assert losses["adamw", "eight_bit", True] == pytest.approx(wide, rel=0.01)
    # One learning rate serves both.
    assert losses["muon", "float32", False] == pytest.approx(wide, rel=0.05)
    assert losses["muon", "eight_bit", False] == pytest.approx(losses["muon", "float32", False], rel=0.01)
