"""The optimizer against AdamW written out in float64, and its state there and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ownlm.errors import DamagedError
from ownlm.model.adapters import LoraConfig, attach
from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.train.config import OptimizerConfig
from ownlm.train.optimizer import (
    clip_gradients,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    set_rate,
    trained_parameters,
)

SHAPE = {"layers": 1, "width": 16, "heads": 2, "vocab_size": 31, "max_positions": 12}
LRS = [1e-3, 5e-3, 2e-3, 0.0, 1e-2]


def tiny(family: str) -> Transformer:
    return random_model(config_from_user({"family": family, **SHAPE}), 0)


def gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 10.0 ** (step - 2)


def adamw(start: Tensor, grads: list[Tensor], config: OptimizerConfig, decay: float) -> Tensor:
    """Algorithm 2 of Loshchilov and Hutter 2019, in float64; its decay is scaled by the learning rate, as is usual."""
    x, m, v = start.double(), torch.zeros_like(start).double(), torch.zeros_like(start).double()
    first, second = config.betas
    for t, (gradient, lr) in enumerate(zip(grads, LRS, strict=True), 1):
        g = gradient.double()
        m = first * m + (1 - first) * g
        v = second * v + (1 - second) * g * g
        unbiased_m, unbiased_v = m / (1 - first**t), v / (1 - second**t)
        x = x - lr * (unbiased_m / (unbiased_v.sqrt() + config.eps) + decay * x)
    return x


def is_decayed(name: str, parameter: Tensor) -> bool:
    return parameter.ndim >= 2 and not name.endswith((".a", ".b"))


@pytest.mark.parametrize(
    "config",
    [
        OptimizerConfig(),
        OptimizerConfig(weight_decay=0.0, betas=(0.9, 0.999), eps=1e-6),
        OptimizerConfig(weight_decay=0.5, betas=(0.0, 0.5), eps=1e-2),
    ],
)
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_five_updates_are_adamws(family: str, config: OptimizerConfig) -> None:
    named = trained_parameters(tiny(family))
    start = {name: parameter.detach().clone() for name, parameter in named}
    optimizer = make_optimizer(named, config)
    given: dict[str, list[Tensor]] = {name: [] for name, _ in named}
    for step, lr in enumerate(LRS):
        gradients([p for _, p in named], step)
        for name, parameter in named:
            assert parameter.grad is not None
            given[name].append(parameter.grad.clone())
        set_rate(optimizer, lr)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    for name, parameter in named:
        decay = config.weight_decay if is_decayed(name, parameter) else 0.0
        expected = adamw(start[name], given[name], config, decay)
        assert (parameter.double() - expected).abs().max() < 1e-6, name
        assert not torch.equal(parameter, start[name])


def test_matrices_and_embeddings_decay_and_nothing_else() -> None:
    model = tiny("gpt2")
    named = trained_parameters(model)
    names = {id(parameter): name for name, parameter in named}
    groups = {
        g["weight_decay"]: {names[id(p)] for p in g["params"]}
        for g in make_optimizer(named, OptimizerConfig()).param_groups
    }
    kept = groups[0.0]
    assert groups[0.1] | kept == {name for name, _ in named} and not groups[0.1] & kept
    assert "embedding.token.weight" in groups[0.1] and "layers.0.attention.qkv.weight" in groups[0.1]
    assert all(name.endswith(".bias") or "norm" in name for name in kept)
    assert {"layers.0.attention_norm.weight", "final_norm.bias", "layers.0.feedforward.up.bias"} <= kept


def test_an_adapters_matrices_do_not_decay() -> None:
    model = tiny("llama")
    attach(model, LoraConfig(rank=2), 0)
    named = trained_parameters(model)
    assert {name.rsplit(".", 1)[1] for name, _ in named} == {"a", "b"}
    assert [group["weight_decay"] for group in make_optimizer(named, OptimizerConfig()).param_groups] == [0.0]


@pytest.mark.parametrize("limit", [0.5, 1e3, None])
def test_clipping_is_the_frameworks(limit: float | None) -> None:
    ours, theirs = ([p for _, p in trained_parameters(tiny("gpt2"))] for _ in range(2))
    for parameters in (ours, theirs):
        gradients(parameters, 2)
    norm = clip_gradients(ours, limit)
    expected = nn.utils.clip_grad_norm_(theirs, float("inf") if limit is None else limit)
    assert torch.isclose(norm, expected, rtol=1e-6)
    assert norm > 10, "the gradient is large enough for one of the limits to matter"
    for a, b in zip(ours, theirs, strict=True):
        assert a.grad is not None and b.grad is not None
        assert torch.allclose(a.grad, b.grad, rtol=1e-6, atol=0)


def test_clipping_leaves_out_what_has_no_gradient_and_tells_of_what_is_no_number() -> None:
    parameters = [nn.Parameter(torch.ones(3)) for _ in range(3)]
    parameters[0].grad = torch.tensor([3.0, 0.0, 4.0])
    assert clip_gradients(parameters, 1.0) == 5
    assert torch.allclose(parameters[0].grad, torch.tensor([0.6, 0.0, 0.8]), atol=1e-6)
    parameters[1].grad = torch.tensor([0.0, float("nan"), 0.0])
    assert clip_gradients(parameters, 1.0).isnan()


def updated(named: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for step in steps:
        gradients([p for _, p in named], step)
        optimizer.step()
    return [p.detach().clone() for _, p in named]


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    named = trained_parameters(tiny("llama"))
    optimizer = make_optimizer(named, OptimizerConfig())
    weights = updated(named, optimizer, range(3))
    tensors = optimizer_state(optimizer, named)
    assert {name.rpartition(":")[2] for name in tensors} == {"step", "exp_avg", "exp_avg_sq"}
    assert len(tensors) == 3 * len(named)
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    expected = updated(named, optimizer, range(3, 6))

    other = trained_parameters(tiny("llama"))
    for (_, parameter), weight in zip(other, weights, strict=True):
        parameter.data.copy_(weight)
    again = make_optimizer(other, OptimizerConfig())
    load_optimizer_state(again, other, saved, "here")
    found = updated(other, again, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_the_state_before_the_first_update_is_what_the_framework_would_make() -> None:
    named = trained_parameters(tiny("gpt2"))
    optimizer = make_optimizer(named, OptimizerConfig())
    state = optimizer_state(optimizer, named)
    assert state and all(not tensor.any() for tensor in state.values())
    bare = torch.optim.AdamW([parameter for _, parameter in named], lr=0.0, fused=True)
    updated(named, bare, range(1))
    made = optimizer_state(bare, named)
    assert {key: (t.shape, t.dtype) for key, t in made.items()} == {key: (t.shape, t.dtype) for key, t in state.items()}


def without(key: str) -> Any:
    return lambda name: not name.endswith(key)


@pytest.mark.parametrize("kept", [without("final_norm.weight:step"), lambda name: "layers.0.attention.qkv" not in name])
def test_a_missing_state_is_named(kept: Any) -> None:
    named = trained_parameters(tiny("gpt2"))
    optimizer = make_optimizer(named, OptimizerConfig())
    updated(named, optimizer, range(1))
    tensors = {name: tensor for name, tensor in optimizer_state(optimizer, named).items() if kept(name)}
    with pytest.raises(DamagedError, match=r"of '(final_norm\.weight|layers\.0\.attention\.qkv\.weight)' is missing"):
        load_optimizer_state(optimizer, named, tensors, "runs/x/checkpoints/step-3")
