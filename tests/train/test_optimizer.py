"""The optimizer against AdamW written out in float64 and the framework's own; roles, clipping, state there and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.distributed.tensor import Shard, distribute_tensor

from ownlm.config import validate
from ownlm.errors import ConfigError, DamagedError
from ownlm.model.adapters import LoraConfig, attach
from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.model.layers import Linear
from ownlm.model.transformer import Transformer
from ownlm.train.config import OptimizerConfig
from ownlm.train.optimizer import (
    Role,
    clip_gradients,
    load_optimizer_state,
    make_optimizer,
    named_states,
    parameter_roles,
    set_rate,
    state_bytes,
    trained_parameters,
)

SHAPE = {"layers": 1, "width": 16, "heads": 2, "vocab_size": 31, "max_positions": 12}
WIDE = {"layers": 2, "width": 64, "heads": 2, "kv_heads": 1, "vocab_size": 80, "max_positions": 12, "tied_head": False}
EVERY = [
    OptimizerConfig(kind=kind, states=states, eight_bit_embeddings=embeddings)
    for kind in ("adamw", "muon")
    for states, embeddings in (("float32", False), ("eight_bit", False), ("eight_bit", True))
]
LRS = [1e-3, 5e-3, 2e-3, 0.0, 1e-2]


def tiny(family: str, **changes: Any) -> Transformer:
    return random_model(config_from_user({"family": family, **SHAPE, **changes}), 0)


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
    model = tiny(family)
    named = trained_parameters(model)
    start = {name: parameter.detach().clone() for name, parameter in named}
    optimizer = make_optimizer(model, config)
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


def test_it_is_the_frameworks_fused_adamw_bit_for_bit() -> None:
    models = [tiny("llama"), tiny("llama")]
    named = trained_parameters(models[1])
    groups = [
        {"params": [p for n, p in named if is_decayed(n, p)], "weight_decay": 0.1},
        {"params": [p for n, p in named if not is_decayed(n, p)], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=LRS[0], betas=(0.9, 0.95), eps=1e-8, fused=True)
    ours = make_optimizer(models[0], OptimizerConfig())
    for model, optimizer in zip(models, (ours, theirs), strict=True):
        for step, lr in enumerate(LRS):
            gradients(list(model.parameters()), step)
            set_rate(optimizer, lr)
            optimizer.step()
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert torch.equal(a, b), name


def decays(model: nn.Module, config: OptimizerConfig) -> dict[float, set[str]]:
    """The names of the parameters of each weight decay."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[float, set[str]] = {}
    for group in make_optimizer(model, config).param_groups:
        found.setdefault(group["weight_decay"], set()).update(names[id(p)] for p in group["params"])
    return found


def test_matrices_and_embeddings_decay_and_nothing_else() -> None:
    model = tiny("gpt2")
    named = trained_parameters(model)
    groups = decays(model, OptimizerConfig())
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
    assert decays(model, OptimizerConfig()) == {0.0: {name for name, _ in named}}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_embeddings_can_be_left_out_of_the_decay(kind: str) -> None:
    model = tiny("gpt2")
    groups = decays(model, OptimizerConfig(kind=kind, decay_embeddings=False))
    assert {"embedding.token.weight", "embedding.position.weight"} <= groups[0.0]
    matrices = ("attention.qkv", "attention.output", "feedforward.up", "feedforward.down")
    assert groups[0.1] == {f"layers.0.{name}.weight" for name in matrices}


def test_what_each_parameter_is() -> None:
    model = tiny("llama", tied_head=False, kv_heads=1)
    roles = parameter_roles(model)
    assert set(roles) == {name for name, _ in model.named_parameters()}
    inner = model.config.feedforward_width
    assert {name: role for name, role in roles.items() if role != Role("other")} == {
        "embedding.token.weight": Role("embedding"),
        "layers.0.attention.qkv.weight": Role("matrix", (16, 8, 8)),
        "layers.0.attention.output.weight": Role("matrix", (16,)),
        "layers.0.feedforward.up.weight": Role("matrix", (inner, inner)),
        "layers.0.feedforward.down.weight": Role("matrix", (16,)),
        "head.weight": Role("head"),
    }
    assert all("norm" in name for name, role in roles.items() if role == Role("other"))


