"""Passes of fixed shapes, recorded and replayed, give what the passes that are made anew give.

A recorder stands in for CUDA's: it keeps the operations of a pass and the tensors they were done on, and a replay does
these again. So whatever a pass would read from Python, or ask the device for while it runs, is found here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ownlm.engine import sampler, torch_decoder
from ownlm.engine.adapters import read_adapter
from ownlm.engine.engine import Engine
from ownlm.engine.paged_attention import by_framework
from ownlm.engine.pages import PAGE
from ownlm.engine.requests import SamplingOptions
from ownlm.engine.static_step import NOBODYS_SLOT, ROWS, StaticSteps
from ownlm.engine.torch_decoder import TorchDecoder
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

from .conftest import documents_for
from .test_adapters import LORAS, merged, write_adapter
from .test_decoders import LENGTHS, NATIVE, read

GREEDY = SamplingOptions(temperature=0, max_tokens=20, ignore_eos=True, logprobs=2)
DRAWN = SamplingOptions(temperature=0.8, top_p=0.9, seed=5, max_tokens=20, ignore_eos=True, logprobs=2)


class Tape:
    """Records the operations of a pass with the tensors that they were done on."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        run()
        operations = make_fx(run)()
        out = run().clone()
        self.recorded += 1

        def replay() -> Tensor:
            self.replayed += 1
            return out.copy_(operations())

        return replay


@pytest.fixture(scope="module")
def llama(make_model: Callable[..., Transformer]) -> Transformer:
    """One whose logits are alike in every order of sums."""
    return make_model("llama", initializer_range=0.15)


@pytest.fixture
def tape() -> Tape:
    return Tape()


@pytest.fixture
def fixed(tape: Tape) -> Callable[..., TorchDecoder]:
    """Decoders whose passes have fixed shapes, on any device, and are recorded."""
    return partial(TorchDecoder, steps=partial(StaticSteps, attention=by_framework, recorder=tape))


@pytest.mark.parametrize("name", NATIVE)
def test_logits_are_those_of_the_whole(
    make_model: Callable[..., Transformer], fixed: Callable[..., TorchDecoder], tape: Tape, name: str
) -> None:
    model = make_model(name, **{"initializer_range": 0.15, **NATIVE[name]})
    documents = documents_for(model, name, LENGTHS)
    got = read(fixed(model, 40), documents, random.Random(name))
    assert 1 < tape.recorded < tape.replayed
    plain = read(TorchDecoder(model, 40), documents, random.Random(name))
    for ours, others, whole in zip(got, plain, model.logits(documents), strict=True):
        torch.testing.assert_close(ours, whole, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours, others, atol=1e-5, rtol=1e-5)


def step(decoder: TorchDecoder, tokens: list[int], places: list[int], pages: list[list[int]], **more: Any) -> Tensor:
    """The logits of a new token of each sequence."""
    count = len(tokens)
    return decoder(tokens, places, range(count + 1), pages, range(count), **more)


def test_each_number_of_rows_is_recorded_once(
    llama: Transformer, fixed: Callable[..., TorchDecoder], tape: Tape
) -> None:
    decoder = fixed(llama, 20)
    for place in range(3):
        for count in (1, 2, 3, 4, 5, 9, 8):
            logits = step(decoder, list(range(2, 2 + count)), [place] * count, [[1 + row] for row in range(count)])
            assert logits.shape == (count, llama.config.vocab_size)
    # 1, 2, 4, 8 and 12 rows.
    assert (tape.recorded, tape.replayed) == (5, 21)


def test_rows_that_are_nobodys_write_where_nobody_reads(llama: Transformer, fixed: Callable[..., TorchDecoder]) -> None:
    decoder = fixed(llama, 6)
    step(decoder, [5, 6, 7], [0, 33, 2], [[1], [2, 3], [4]])
    written = decoder._keys.abs().sum((0, 1, 3)).nonzero().flatten().tolist()
    assert written == [NOBODYS_SLOT, PAGE, 3 * PAGE + 1, 4 * PAGE + 2]
    # Later fewer rows, and shorter: what is left of others in the feed means nothing.
    keys = decoder._keys.clone()
    step(decoder, [8], [1], [[1]])
    step(decoder, [8, 9, 8], [1, 2, 0], [[1], [4], [6]])
    changed = (decoder._keys != keys).sum((0, 1, 3)).nonzero().flatten().tolist()
    assert changed == [PAGE + 1, 4 * PAGE + 2, 6 * PAGE]


