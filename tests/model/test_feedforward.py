"""The feedforward network against its definition in float64, in every activation and on every route."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ownlm.model.families import config_from_user
from ownlm.model.feedforward import FeedForward

TOKENS, WIDTH, INNER = 37, 24, 40
ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "relu": F.relu,
}


class Wrapped(nn.Module):
    """Stands where an adapter does: a projection that is no plain linear layer."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x)


def network(activation: str, gated: bool) -> FeedForward:
    shape = {"family": "llama", "layers": 1, "width": WIDTH, "heads": 2, "vocab_size": 5, "max_positions": 8}
    config = config_from_user(shape).model_copy(
        update={"activation": activation, "gated": gated, "feedforward_width": INNER, "feedforward_bias": True}
    )
    made = FeedForward(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter.shape[-1] ** 0.5)
    return made


@pytest.mark.usefixtures("route")
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_output_and_gradients_are_the_definitions(
    dtype: torch.dtype, activation: str, gated: bool, wrapped: bool
) -> None:
    made = network(activation, gated)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype).requires_grad_()
    above = torch.randn(TOKENS, WIDTH, generator=generator).to(dtype)

    leaves = [x.detach().double().requires_grad_()]
    leaves += [p.detach().to(dtype).double().requires_grad_() for p in made.parameters()]
    wide, up, up_bias, down, down_bias = leaves
    inner = F.linear(wide, up, up_bias)
    gate, value = inner.chunk(2, 1) if gated else (inner, None)
    active = ACTIVATIONS[activation](gate) if value is None else ACTIVATIONS[activation](gate) * value
    expected = F.linear(active, down, down_bias)
    expected.backward(above.double())

    parameters = list(made.parameters())
    if wrapped:
        made.down = Wrapped(made.down)  # type: ignore[assignment]
    out = made(x)
    out.backward(above)
    # bfloat16 rounds what lies between two products to 8 bits.
    tolerance = 1e-5 if dtype == torch.float32 else 1.5e-2
    assert out.dtype == dtype and (out.double() - expected).norm() <= tolerance * expected.norm()
    for found, leaf in zip([x, *parameters], leaves, strict=True):
        assert found.grad is not None and leaf.grad is not None and found.grad.dtype == found.dtype
        assert (found.grad.double() - leaf.grad).norm() <= tolerance * leaf.grad.norm()
    with torch.no_grad():
        assert torch.equal(made(x), out)


@pytest.mark.usefixtures("route")
def test_frozen_weights_let_the_gradient_through() -> None:
    made = network("silu", True).requires_grad_(False)
    x = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(2)).bfloat16().requires_grad_()
    made(x).sum().backward()
    assert x.grad is not None and x.grad.any()
    assert all(parameter.grad is None for parameter in made.parameters())