def test_what_is_kept_of_each_parameter() -> None:
    """Muon's momentum for the stack's matrices, AdamW's moments for the rest; the small and the embeddings in float32."""
    model = random_model(config_from_user({"family": "llama", **WIDE}), 0)
    optimizer = make_optimizer(model, OptimizerConfig(kind="muon", states="eight_bit"))
    adamw, named = {"step", "exp_avg", "exp_avg_sq"}, dict(model.named_parameters())
    eight_bit = {"step", "exp_avg", "exp_avg_scale", "root_avg_sq", "root_avg_sq_scale"}
    muon = {"momentum", "momentum_scale"}
    assert named["layers.0.attention.output.weight"].numel() == 4096
    expected = {"embedding.token.weight": adamw, "head.weight": eight_bit, "final_norm.weight": adamw}
    for name, parameter in named.items():
        role = parameter_roles(model)[name]
        assert set(optimizer.state[parameter]) == expected.get(name, muon if role.kind == "matrix" else adamw), name


def test_muon_has_nothing_to_do_for_an_adapter() -> None:
    model = tiny("llama")
    attach(model, LoraConfig(rank=2), 0)
    with pytest.raises(ConfigError, match="muon is for a model's own matrices, and none is trained"):
        make_optimizer(model, OptimizerConfig(kind="muon"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"momentum": 0.9}, "momentum and newton_schulz are Muon's"),
        ({"newton_schulz": "fp32"}, "momentum and newton_schulz are Muon's"),
        ({"eight_bit_embeddings": True}, "eight_bit_embeddings needs states: eight_bit"),
        ({"kind": "lion"}, "'lion' is not one of the choices"),
        ({"states": "int4"}, "'int4' is not one of the choices"),
        ({"kind": "muon", "momentum": 1.0}, "less than 1"),
    ],
)
def test_what_does_not_fit_is_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(OptimizerConfig, values)


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


@settings(deadline=None)
@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=8), st.floats(0.01, 10))
def test_what_is_within_the_limit_stays_bit_for_bit(values: list[float], limit: float) -> None:
    parameter = nn.Parameter(torch.zeros(len(values)))
    parameter.grad = torch.tensor(values)
    before = parameter.grad.clone()
    norm = clip_gradients([parameter], limit)
    if norm <= limit:
        assert torch.equal(parameter.grad, before)
    else:
        assert torch.equal(parameter.grad, before * (limit / (norm + 1e-6)))


def test_on_a_gpu_nothing_waits_for_the_norm() -> None:
    """Stand-in tensors without values raise when the CPU asks for one."""
    with FakeTensorMode():
        parameter = nn.Parameter(torch.empty(4, 3, device="cuda"))
        parameter.grad = torch.empty(4, 3, device="cuda")
        assert clip_gradients([parameter], 1.0).device.type == "cuda"
        with pytest.raises(DataDependentOutputException):
            parameter.grad.sum().item()


