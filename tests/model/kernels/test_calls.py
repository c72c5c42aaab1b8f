"""Each kernel against its definition in float64, in shapes that fill no tile, and the same bits on any thread count."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ownlm.model.kernels import calls

pytestmark = [
    pytest.mark.parametrize("route", ["matrix unit", "no matrix unit"], indirect=True),
    pytest.mark.usefixtures("route"),
]

# One rounding to bfloat16, and the rounding of what came before: 8 bits and a little.
ROUNDED = 2**-8
SHAPES = [(1, 1, 1), (2, 33, 16), (77, 50, 64), (300, 96, 130), (256, 288, 544), (2500, 40, 24)]


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape))).to(dtype)


def off_by(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in terms of the largest expected value."""
    return float((found.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize(("tokens", "inputs", "outputs"), SHAPES)
def test_linear(tokens: int, inputs: int, outputs: int, wide: bool) -> None:
    x, weight, bias = drawn(tokens, inputs), drawn(outputs, inputs, seed=1), drawn(outputs, seed=2, dtype=torch.float32)
    grad, given = drawn(tokens, outputs, seed=3), weight.float() if wide else weight
    assert off_by(calls.linear(x, given, bias), F.linear(x.double(), weight.double(), bias.double())) <= ROUNDED
    assert off_by(calls.linear(x, given, None), x.double() @ weight.double().t()) <= ROUNDED
    assert off_by(calls.input_gradient(grad, given), grad.double() @ weight.double()) <= ROUNDED


@pytest.mark.parametrize(("tokens", "inputs", "outputs"), SHAPES)
def test_weight_gradients_and_column_sums_are_float32_throughout(tokens: int, inputs: int, outputs: int) -> None:
    x, grad = drawn(tokens, inputs), drawn(tokens, outputs, seed=1)
    product, sums = grad.double().t() @ x.double(), grad.double().sum(0)
    found, found_sums = calls.weight_gradient(grad, x), calls.column_sums(grad)
    assert found.dtype == found_sums.dtype == torch.float32
    assert off_by(found, product) <= 1e-5 and (found_sums - sums).abs().max() <= 1e-3
    calls.weight_gradient(grad, x, found), calls.column_sums(grad, found_sums)
    assert off_by(found, 2 * product) <= 1e-5 and (found_sums - 2 * sums).abs().max() <= 1e-3


def test_a_vocabulary_is_taken_some_outputs_at_a_time() -> None:
    """And into what there is already, whose rows may be longer."""
    x, weight, bias = drawn(70, 40), drawn(8300, 40, seed=1), drawn(8300, seed=2, dtype=torch.float32)
    filled, grad_x = torch.zeros(70, 8320, dtype=torch.bfloat16), torch.empty(70, 40, dtype=torch.bfloat16)
    logits = calls.linear(x, weight, bias, filled[:, :8300])
    assert logits.data_ptr() == filled.data_ptr() and not filled[:, 8300:].any()
    assert off_by(logits, F.linear(x.double(), weight.double(), bias.double())) <= ROUNDED
    calls.input_gradient(logits, weight.float(), grad_x)
    assert off_by(grad_x, logits.double() @ weight.double()) <= ROUNDED


def test_rows_may_lie_apart() -> None:
    """As the parts of a joined projection do, and logits beside what fills their vocabulary up."""
    wide, weight = drawn(70, 200), drawn(48, 64, seed=1)
    x, grad = wide[:, 10:74], wide[:, 100:148]
    assert torch.equal(calls.linear(x, weight, None), calls.linear(x.contiguous(), weight, None))
    assert torch.equal(calls.weight_gradient(grad, x), calls.weight_gradient(grad.contiguous(), x.contiguous()))
    assert torch.equal(calls.column_sums(grad), calls.column_sums(grad.contiguous()))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kind", calls.ACTIVATIONS)
def test_activations(kind: str, gated: bool) -> None:
    # From far below 0 to far above, where exponentials end.
    inner = torch.cat((torch.linspace(-200, 200, 450), torch.linspace(-6, 6, 450))).view(10, 90).bfloat16()
    grad = drawn(10, 45 if gated else 90)
    wide = inner.double().requires_grad_()
    gate, value = wide.chunk(2, 1) if gated else (wide, None)
    plain = {"gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "gelu": F.gelu, "silu": F.silu, "relu": F.relu}
    expected = plain[kind](gate) if value is None else plain[kind](gate) * value
    expected.backward(grad.double())
    found, (found_grad, again) = (
        calls.activation(kind, gated, inner),
        calls.activation_gradient(kind, gated, inner, grad, again=True),
    )
    assert again is not None and torch.equal(again, found)
    assert wide.grad is not None
    for ours, theirs in ((found, expected.detach()), (found_grad, wide.grad)):
        assert torch.isfinite(ours).all()
        assert ((ours.double() - theirs).abs() <= 2 * ROUNDED * theirs.abs() + 1e-5).all()


@pytest.mark.parametrize(("rows", "width"), [(1, 16), (130, 24), (65, 768)])
@pytest.mark.parametrize("centred", [True, False])
def test_norms(rows: int, width: int, centred: bool) -> None:
    x, grad = drawn(rows, width) + 2, drawn(rows, width, seed=1)
    weight, bias = drawn(width, seed=2, dtype=torch.float32), drawn(width, seed=3, dtype=torch.float32)
    leaves = [x.double().requires_grad_(), weight.double().requires_grad_(), bias.double().requires_grad_()]
    if centred:
        expected = F.layer_norm(leaves[0], (width,), leaves[1], leaves[2], 1e-5)
    else:
        expected = F.rms_norm(leaves[0], (width,), leaves[1], 1e-5)
    expected.backward(grad.double())
    out, statistics = calls.norm(x, weight, bias if centred else None, 1e-5, centred, False)
    assert off_by(out, expected.detach()) <= ROUNDED
    grads = calls.norm_gradient(x, grad, weight, statistics, centred, True)
    for found, leaf in zip(grads, leaves, strict=True):
        if found is not None and leaf.grad is not None:
            assert off_by(found, leaf.grad) <= (ROUNDED if found.dtype == torch.bfloat16 else 1e-5)


def test_what_flows_back_beside_a_norm_is_added() -> None:
    x, grad, beside, weight = drawn(130, 48), drawn(130, 48, seed=1), drawn(130, 48, seed=2), torch.ones(48)
    _, statistics = calls.norm(x, weight, None, 1e-5, False, False)
    alone, *_ = calls.norm_gradient(x, grad, weight, statistics, False, False)
    both, *_ = calls.norm_gradient(x, grad, weight, statistics, False, False, beside)
    assert off_by(both, alone.double() + beside.double()) <= 2 * ROUNDED


@pytest.mark.parametrize("count", [1, 15, 70, 1 << 16, 200_001])
def test_sum_of_squares(count: int) -> None:
    x = drawn(count, dtype=torch.float32)
    found = calls.sum_of_squares(x)
    assert found is not None and found == pytest.approx(float(x.double().square().sum()), rel=1e-6)
    assert calls.sum_of_squares(x.bfloat16()) is None
    assert calls.sum_of_squares(torch.zeros(4, 4).t()[:2]) is None


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("vocab", [7, 100, 1001])
def test_softmax_gradient(vocab: int, smoothing: float) -> None:
    filled = torch.zeros(9, vocab + 5, dtype=torch.bfloat16)
    filled[:, :vocab] = drawn(9, vocab) * 4
    logits, targets, weights = filled[:, :vocab], torch.arange(9) % vocab, torch.linspace(-1, 2, 9)
    wide = logits.double().requires_grad_()
    expected = F.cross_entropy(wide, targets, reduction="none", label_smoothing=smoothing)
    (expected * weights).sum().backward()
    losses = calls.softmax_gradient(logits, targets, weights, smoothing)
    assert wide.grad is not None
    assert off_by(losses, expected.detach()) <= 1e-5 and off_by(logits, wide.grad) <= ROUNDED
    assert not filled[:, vocab:].any()


def test_what_is_no_number_stays_none() -> None:
    """A run stops at a loss that is no number; a kernel that made one of it would hide what went wrong."""
    x = drawn(40, 64)
    x[3, 5] = torch.nan
    assert calls.linear(x, drawn(32, 64), None)[3].isnan().all()
    assert calls.activation("gelu_tanh", False, x)[3, 5].isnan()
    assert calls.norm(x, torch.ones(64), None, 1e-5, False, True)[0][3].isnan().all()
    assert calls.softmax_gradient(x.clone(), torch.zeros(40, dtype=torch.int64), torch.ones(40), 0.0)[3].isnan()
    q = x.view(40, 2, 32)
    out, _ = calls.Attention([0, 40], [0, 40], 0.2, None, True, None).forward(q, drawn(40, 2, 32), drawn(40, 2, 32))
    assert out[3, 0].isnan().all() and not out[:3].isnan().any()


def test_the_number_of_threads_changes_no_bit(threads: Callable[[int], None]) -> None:
    x, grad, weight = drawn(600, 96), drawn(600, 160, seed=1), drawn(160, 96, seed=2, dtype=torch.float32)
    ones, attention = torch.ones(96), calls.Attention([0, 70, 333, 600], [0, 70, 333, 600], 0.2, None, True, None)
    heads = x.view(600, 3, 32)

    def everything() -> list[Tensor]:
        out, statistics = calls.norm(x, ones, ones, 1e-5, True, False)
        attended, log_sums = attention.forward(heads, heads, heads)
        return [
            calls.linear(x, weight, None),
            calls.input_gradient(grad, weight),
            calls.weight_gradient(grad, x),
            calls.column_sums(grad),
            out,
            *calls.norm_gradient(x, out, ones, statistics, True, True),
            calls.linear(x, drawn(5000, 96), None),
            calls.input_gradient(drawn(600, 5000), drawn(5000, 96)),
            torch.tensor(calls.sum_of_squares(torch.linspace(-3, 7, 300_000))),
            attended,
            *attention.backward(heads, heads, heads, attended, log_sums, heads),
        ]

    threads(1)
    alone = everything()
    threads(3)
    assert all(torch.equal(a, b) for a, b in zip(alone, everything(), strict=True))
