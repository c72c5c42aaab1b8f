"""Muon against the framework's own, and against the method written out in float64 over singular values."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ownlm.model.layers import Linear
from ownlm.train.config import OptimizerConfig
from ownlm.train.optimizer import make_optimizer, set_rate, trained_parameters
from ownlm.train.optimizers.muon import orthogonalised

LRS = [1e-2, 5e-2, 0.0, 2e-2]
EXACT = OptimizerConfig(kind="muon", newton_schulz="fp32", weight_decay=0.3)


class Layers(nn.Module):
    """Matrices wide, tall and square, some of them joined."""

    def __init__(self, *outputs: int | tuple[int, ...], inputs: int = 24) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(inputs, sizes, bias=False) for sizes in outputs)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 5


def gradient(shape: torch.Size, step: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(step)) * 10.0 ** (step - 2)


def train(model: nn.Module, config: OptimizerConfig) -> list[Tensor]:
    optimizer = make_optimizer(model, config)
    for step, lr in enumerate(LRS):
        for _, parameter in trained_parameters(model):
            parameter.grad = gradient(parameter.shape, step)
        set_rate(optimizer, lr)
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def quintic(x: Tensor) -> Tensor:
    """Jordan's polynomial, five times, on the singular values of x over its Frobenius norm; all in float64."""
    u, s, v = torch.linalg.svd(x.double() / x.double().norm(), full_matrices=False)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ torch.diag(s) @ v


@pytest.mark.parametrize("shape", [(24, 24), (40, 24), (8, 24), (1, 24), (64, 1)])
def test_newton_schulz_is_the_polynomial_of_the_singular_values(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert (orthogonalised(x, torch.float32).double() - quintic(x)).abs().max() < 1e-4
    narrow = orthogonalised(x, torch.bfloat16)
    assert narrow.dtype == torch.bfloat16 and (narrow.double() - quintic(x)).abs().max() < 0.05
    assert torch.equal(x, torch.randn(shape, generator=torch.Generator().manual_seed(1))), "the input stays"


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(-6, 6), st.integers(0, 1000))
def test_every_direction_becomes_about_as_long(outputs: int, inputs: int, exponent: float, seed: int) -> None:
    x = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed)) * 10**exponent
    singular = torch.linalg.svdvals(x.double())
    # What is less than a thousandth of the whole needs more than five steps.
    large = int((singular > 1e-3 * singular.norm()).sum())
    found = torch.linalg.svdvals(orthogonalised(x, torch.float32).double())[:large]
    assert found.max() < 1.3 and found.min() > 0.3


def test_nothing_in_gives_nothing_out() -> None:
    assert not orthogonalised(torch.zeros(3, 5), torch.float32).any()


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_it_is_the_frameworks_muon(decay: float) -> None:
    shapes = (24, 40, 8)
    ours = train(Layers(*shapes), OptimizerConfig(kind="muon", weight_decay=decay))
    model = Layers(*shapes)
    theirs = torch.optim.Muon(model.parameters(), momentum=0.95, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    for step, lr in enumerate(LRS):
        for parameter in model.parameters():
            parameter.grad = gradient(parameter.shape, step)
        set_rate(theirs, lr)
        theirs.step()
    for mine, parameter in zip(ours, model.parameters(), strict=True):
        assert (mine - parameter).abs().max() < 1e-6


def test_updates_are_nesterovs_made_orthogonal() -> None:
    """Jordan 2024 and Liu et al. 2025, equations 1 to 4, with the momentum summed as they sum it."""
    start = next(Layers(40).parameters()).detach().double()
    x, momentum = start.clone(), torch.zeros_like(start)
    for step, lr in enumerate(LRS):
        g = gradient(x.shape, step).double()
        momentum = 0.95 * momentum + g
        update = 0.2 * math.sqrt(max(x.shape)) * quintic(g + 0.95 * momentum)
        x = x - lr * (update + 0.3 * x)
    (found,) = train(Layers(40), EXACT)
    assert (found.double() - x).abs().max() < 1e-4
    assert (found.double() - start).abs().max() > 1e-2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("states", ["float32", "eight_bit"])
def test_joined_projections_move_as_separate_ones(precision: str, states: str) -> None:
    config = OptimizerConfig(kind="muon", lr=0.05, newton_schulz=precision, states=states)
    segments = (64, 32, 96)
    joined, separate = Layers(segments, inputs=128), Layers(*segments, inputs=128)
    whole = next(joined.parameters())
    for part, parameter in zip(whole.split(segments), separate.parameters(), strict=True):
        parameter.data.copy_(part)
    optimizers = make_optimizer(joined, config), make_optimizer(separate, config)
    for step in range(4):
        whole.grad = gradient(whole.shape, step)
        for part, parameter in zip(whole.grad.split(segments), separate.parameters(), strict=True):
            parameter.grad = part.clone()
        for optimizer in optimizers:
            optimizer.step()
    for part, parameter in zip(whole.split(segments), separate.parameters(), strict=True):
        assert torch.allclose(part, parameter, rtol=0, atol=1e-6)
    # And not as one matrix, whose update would differ.
    alone = Layers(sum(segments), inputs=128)
    alone.layers[0].weight.data.copy_(Layers(segments, inputs=128).layers[0].weight)
    optimizer = make_optimizer(alone, config)
    for step in range(4):
        alone.layers[0].weight.grad = gradient(whole.shape, step)
        optimizer.step()
    assert (alone.layers[0].weight - whole).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(128, 128), (512, 64), (32, 256)])
def test_an_update_is_as_long_as_adamws(shape: tuple[int, int]) -> None:
    """Root mean square 0.2 of the learning rate, within what five steps leave of the singular values."""
    model = Layers(shape[0], inputs=shape[1])
    before = next(model.parameters()).detach().clone()
    optimizer = make_optimizer(model, OptimizerConfig(kind="muon", lr=1e-2, weight_decay=0))
    next(model.parameters()).grad = gradient(torch.Size(shape), 3)
    optimizer.step()
    change = (next(model.parameters()) - before).square().mean().sqrt().item() / 1e-2
    assert 0.14 < change < 0.24


def test_momentum_in_eight_bits_points_the_same_way() -> None:
    models = [Layers((64, 64), 192, inputs=256) for _ in range(2)]
    start = [parameter.detach().clone() for parameter in models[0].parameters()]
    configs = (OptimizerConfig(kind="muon", weight_decay=0, states=states) for states in ("float32", "eight_bit"))
    wide, narrow = (train(model, config) for model, config in zip(models, configs, strict=True))
    for before, a, b in zip(start, wide, narrow, strict=True):
        assert torch.cosine_similarity((a - before).flatten(), (b - before).flatten(), dim=0) > 0.995
