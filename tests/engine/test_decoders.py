"""Passes over pages give the logits of one pass over the whole document, however they are cut and mixed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from ownlm.engine.decoder import Decoder, make_decoder
from ownlm.engine.kernels import library
from ownlm.engine.native_decoder import NativeDecoder, runs_natively
from ownlm.engine.packing import BLOCK, KINDS, Kind, quantize_int4, quantize_int8
from ownlm.engine.pages import PAGE, pages_for
from ownlm.engine.torch_decoder import TorchDecoder, room_for
from ownlm.errors import ConfigError
from ownlm.model.adapters import LoraConfig, attach, merge
from ownlm.model.layers import Linear
from ownlm.model.transformer import Transformer

from .conftest import documents_for

# Everything the kernels know: heads in groups or not, either norm and where it stands, windows, caps, parallel branches,
# heads that are normed, that turn in part, or otherwise where there is a window.
NATIVE: dict[str, dict[str, Any]] = {
    "llama": {"width": 80, "heads": 6, "kv_heads": 2, "head_width": 16, "feedforward_width": 100},
    "gpt2": {"heads": 3, "width": 48},
    "gpt3": {"heads": 2, "width": 32, "sliding_window": 9},
    "mistral": {"heads": 4, "kv_heads": 2, "head_width": 32, "sliding_window": 39},
    "qwen2": {"heads": 4, "kv_heads": 4, "head_width": 16, "qkv_bias": True},
    "qwen3": {"heads": 4, "kv_heads": 1, "head_width": 48},
    "gemma": {"heads": 4, "kv_heads": 1, "head_width": 16},
    "gemma2": {"heads": 4, "kv_heads": 2, "head_width": 16, "sliding_window": 7, "logit_softcap": 2.0},
    "gemma3_text": {"heads": 4, "kv_heads": 2, "head_width": 16, "sliding_window": 40},
    "gpt_neox": {"heads": 3, "width": 48, "rotary_width": 4},
}
LENGTHS = (3, 40, 70, 131, 150)


def needs_kernels() -> None:
    if library.library() is None:
        pytest.skip("this processor has no AVX-512 BF16, or no compiler is installed")


@pytest.fixture
def native(make_model: Callable[..., Transformer]) -> Callable[..., Transformer]:
    """A model that the kernels run, of bfloat16 weights."""
    needs_kernels()

    def make(name: str, **changes: object) -> Transformer:
        model = make_model(name, dtype=torch.bfloat16, **{"initializer_range": 0.15, **NATIVE[name], **changes})
        assert runs_natively(model)
        return model

    return make


def widened(model: Transformer) -> Transformer:
    """The same weights, computing in float32."""
    wide = Transformer(model.config).eval()
    wide.load_state_dict({name: weight.float() for name, weight in model.state_dict().items()})
    return wide


def read(
    decoder: Decoder, documents: list[list[int]], cuts: random.Random | None, first: int = 1
) -> list[torch.Tensor]:
    """All logits of each document, [length, vocab], read in passes that are cut and mixed at random, or all in one."""
    pages, rows = [], first
    for document in documents:
        pages.append(list(range(rows, rows + pages_for(len(document)))))
        rows += pages_for(len(document))
    got: list[list[torch.Tensor]] = [[] for _ in documents]
    done = [0] * len(documents)
    while unread := [i for i, document in enumerate(documents) if done[i] < len(document)]:
        chosen = unread if cuts is None else cuts.sample(unread, cuts.randint(1, len(unread)))
        ids, places, starts = [], [], [0]
        for i in chosen:
            size = len(documents[i]) if cuts is None else cuts.choice([1, 1, 1, 1, 2, 9, 33])
            end = min(done[i] + size, len(documents[i]))
            ids += documents[i][done[i] : end]
            places += range(done[i], end)
            starts.append(len(ids))
            done[i] = end
        logits = decoder(ids, places, starts, [pages[i] for i in chosen], range(len(ids)))
        for i, a, b in zip(chosen, starts, starts[1:], strict=False):
            got[i].append(logits[a:b])
    return [torch.cat(parts) for parts in got]


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "qwen3", "gemma2"])
def test_cached_logits_are_those_of_the_whole(make_model: Callable[..., Transformer], name: str) -> None:
    model = make_model(name, initializer_range=0.15)
    documents = documents_for(model, name, LENGTHS)
    got = read(TorchDecoder(model, 40), documents, random.Random(name))
    for ours, whole in zip(got, model.logits(documents), strict=True):
        torch.testing.assert_close(ours, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NATIVE)
def test_kernels_are_as_near_to_float32_as_the_framework(native: Callable[..., Transformer], name: str) -> None:
    model = native(name)
    documents = documents_for(model, name, LENGTHS)
    exact = widened(model).logits(documents)
    ours = read(NativeDecoder(model, "bf16", 40), documents, None)
    framework = model.logits(documents)

    def error(logits: list[torch.Tensor]) -> float:
        return max(float((a.float() - b).square().mean().sqrt()) for a, b in zip(logits, exact, strict=True))

    assert error(ours) < 1.1 * error(framework)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2"])
def test_an_answer_has_the_same_bits_however_it_is_read(
    native: Callable[..., Transformer], name: str, kind: Kind
) -> None:
    model = native(name)
    documents = documents_for(model, name, (*LENGTHS, 1, 2, 33, 64, 100, 5, 17, 90))
    pages = sum(pages_for(len(document)) for document in documents)
    alone = [read(NativeDecoder(model, kind, pages), [document], None)[0] for document in documents]
    for seed in range(3):
        torch.set_num_threads(1 + seed % 2)
        decoder = NativeDecoder(model, kind, pages)
        # What others left in the pages before must not matter, be it no number at all.
        decoder._pages.view(torch.bfloat16).fill_(float("nan"))
        mixed = read(decoder, documents, random.Random(seed))
        assert all(map(torch.equal, mixed, alone))
    assert all(map(torch.equal, read(NativeDecoder(model, kind, pages), documents, None), alone))


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("kind", "quantize"), [("int8", quantize_int8), ("int4", quantize_int4)])
def test_few_bits_compute_what_their_values_are(
    native: Callable[..., Transformer], kind: Kind, quantize: Callable[..., tuple[torch.Tensor, ...]], deep: bool
) -> None:
    model = native("llama", tied_head=False, **({} if deep else {"layers": 1}))
    if not deep:
        # Attention rounds on its way what no reference here does; without it, all is whole numbers or float32.
        model.layers[0].attention.output.weight.data.zero_()
    documents = documents_for(model, kind, LENGTHS)
    ours = read(NativeDecoder(model, kind, 40), documents, None)
    exact = widened(model)
    for module in exact.modules():
        if isinstance(module, Linear):
            module.weight = nn.Parameter(values_of(module.weight.detach(), quantize))
    # Beside layers of 4 bits the head has 8.
    exact.head.weight = nn.Parameter(values_of(model.head.weight.detach().float(), quantize_int8))
    weights_alone, plain = exact.logits(documents), widened(model).logits(documents)
    for module in exact.modules():
        if isinstance(module, Linear):
            module.register_forward_pre_hook(lambda _, inputs: (in_codes(inputs[0]),))
    exact.final_norm.register_forward_hook(lambda _, inputs, out: in_codes(out))
    both = exact.logits(documents)

    def errors(other: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([(a - b).square().mean(1).sqrt() for a, b in zip(ours, other, strict=True)])

    if not deep:
        # Of some rows a rounding to bfloat16 falls otherwise, and then a code.
        assert errors(both).quantile(0.75) < 1e-6
    assert errors(both).mean() < errors(weights_alone).mean() < errors(plain).mean()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strange", [float("inf"), float("nan")])
def test_what_is_no_number_stays_none_and_harms_nobody_else(
    native: Callable[..., Transformer], kind: Kind, strange: float
) -> None:
    model = native("llama", tied_head=False)
    documents = [[3, 4, 5], [3, 6, 5]]
    model.embedding.token.weight.data[6, 1] = strange
    one, two = read(NativeDecoder(model, kind, 40), documents, None)
    assert one.isfinite().all() and not two[1:].isfinite().all(1).any()
    assert torch.equal(one, read(NativeDecoder(model, kind, 40), documents[:1], None)[0])


def in_codes(x: torch.Tensor) -> torch.Tensor:
    """What the codes of rows [rows, inputs] stand for: in each block a multiple of 1/127 of the greatest."""
    out = torch.empty_like(x)
    for start in range(0, x.shape[1], BLOCK):
        block = x[:, start : start + BLOCK].bfloat16().float()
        step = block.abs().amax(1, keepdim=True) / 127
        out[:, start : start + BLOCK] = (block / step).round() * step
    return out


def values_of(weight: torch.Tensor, quantize: Callable[..., tuple[torch.Tensor, ...]]) -> torch.Tensor:
    """What a weight's codes stand for, block by block and value by value."""
    out = torch.empty_like(weight)
    for row in range(len(weight)):
        for start in range(0, weight.shape[1], BLOCK):
            block = torch.zeros(BLOCK)
            part = weight[row, start : start + BLOCK]
            block[: len(part)] = part
            codes, scale, *offset = quantize(block)
            for place in range(len(part)):
                value = float(codes[place]) * float(scale)
                if offset:
                    value = (float(codes[place]) - 8) * float(scale) + float(offset[0])
                out[row, start + place] = value
    return out


