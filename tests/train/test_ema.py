"""The running average against the framework's own and by hand; into the model and back without a trace."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ownlm.config import validate
from ownlm.errors import ConfigError, DamagedError
from ownlm.model.adapters import LoraConfig, attach
from ownlm.model.checkpoint import random_model
from ownlm.model.families import config_from_user
from ownlm.model.transformer import Transformer
from ownlm.train.config import EmaConfig
from ownlm.train.ema import Ema, share_kept
from ownlm.train.optimizer import Named, trained_parameters

SHAPE = {"family": "llama", "layers": 1, "width": 16, "heads": 2, "vocab_size": 31, "max_positions": 12}


def tiny() -> Transformer:
    return random_model(config_from_user(SHAPE), 0)


def move(named: Named, step: int) -> None:
    """What stands for an update."""
    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for _, parameter in named:
            parameter.add_(torch.randn(parameter.shape, generator=generator))


def copies(named: Named) -> list[Tensor]:
    return [parameter.detach().clone() for _, parameter in named]


def test_it_is_the_frameworks_average() -> None:
    model = tiny()
    named = trained_parameters(model)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    # Theirs takes its first update as its beginning, ours begins before any.
    theirs.update_parameters(model)
    ours = Ema(named, EmaConfig(decay=0.9, warmup=False))
    for step in range(1, 6):
        move(named, step)
        theirs.update_parameters(model)
        ours.update(step)
    expected = dict(theirs.module.named_parameters())
    for name, average in ours.state().items():
        assert torch.allclose(average, expected[name], rtol=0, atol=1e-6), name


def test_a_warm_up_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([8.0]))
    ema = Ema([("x", parameter)], EmaConfig(decay=0.25))
    # Kept: 2/11, then 3/12 = 0.25, which is the decay already, and stays.
    average = 8.0
    for step, (value, kept) in enumerate([(1.0, 2 / 11), (5.0, 0.25), (-3.0, 0.25)], 1):
        parameter.data.fill_(value)
        ema.update(step)
        average = kept * average + (1 - kept) * value
        assert ema.state()["x"].item() == pytest.approx(average)


@given(st.floats(0.001, 0.9999), st.integers(1, 10**6))
def test_the_share_kept_rises_to_the_decay(decay: float, step: int) -> None:
    config = EmaConfig(decay=decay)
    shares = [share_kept(config, step), share_kept(config, step + 1), decay]
    assert all(0 < a <= b for a, b in pairwise(shares))
    assert share_kept(config, 10**9) == decay == share_kept(EmaConfig(decay=decay, warmup=False), 1)


def test_swapping_leaves_no_trace() -> None:
    model = tiny()
    named = trained_parameters(model)
    ema = Ema(named, EmaConfig())
    for step in range(1, 4):
        move(named, step)
        ema.update(step)
    weights, averages = copies(named), ema.state()
    averages = {name: average.clone() for name, average in averages.items()}
    places = [parameter.data_ptr() for _, parameter in named]
    with ema.swapped():
        assert all(torch.equal(parameter, averages[name]) for name, parameter in named)
        with pytest.raises(AssertionError):
            ema.update(4)
    assert all(torch.equal(a, b) for a, b in zip(copies(named), weights, strict=True))
    assert all(torch.equal(average, averages[name]) for name, average in ema.state().items())
    assert [parameter.data_ptr() for _, parameter in named] == places, "the optimizer points at the same memory"
    with pytest.raises(KeyError), ema.swapped():
        raise KeyError
    assert all(torch.equal(a, b) for a, b in zip(copies(named), weights, strict=True))


def test_the_averages_can_be_taken_for_good() -> None:
    model = tiny()
    named = trained_parameters(model)
    ema = Ema(named, EmaConfig(decay=0.5))
    move(named, 1)
    ema.update(1)
    averages = {name: average.clone() for name, average in ema.state().items()}
    ema.take()
    assert all(torch.equal(parameter, averages[name]) for name, parameter in named)


def test_a_saved_average_goes_on_bit_for_bit() -> None:
    named, other = trained_parameters(tiny()), trained_parameters(tiny())
    ema, again = Ema(named, EmaConfig()), Ema(other, EmaConfig())
    for step in range(1, 4):
        move(named, step)
        ema.update(step)
    for (_, parameter), weight in zip(other, copies(named), strict=True):
        parameter.data.copy_(weight)
    again.load({name: average.clone() for name, average in ema.state().items()}, "here")
    for step in range(4, 7):
        for parameters, average in ((named, ema), (other, again)):
            move(parameters, step)
            average.update(step)
    assert all(torch.equal(average, again.state()[name]) for name, average in ema.state().items())


def test_of_an_adapter_only_its_own_tensors_are_averaged() -> None:
    model = tiny()
    attach(model, LoraConfig(rank=2), 0)
    state = Ema(trained_parameters(model), EmaConfig()).state()
    assert state and all(name.endswith((".a", ".b")) for name in state)


def test_narrow_weights_are_averaged_in_float32() -> None:
    parameter = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    ema = Ema([("x", parameter)], EmaConfig(decay=0.999, warmup=False))
    parameter.data.fill_(2.0)
    ema.update(1)
    # 1.001 is no bfloat16 number: the next above 1 is 1.0078.
    assert torch.allclose(ema.state()["x"], torch.full((2,), 1.001))


@pytest.mark.parametrize(
    ("change", "message"), [({"head.weight": None}, "is missing"), ({"final_norm.weight": torch.zeros(3)}, "not fit")]
)
def test_a_damaged_state_is_named(change: dict[str, Tensor | None], message: str) -> None:
    model = random_model(config_from_user({**SHAPE, "tied_head": False}), 0)
    ema = Ema(trained_parameters(model), EmaConfig())
    tensors = {name: tensor for name, tensor in {**ema.state(), **change}.items() if tensor is not None}
    with pytest.raises(DamagedError, match=message):
        ema.load(tensors, "runs/x/checkpoints/step-3")


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_a_decay_that_keeps_all_or_nothing_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError):
        validate(EmaConfig, {"decay": decay})
