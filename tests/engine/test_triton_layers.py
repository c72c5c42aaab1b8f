"""Kernels between a block's products, interpreted, compute what the model's own code computes."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from ownlm.engine.adapters import Adapter, LowRank
from ownlm.engine.packed_model import PackedModel
from ownlm.engine.paged_attention import by_framework
from ownlm.engine.static_step import StaticSteps
from ownlm.engine.torch_decoder import TorchDecoder
from ownlm.engine.triton_ready import triton_runs
from ownlm.model.embedding import rotate
from ownlm.model.families import config_from_user
from ownlm.model.feedforward import activate
from ownlm.model.layers import RMSNorm
from ownlm.model.transformer import Transformer

# Gated with rotary positions, part of the heads turning, heads that are normed, norms on both sides and caps, and none
# of all this.
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"heads": 3, "kv_heads": 1, "head_width": 16},
    "gpt_neox": {"heads": 3, "rotary_width": 4},
    "qwen3": {"heads": 4, "kv_heads": 2, "head_width": 16},
    "gemma2": {"heads": 4, "kv_heads": 2, "head_width": 16, "sliding_window": 7, "logit_softcap": 2.0},
    "gpt2": {"heads": 3},
}
FUSED = {
    "llama": {"_FusedBlock", "_FusedAttention", "_FusedFeedForward", "_FusedNorm"},
    "gpt_neox": {"_FusedAttention"},
    "qwen3": {"_FusedBlock", "_FusedFeedForward", "_FusedNorm"},
    "gemma2": {"_FusedAttention", "_FusedFeedForward", "_FusedNorm"},
    "gpt2": {"_FusedAttention"},
}


@pytest.mark.parametrize("what", ["norm", "gated", "turn", *SHAPES])
def test_they_compute_the_same(interpreted: Callable[..., None], what: str) -> None:
    interpreted(__file__, what)


def test_a_cpu_has_none() -> None:
    assert not triton_runs(torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("what", ["norm", "gated", "turn"])
def test_a_gpu_computes_the_same(what: str) -> None:
    assert triton_runs(torch.device("cuda"))
    CHECKS[what]("cuda")


def norm(device: str = "cpu") -> None:
    from ownlm.engine.triton_layers import rms_norm, rms_norm_of_sum

    random = torch.Generator().manual_seed(0)
    for dtype, offset, width in itertools.product((torch.float32, torch.float16), (False, True), (48, 64)):
        layer = RMSNorm(width, 1e-5, offset)
        layer.weight.data = torch.randn(width, generator=random)
        # Rows that lie apart, and heads that do.
        wide = torch.randn(5, 3 * width, generator=random).to(dtype)
        for x in (wide[:, width : 2 * width], wide.unflatten(1, (3, width))[:, :2]):
            ours = rms_norm(x.to(device), layer.weight.data.to(device), 1e-5, offset).cpu()
            tolerance = 1e-5 if dtype == torch.float32 else 4e-3
            torch.testing.assert_close(ours, layer(x).detach(), atol=tolerance, rtol=tolerance)
        x, y = (wide[:, start : start + width].contiguous() for start in (0, width))
        got = rms_norm_of_sum(x.to(device), y.to(device), layer.weight.data.to(device), 1e-5, offset)
        for ours, wanted in zip(got, (layer(x + y).detach(), x + y), strict=True):
            torch.testing.assert_close(ours.cpu(), wanted, atol=tolerance, rtol=tolerance)


def gated(device: str = "cpu") -> None:
    from ownlm.engine.triton_layers import KINDS, gated

    for kind in KINDS:
        inner = 3 * torch.randn(4, 2 * 1100, generator=torch.Generator().manual_seed(0))
        gate, value = inner.chunk(2, dim=1)
        ours = gated(inner.to(device), kind).cpu()
        torch.testing.assert_close(ours, activate(gate, kind) * value, atol=1e-5, rtol=1e-5)


def turn(device: str = "cpu") -> None:
    from ownlm.engine.triton_layers import turn_and_keep

    random = torch.Generator().manual_seed(0)
    for (heads, kv_heads, width), half in itertools.product([(3, 1, 16), (2, 2, 20)], (0, 4, 8)):
        qkv = torch.randn(4, (heads + 2 * kv_heads) * width, generator=random)
        angles = torch.randn(4, 1, half, generator=random)
        rotary = (angles.cos(), angles.sin()) if half else None
        keys, values = (torch.full((kv_heads, 70, width), 7.0, device=device) for _ in range(2))
        slots = torch.tensor([33, 0, 69, 40])
        tables = None if rotary is None else tuple(x.to(device) for x in rotary)
        got = turn_and_keep(qkv.to(device), tables, keys, values, slots.to(device), width)
        q, k, v = (
            x.unflatten(1, (-1, width)) for x in qkv.split([heads * width, kv_heads * width, kv_heads * width], 1)
        )
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        torch.testing.assert_close(got.cpu(), q)
        for kept, new in ((keys.cpu(), k), (values.cpu(), v)):
            expected = torch.full((kv_heads, 70, width), 7.0)
            expected[:, slots] = new.transpose(0, 1)
            torch.testing.assert_close(kept, expected)


CHECKS: dict[str, Callable[..., None]] = {"norm": norm, "gated": gated, "turn": turn}


def low_rank(model: Transformer, name: str) -> LowRank:
    """Something to add to a projection."""
    random = torch.Generator().manual_seed(1)
    layer = model.get_submodule(name)
    return LowRank(*(torch.randn(shape, generator=random) for shape in ((2, layer.inputs), (layer.outputs, 2))))


def whole(name: str) -> None:
    """A model of kernels alone, beside the framework's, over a few steps."""
    from ownlm.engine.fused_layers import _FusedAttention, _FusedBlock, _FusedFeedForward, _FusedNorm, fuse
    from ownlm.engine.triton_attention import by_kernel

    size = {"family": name, "layers": 2, "width": 48, "vocab_size": 50, "max_positions": 64, "initializer_range": 0.15}
    model = Transformer(config_from_user({**size, **SHAPES[name]})).eval()
    model.initialize(0)
    plain = TorchDecoder(model, 6, steps=partial(StaticSteps, attention=by_framework, recorder=None))

    def fused(packed: PackedModel, *cache: torch.Tensor) -> StaticSteps:
        fuse(packed._model)
        kinds = (_FusedBlock, _FusedAttention, _FusedFeedForward, _FusedNorm)
        found = {kind.__name__ for kind in kinds if any(isinstance(m, kind) for m in packed._model.modules())}
        assert found == FUSED[name]
        return StaticSteps(packed, *cache, attention=by_kernel, recorder=None)

    ours = TorchDecoder(model, 6, steps=fused)
    pages = [[3, 1], [2], [5, 4]]
    prompts = [[*range(30)], [7], [*range(3, 33)]]
    starts = [0, 30, 31, 61]
    ids, places = [i for prompt in prompts for i in prompt], [i for prompt in prompts for i in range(len(prompt))]
    for decoder in (plain, ours):
        decoder(ids, places, starts, pages, [])
    for step in range(4):
        asked = ([5 + step, 9, 11], [30 + step, 1 + step, 30 + step], range(4), pages, range(3))
        torch.testing.assert_close(ours(*asked), plain(*asked), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours._keys, plain._keys, atol=1e-5, rtol=1e-5)
    # An adapter, of some rows alone and of a prompt.
    layers = {name: low_rank(model, name) for name in ("layers.0.attention.qkv", "layers.1.feedforward.up")}
    adapters = [(decoder.prepared(Adapter(layers, b"")), None) for decoder in (ours, plain)]
    for rows in ([9, 11], [3, 4, 5, 6, 8]):
        starts = [0, len(rows) - 1, len(rows)]
        asked = (rows, [*range(len(rows) - 1), 10], starts, [[1], [2]], range(len(rows)))
        got, wanted = (decoder(*asked, own) for decoder, own in zip((ours, plain), adapters, strict=True))
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(got[0], ours(*asked)[0])
    assert ours._steps is not None


if __name__ == "__main__":
    CHECKS.get(sys.argv[1], partial(whole, sys.argv[1]))()