def test_weights_that_were_on_a_grid_of_four_bits_stay_there() -> None:
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 16, (50, BLOCK), generator=random)
    codes[:, 0], codes[:, 1] = 0, 15
    # Steps far wider than what rounding does to an offset in 16 bits.
    scales = (0.05 + torch.rand(50, 1, generator=random) / 10).half()
    offsets = torch.randn(50, 1, generator=random).half()
    values = codes * scales.float() + offsets.float()
    found, step, middle = quantize_int4(values)
    again = (found.float() - 8) * step.float()[:, None] + middle.float()[:, None]
    # The grid's own offset counts from its middle, in as many bits.
    assert torch.equal(found.int(), codes.int())
    torch.testing.assert_close(again, values, atol=2e-3, rtol=1e-3)


def test_what_overflowed_in_a_page_never_reaches_the_next(make_model: Callable[..., Transformer]) -> None:
    model = make_model("llama")
    decoder = TorchDecoder(model, 4)
    decoder._values[:, :, PAGE:].fill_(float("inf"))
    (logits,) = read(decoder, [[2, 3, 4]], random.Random(0))
    torch.testing.assert_close(logits, model.logits([[2, 3, 4]])[0], atol=1e-5, rtol=1e-5)


def test_what_cannot_be_kept_in_few_bits_is_refused(
    make_model: Callable[..., Transformer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="int8 weights need a CPU"):
        make_decoder(make_model("llama"), "int8", 4)
    with pytest.raises(ConfigError, match="unknown kind of weights 'int3'"):
        make_decoder(make_model("llama"), "int3", 4)
    with pytest.raises(ConfigError, match="does not compute in bfloat16"):
        make_decoder(make_model("llama"), "bf16", 4)
    monkeypatch.setattr("ownlm.engine.native_decoder.library", lambda: None)
    narrow = make_model("llama", dtype=torch.bfloat16, **NATIVE["llama"])
    assert isinstance(make_decoder(narrow, "auto", 4), TorchDecoder)


def test_sizes_are_powers_of_two() -> None:
    sizes = [1, 64, 65, 128, 129, 8191, 8192]
    assert [room_for(size) for size in sizes] == [64, 64, 128, 128, 256, 8192, 8192]


def test_what_an_adapter_adds_is_not_passed_over(native: Callable[..., Transformer]):
    """Beside a model's projections the kernels see nothing, so a model that is being trained so is run by its own code."""
    model = native("llama")
    attach(model, LoraConfig(rank=4), 0)
    assert not runs_natively(model)
    merge(model)
    assert runs_natively(model)