def test_what_overflowed_in_a_page_never_reaches_the_next(
    llama: Transformer, fixed: Callable[..., TorchDecoder]
) -> None:
    decoder = fixed(llama, 4)
    for x in (decoder._keys, decoder._values):
        x[:, :, PAGE:].fill_(float("nan"))
        x[:, :, NOBODYS_SLOT:PAGE].fill_(float("inf"))
    got = [step(decoder, [token], [place], [[3, 1]])[0] for place, token in enumerate(range(2, 42))]
    torch.testing.assert_close(torch.stack(got), llama.logits([list(range(2, 42))])[0], atol=1e-5, rtol=1e-5)


def test_more_sequences_than_a_pass_has_rows_take_several(
    llama: Transformer, fixed: Callable[..., TorchDecoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, places, pages = list(range(2, 11)), [0] * 9, [[1 + row] for row in range(9)]
    whole = step(fixed(llama, 10), tokens, places, pages)
    monkeypatch.setattr("ownlm.engine.static_step.ROWS", ROWS[:3])
    torch.testing.assert_close(step(fixed(llama, 10), tokens, places, pages), whole, atol=1e-5, rtol=1e-5)


def test_prompts_and_answers_in_one_pass_keep_their_order(
    llama: Transformer, fixed: Callable[..., TorchDecoder]
) -> None:
    decoder, documents = fixed(llama, 9), [[3, 4], [5, 6, 7], [8, 9]]
    starts = [0, 1, 4, 5]
    step(decoder, [3, 8], [0, 0], [[1], [3]])
    logits = decoder([4, 5, 6, 7, 9], [1, 0, 1, 2, 1], starts, [[1], [2], [3]], [0, 3, 4])
    wanted = torch.stack([document[-1] for document in llama.logits(documents)])
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
def test_prompts_that_begin_share_a_pass(
    make_model: Callable[..., Transformer], fixed: Callable[..., TorchDecoder], name: str
) -> None:
    model = make_model(name, **{"initializer_range": 0.15, **NATIVE[name]})
    documents = documents_for(model, name, (40, 1, 7, 33))
    decoder = fixed(model, 9)
    starts = [0, 40, 41, 48, 81]
    assert decoder._passes(starts, [*range(40), 0, *range(7), *range(33)]) == [[1], [0, 2, 3]]
    for ours, whole in zip(read(decoder, documents, None), model.logits(documents), strict=True):
        torch.testing.assert_close(ours, whole, atol=1e-5, rtol=1e-5)
    # What it left in the pages serves the next pass.
    longer = [[*document, 5] for document in documents]
    pages = [[1, 2], [3], [4], [5, 6]]
    logits = step(decoder, [5] * 4, [len(document) for document in documents], pages)
    wanted = torch.stack([whole[-1] for whole in model.logits(longer)])
    torch.testing.assert_close(logits, wanted, atol=1e-5, rtol=1e-5)


def test_adapters_are_computed_and_not_recorded(
    make_model: Callable[..., Transformer], fixed: Callable[..., TorchDecoder], tape: Tape, tmp_path: Any
) -> None:
    model = make_model("llama", initializer_range=0.15)
    folder = write_adapter(model, LORAS[1], tmp_path, 0)
    decoder = fixed(model, 9)
    ready = decoder.prepared(read_adapter(model.config, folder))
    documents = [[3, 4, 5, 6]] * 2
    for adapters in ((ready, None), (), (None, ready), ()):
        recorded = tape.recorded + tape.replayed
        got = [
            step(decoder, [document[place] for document in documents], [place] * 2, [[1], [2]], adapters=adapters)
            for place in range(4)
        ]
        assert (tape.recorded + tape.replayed == recorded) == bool(adapters)
        for row, adapter in enumerate(adapters or (None, None)):
            whole = model if adapter is None else merged(model, folder)
            ours = torch.stack([logits[row] for logits in got])
            torch.testing.assert_close(ours, whole.logits(documents)[row], atol=1e-5, rtol=1e-5)


@pytest.fixture
def make_engine(tokenizer: Tokenizer, tape: Tape, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    """Engines whose decoders record their passes."""

    def make(model: Transformer, **options: Any) -> Engine:
        with monkeypatch.context() as patch:
            steps = partial(StaticSteps, attention=by_framework, recorder=tape)
            patch.setattr(torch_decoder, "static_steps", steps)
            return Engine(model, tokenizer, **options)

    # As logits on a GPU are looked at.
    monkeypatch.setattr("ownlm.engine.engine.looked_over", sampler._in_one_copy)
    return make


@pytest.mark.parametrize(
    ("name", "options"), [("llama", GREEDY), ("llama", DRAWN), ("gpt2", GREEDY), ("mistral", GREEDY), ("gemma2", DRAWN)]
)
def test_answers_are_the_same(
    make_model: Callable[..., Transformer],
    make_engine: Callable[..., Engine],
    tokenizer: Tokenizer,
    tape: Tape,
    name: str,
    options: SamplingOptions,
) -> None:
    model = make_model(name)
    rng = random.Random(name)
    shared = [rng.randrange(3, 300) for _ in range(70)]
    # Three that are a page long each when they begin, and two soon after, the last one first.
    prompts = [[rng.randrange(3, 300) for _ in range(length)] for length in (26, 26, 31)]
    prompts += [
        [*shared[: rng.choice([0, 40, 70])], *(rng.randrange(3, 300) for _ in range(rng.randint(1, 40)))]
        for _ in range(3)
    ]
    plain = Engine(model, tokenizer).generate(prompts, options)
    preempted = 0
    for limits in (
        {},
        {"max_sequences": 3, "prefill_tokens": 7},
        {"cache_tokens": 160, "max_sequences": 9, "prefix_cache": False},
        *([{"draft_model": model, "drafts": 3, "max_sequences": 3}] if name == "llama" else []),
    ):
        replayed = tape.replayed
        engine = make_engine(model, **limits)
        answers = engine.generate(prompts, options)
        assert [(a.text, a.tokens, a.finish_reason) for a in answers] == [
            (a.text, a.tokens, a.finish_reason) for a in plain
        ], limits
        assert tape.replayed > replayed
        preempted += engine.preemptions
    assert preempted


class Broken:
    """A device on which nothing can be recorded."""

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")


def test_without_recordings_the_same_pass_is_made_anew(llama: Transformer, caplog: pytest.LogCaptureFixture) -> None:
    decoder = TorchDecoder(llama, 4, steps=partial(StaticSteps, attention=by_framework, recorder=Broken()))
    got = [step(decoder, [token], [place], [[1]])[0] for place, token in enumerate((3, 4, 5))]
    torch.testing.assert_close(torch.stack(got), llama.logits([[3, 4, 5]])[0], atol=1e-5, rtol=1e-5)
    assert [record.message for record in caplog.records] == [
        "decoding passes cannot be recorded on this device, so they are slower"
    ]
    assert decoder._steps is not None


def test_where_the_kernel_fails_the_other_pass_is_taken(llama: Transformer, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any, **__: Any) -> Tensor:
        raise ValueError("no such instruction")

    decoder = TorchDecoder(llama, 4, steps=partial(StaticSteps, attention=broken, recorder=None))
    got = [step(decoder, [token], [place], [[1]])[0] for place, token in enumerate((3, 4, 5))]
    torch.testing.assert_close(torch.stack(got), llama.logits([[3, 4, 5]])[0], atol=1e-5, rtol=1e-5)
    assert len(caplog.records) == 1 and decoder._steps is None


def test_a_device_that_is_full_is_no_reason_to_go_another_way(llama: Transformer) -> None:
    def full(*_: Any, **__: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    decoder = TorchDecoder(llama, 4, steps=partial(StaticSteps, attention=full, recorder=Tape()))
    with pytest.raises(torch.OutOfMemoryError):
        step(decoder, [3], [0], [[1]])
    assert decoder._steps is not None


def test_a_cpu_runs_the_other_passes(llama: Transformer) -> None:
    assert TorchDecoder(llama, 4)._steps is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", NATIVE)
def test_a_gpu_replays_what_it_recorded(make_model: Callable[..., Transformer], name: str) -> None:
    model = make_model(name, **{"initializer_range": 0.15, **NATIVE[name]}).to("cuda")
    documents = documents_for(model, name, LENGTHS)
    decoder = TorchDecoder(model, 40)
    got = read(decoder, documents, random.Random(name))
    assert decoder._steps is not None and decoder._steps._recorded
    for ours, whole in zip(got, model.logits(documents), strict=True):
        torch.testing.assert_close(ours, whole, atol=1e-4, rtol=1e-4)