def updated(named: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    for step in steps:
        gradients([p for _, p in named], step)
        optimizer.step()
    return [p.detach().clone() for _, p in named]


@pytest.mark.parametrize("config", EVERY)
def test_a_saved_state_goes_on_bit_for_bit(config: OptimizerConfig) -> None:
    models = [random_model(config_from_user({"family": "llama", **WIDE}), 0) for _ in range(2)]
    named, other = (trained_parameters(model) for model in models)
    optimizer = make_optimizer(models[0], config)
    weights = updated(named, optimizer, range(3))
    saved = {name: tensor.clone() for name, tensor in named_states(optimizer, named).items()}
    expected = updated(named, optimizer, range(3, 6))

    for (_, parameter), weight in zip(other, weights, strict=True):
        parameter.data.copy_(weight)
    again = make_optimizer(models[1], config)
    load_optimizer_state(again, other, saved, "here")
    found = updated(other, again, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    last, first = named_states(again, other), named_states(optimizer, named)
    assert set(last) == set(first) and all(torch.equal(last[name], first[name]) for name in last)


def test_the_state_before_the_first_update_is_what_the_framework_would_make() -> None:
    model = tiny("gpt2")
    named = trained_parameters(model)
    state = named_states(make_optimizer(model, OptimizerConfig()), named)
    assert state and all(not tensor.any() for tensor in state.values())
    bare = torch.optim.AdamW([parameter for _, parameter in named], lr=0.0, fused=True)
    updated(named, bare, range(1))
    made = named_states(bare, named)
    assert {key: (t.shape, t.dtype) for key, t in made.items()} == {key: (t.shape, t.dtype) for key, t in state.items()}


def test_a_parameter_without_a_gradient_stays_as_it_is() -> None:
    model = tiny("llama")
    named = trained_parameters(model)
    optimizer = make_optimizer(model, OptimizerConfig(kind="muon"))
    start = [parameter.detach().clone() for _, parameter in named]
    gradients([p for _, p in named[:2]], 2)
    optimizer.step()
    assert [torch.equal(p, before) for (_, p), before in zip(named, start, strict=True)] == [False] * 2 + [True] * (
        len(named) - 2
    )


def test_bytes_are_counted_exactly() -> None:
    """A matrix of 768 x 512 takes, in each: two float32 moments; one; two bytes and two scales for 256; one of each."""
    model = nn.Module()
    model.inner = Linear(512, 768, bias=False)
    size, scales, step = 768 * 512, 768 * 2, 4
    expected = {"adamw": (8 * size + step, 2 * size + 8 * scales + step), "muon": (4 * size, size + 4 * scales)}
    for kind, (wide, narrow) in expected.items():
        assert state_bytes(make_optimizer(model, OptimizerConfig(kind=kind))) == wide
        assert state_bytes(make_optimizer(model, OptimizerConfig(kind=kind, states="eight_bit"))) == narrow


def without(key: str) -> Any:
    return lambda name: not name.endswith(key)


@pytest.mark.parametrize("kept", [without("final_norm.weight:step"), lambda name: "layers.0.attention.qkv" not in name])
def test_a_missing_state_is_named(kept: Any) -> None:
    model = tiny("gpt2")
    named = trained_parameters(model)
    optimizer = make_optimizer(model, OptimizerConfig())
    tensors = {name: tensor for name, tensor in named_states(optimizer, named).items() if kept(name)}
    with pytest.raises(DamagedError, match=r"of '(final_norm\.weight|layers\.0\.attention\.qkv\.weight)' is missing"):
        load_optimizer_state(optimizer, named, tensors, "runs/x/checkpoints/step-3")


def test_a_state_of_another_shape_is_named() -> None:
    model = tiny("gpt2")
    named = trained_parameters(model)
    optimizer = make_optimizer(model, OptimizerConfig())
    tensors = named_states(optimizer, named)
    tensors["final_norm.bias:exp_avg"] = torch.zeros(3)
    with pytest.raises(DamagedError, match=r"of 'final_norm\.bias' does not fit it"):
        load_optimizer_state(optimizer, named, tensors, "runs/x/checkpoints/step-3")


def test_the_norm_of_a_spread_gradient_is_the_plain_one() -> None:
    """A gradient that is spread over workers is an object without memory of its own, which no kernel may read."""
    if torch.distributed.is_initialized():
        pytest.skip("another test's process group is there")
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        plain = [nn.Parameter(torch.zeros(8, 4)), nn.Parameter(torch.zeros(6))]
        spread = [nn.Parameter(distribute_tensor(p.detach(), mesh, [Shard(0)])) for p in plain]
        for number, (whole, part) in enumerate(zip(plain, spread, strict=True)):
            whole.grad = torch.randn(whole.shape, generator=torch.Generator().manual_seed(number))
            part.grad = distribute_tensor(whole.grad.clone(), mesh, [Shard(0)])
        expected = torch.nn.utils.get_total_norm([p.grad for p in plain if p.grad is not None])
        for parameters in (plain, spread):
            assert clip_gradients(parameters, None).item() == pytest.approx(expected.item(), rel=1e-6)
    finally:
        torch.distributed.destroy_process_group()
