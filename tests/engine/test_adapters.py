"""Adapters chosen by each answer: what they give, beside whom, and whose pages they never see."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ownlm.engine.adapters import Adapter, read_adapter
from ownlm.engine.decoder import Decoder
from ownlm.engine.engine import Engine
from ownlm.engine.kernels import library
from ownlm.engine.native_decoder import NativeDecoder
from ownlm.engine.packing import KINDS, Kind
from ownlm.engine.pages import pages_for
from ownlm.engine.requests import Event, SamplingOptions
from ownlm.engine.torch_decoder import TorchDecoder
from ownlm.errors import ModelError, UserError
from ownlm.model.adapters import LoraConfig, adapter_layers, attach, load_adapter, merge, peft_state
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

from .conftest import documents_for

SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"width": 80, "heads": 6, "kv_heads": 2, "head_width": 16, "feedforward_width": 100},
    "gpt2": {"heads": 3, "width": 48},
    "qwen2": {"heads": 4, "kv_heads": 4, "head_width": 16, "qkv_bias": True},
    "gemma2": {"heads": 4, "kv_heads": 2, "head_width": 16, "sliding_window": 7, "logit_softcap": 2.0},
    "gpt_neox": {"heads": 3, "width": 48, "rotary_width": 4},
}
# Everything; some parts of joined projections, by another rule; one projection, whose rank is no multiple of anything.
LORAS = (
    LoraConfig(rank=8),
    LoraConfig(rank=4, alpha=6, rslora=True, targets=["qkv", "down"]),
    LoraConfig(rank=3, alpha=9, targets=["output", "up"]),
)
SOME = LoraConfig(rank=5, alpha=10, targets=["k_proj", "v_proj", "gate_proj"])
GREEDY = SamplingOptions(temperature=0, max_tokens=16, ignore_eos=True, logprobs=3)
DRAWN = SamplingOptions(temperature=0.9, top_p=0.95, seed=3, max_tokens=16, ignore_eos=True, logprobs=3)
LENGTHS = (3, 40, 70, 33, 90, 1, 64, 17)


def write_adapter(model: Transformer, lora: LoraConfig, folder: Path, seed: int) -> Path:
    """An adapter that changes what the model says, as PEFT would save it."""
    adapted = copy.deepcopy(model).float()
    attach(adapted, lora, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in adapter_layers(adapted).values():
            layer.b.copy_(torch.randn(layer.b.shape, generator=generator) * 0.1)
    tensors, config = peft_state(adapted, lora, "base")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def merged(model: Transformer, folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model with the adapter in its weights, which are stored and compute in this dtype."""
    whole = copy.deepcopy(model).float()
    load_adapter(whole, folder)
    merge(whole)
    whole = whole.to(dtype).eval()
    whole.compute_dtype = dtype
    return whole


def read(
    decoder: Decoder, documents: Sequence[list[int]], adapters: Sequence[Any], cuts: random.Random | None = None
) -> list[torch.Tensor]:
    """All logits of each document, read in passes that are cut and mixed at random, or all in one."""
    pages, first = [], 1
    for document in documents:
        pages.append(list(range(first, first + pages_for(len(document)))))
        first += pages_for(len(document))
    got: list[list[torch.Tensor]] = [[] for _ in documents]
    done = [0] * len(documents)
    while unread := [i for i, document in enumerate(documents) if done[i] < len(document)]:
        chosen = unread if cuts is None else cuts.sample(unread, cuts.randint(1, len(unread)))
        ids, places, starts = [], [], [0]
        for i in chosen:
            end = min(done[i] + (1000 if cuts is None else cuts.choice([1, 1, 1, 2, 9, 33])), len(documents[i]))
            ids += documents[i][done[i] : end]
            places += range(done[i], end)
            starts.append(len(ids))
            done[i] = end
        own = [adapters[i] for i in chosen]
        logits = decoder(ids, places, starts, [pages[i] for i in chosen], range(len(ids)), own if any(own) else ())
        for i, a, b in zip(chosen, starts, starts[1:], strict=False):
            got[i].append(logits[a:b])
    return [torch.cat(parts) for parts in got]


def native_model(make_model: Callable[..., Transformer], name: str) -> Transformer:
    if library.library() is None:
        pytest.skip("this processor has no AVX-512 BF16, or no compiler is installed")
    return make_model(name, dtype=torch.bfloat16, initializer_range=0.15, **SHAPES[name])


def loras_for(name: str) -> tuple[LoraConfig, ...]:
    return (*LORAS, SOME) if name in ("llama", "qwen2", "gemma2") else LORAS


def answers(engine: Engine, asked: Sequence[tuple[list[int], str | None]], options: SamplingOptions) -> list[Any]:
    """What each of some requests, asked at once, is answered: tokens and log-probabilities."""
    requests = [engine.submit(prompt, options, adapter) for prompt, adapter in asked]
    events: dict[int, list[Event]] = {request: [] for request in requests}
    while engine.running or engine.waiting:
        for event in engine.step():
            assert event.error is None
            events[event.request].append(event)
    return [[(event.token, event.logprob) for event in events[request]] for request in requests]


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_those_of_the_merged_model(
    make_model: Callable[..., Transformer], name: str, tmp_path: Path
) -> None:
    model = make_model(name, initializer_range=0.15, **SHAPES[name])
    decoder = TorchDecoder(model, 40)
    documents = documents_for(model, 7, LENGTHS)
    folders = [write_adapter(model, lora, tmp_path / str(i), i) for i, lora in enumerate(loras_for(name))]
    ready = [None, *(decoder.prepared(read_adapter(model.config, folder)) for folder in folders)]
    models = [model, *(merged(model, folder) for folder in folders)]
    chosen = [i % len(ready) for i in range(len(documents))]
    for cuts in (None, random.Random(1)):
        got = read(decoder, documents, [ready[i] for i in chosen], cuts)
        for i, document, ours in zip(chosen, documents, got, strict=True):
            torch.testing.assert_close(ours, models[i].logits([document])[0], atol=1e-4, rtol=1e-5)
    plain = models[0].logits(documents[1:2])[0]
    assert all((other.logits(documents[1:2])[0] - plain).abs().max() > 0.05 for other in models[1:])


@pytest.mark.parametrize("name", SHAPES)
def test_kernels_are_as_near_to_float32_as_with_the_adapter_merged(
    make_model: Callable[..., Transformer], name: str, tmp_path: Path
) -> None:
    model = native_model(make_model, name)
    documents = documents_for(model, 7, LENGTHS)
    decoder = NativeDecoder(model, "bf16", 40)
    for i, lora in enumerate(loras_for(name)):
        folder = write_adapter(model, lora, tmp_path / str(i), i)
        ready = decoder.prepared(read_adapter(model.config, folder))
        exact = merged(model, folder).logits(documents)
        ours = read(decoder, documents, [ready] * len(documents))
        theirs = read(NativeDecoder(merged(model, folder, torch.bfloat16), "bf16", 40), documents, [None] * 99)

        def error(logits: list[torch.Tensor], exact: list[torch.Tensor] = exact) -> float:
            return float(torch.cat([a - b for a, b in zip(logits, exact, strict=True)]).square().mean().sqrt())

        assert error(ours) <= 1.2 * error(theirs), lora


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2"])
def test_bits_are_the_same_in_any_company(
    make_model: Callable[..., Transformer], name: str, kind: Kind, tmp_path: Path
) -> None:
    model = native_model(make_model, name)
    documents = documents_for(model, 7, LENGTHS)
    pages = sum(pages_for(len(document)) for document in documents)
    read_ones: list[Adapter | None] = [None]
    for i, lora in enumerate(loras_for(name)):
        read_ones.append(read_adapter(model.config, write_adapter(model, lora, tmp_path / str(i), i)))
    chosen = [read_ones[i % len(read_ones)] for i in range(len(documents))]

    def prepared(decoder: NativeDecoder, ones: Sequence[Adapter | None]) -> list[Any]:
        made = {id(one): decoder.prepared(one) for one in ones if one is not None}
        return [None if one is None else made[id(one)] for one in ones]

    alone = []
    for document, one in zip(documents, chosen, strict=True):
        decoder = NativeDecoder(model, kind, pages)
        # Without an adapter: by a decoder that has never seen one.
        alone += read(decoder, [document], prepared(decoder, [one]))
    for seed in range(3):
        torch.set_num_threads(1 + seed % 2)
        decoder = NativeDecoder(model, kind, pages)
        mixed = read(decoder, documents, prepared(decoder, chosen), random.Random(seed))
        assert all(map(torch.equal, mixed, alone))
    torch.set_num_threads(1)
    decoder = NativeDecoder(model, kind, pages)
    assert all(map(torch.equal, read(decoder, documents, prepared(decoder, chosen)), alone))


def test_the_frameworks_rows_without_an_adapter_keep_their_bits(
    make_model: Callable[..., Transformer], tmp_path: Path
) -> None:
    model = make_model("llama", initializer_range=0.15, **SHAPES["llama"])
    documents = documents_for(model, 7, LENGTHS)
    decoder, plain = TorchDecoder(model, 40), TorchDecoder(model, 40)
    ready = decoder.prepared(read_adapter(model.config, write_adapter(model, LORAS[0], tmp_path, 0)))
    own = [None if i % 2 else ready for i in range(len(documents))]
    mixed = read(decoder, documents, own, random.Random(0))
    others = read(plain, documents, [None] * len(documents), random.Random(0))
    assert all(torch.equal(a, b) for a, b, one in zip(mixed, others, own, strict=True) if one is None)
    assert not any(torch.equal(a, b) for a, b, one in zip(mixed, others, own, strict=True) if one is not None)


@pytest.mark.parametrize("options", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("native", [False, True], ids=["float32", "kernels"])
def test_answers_of_many_adapters_at_once(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer, options: SamplingOptions, native: bool, tmp_path: Path
) -> None:
    model = native_model(make_model, "llama") if native else make_model("llama", initializer_range=0.15)
    folders = {f"a{i}": write_adapter(model, lora, tmp_path / str(i), i) for i, lora in enumerate((*LORAS, SOME))}
    names = [None, *folders]
    prompts = documents_for(model, 7, (40, 70, 5, 100))
    asked = [(prompt, name) for prompt in prompts for name in names]
    engine = Engine(model, tokenizer, adapters=folders)
    mixed = answers(engine, asked, options)
    for limits in ({"max_sequences": 3}, {"cache_tokens": 224, "max_sequences": 9}, {"prefill_tokens": 9}):
        other = Engine(model, tokenizer, adapters=folders, **limits)
        compare(answers(other, asked, options), mixed, exact=native)
    # Once more, when the cache knows them all.
    compare(answers(engine, asked[::-1], options)[::-1], mixed, exact=native)
    assert engine.reused_tokens
    for name in names:
        single = model if name is None or native else merged(model, folders[name])
        alone = Engine(single, tokenizer, adapters=folders if native and name else None)
        own = [(prompt, name if native else None) for prompt in prompts]
        want = answers(alone, own, options)
        compare([got for (_, one), got in zip(asked, mixed, strict=True) if one == name], want, exact=native)


def compare(got: list[Any], want: list[Any], exact: bool) -> None:
    if exact:
        assert got == want
        return
    for ours, theirs in zip(got, want, strict=True):
        assert [token for token, _ in ours] == [token for token, _ in theirs]
        for (_, a), (_, b) in zip(ours, theirs, strict=True):
            assert a is not None and b is not None and a.logprob == pytest.approx(b.logprob, abs=1e-4)


def test_no_page_of_one_adapter_is_served_to_another(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = make_model("llama", initializer_range=0.15)
    one, two, three = (write_adapter(model, LORAS[0], tmp_path / str(i), i) for i in range(3))
    (prompt,) = documents_for(model, 7, (100,))
    engine = Engine(model, tokenizer, adapters={"one": one, "two": two})
    for name, folder in ((None, None), ("one", one), ("two", two)):
        expected = answers(
            Engine(model if folder is None else merged(model, folder), tokenizer), [(prompt, None)], GREEDY
        )
        before = engine.reused_tokens
        compare(answers(engine, [(prompt, name)], GREEDY), expected, exact=False)
        assert engine.reused_tokens == before, "others have read this, and it is not theirs to give"
        compare(answers(engine, [(prompt, name)], GREEDY), expected, exact=False)
        assert engine.reused_tokens == before + 96
    # Another content under the name, in the very folder: nothing of the former's is found, and it is found again
    # where the former comes back.
    kept = tmp_path / "kept"
    shutil.copytree(one, kept)
    shutil.copytree(three, one, dirs_exist_ok=True)
    former = engine.adapters["one"]
    engine.load_adapter("one", one)
    assert engine.adapters["one"] != former
    before = engine.reused_tokens
    expected = answers(Engine(merged(model, three), tokenizer), [(prompt, None)], GREEDY)
    compare(answers(engine, [(prompt, "one")], GREEDY), expected, exact=False)
    assert engine.reused_tokens == before
    engine.load_adapter("renamed", kept)
    assert engine.adapters["renamed"] == former
    expected = answers(Engine(merged(model, kept), tokenizer), [(prompt, None)], GREEDY)
    compare(answers(engine, [(prompt, "renamed")], GREEDY), expected, exact=False)
    assert engine.reused_tokens == before + 96


def test_an_answer_under_way_keeps_the_adapter_it_began_with(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = make_model("llama", initializer_range=0.15)
    one, two = (write_adapter(model, LORAS[0], tmp_path / str(i), i) for i in range(2))
    (prompt,) = documents_for(model, 7, (50,))
    engine = Engine(model, tokenizer, adapters={"a": one})
    stream = engine.stream(prompt, GREEDY, "a")
    got = [next(stream)]
    engine.load_adapter("a", two)
    got += list(stream)
    expected = answers(Engine(merged(model, one), tokenizer), [(prompt, None)], GREEDY)
    compare([[(event.token, event.logprob) for event in got]], expected, exact=False)


def test_a_scale_is_part_of_the_content(make_model: Callable[..., Transformer], tmp_path: Path) -> None:
    model = make_model("llama")
    one, two = (write_adapter(model, LORAS[0], tmp_path / name, 0) for name in ("one", "two"))
    assert read_adapter(model.config, one).digest == read_adapter(model.config, two).digest
    config = json.loads((two / "adapter_config.json").read_text())
    (two / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] + 1}))
    assert read_adapter(model.config, one).digest != read_adapter(model.config, two).digest


def test_loading_leaves_the_model_as_it_was(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = make_model("llama", seed=5)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    trained = [weight.requires_grad for weight in model.parameters()]
    Engine(model, tokenizer, adapters={"a": write_adapter(model, LORAS[0], tmp_path, 0)}).generate([[1]], GREEDY, "a")
    assert [weight.requires_grad for weight in model.parameters()] == trained
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_what_cannot_run_beside_others_is_refused(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = make_model("llama", tied_head=False)
    engine = Engine(model, tokenizer)
    with pytest.raises(UserError, match=r"there is no adapter 'support'.*the engine has none"):
        engine.submit([1, 2], adapter="support")
    engine.load_adapter("support", write_adapter(model, LORAS[0], tmp_path / "fine", 0))
    with pytest.raises(UserError, match=r"there is no adapter 'suport'.*did you mean 'support'"):
        engine.submit([1, 2], adapter="suport")
    with pytest.raises(UserError, match="there is no adapter 'x'"):
        engine.stream([1, 2], adapter="x")
    with pytest.raises(UserError, match="there is no adapter 'x'"):
        engine.generate([[1, 2]], adapter="x")
    assert (engine.running, engine.waiting) == (0, 0)
    with pytest.raises(ModelError, match=r"a DoRA adapter changes the base's rows.*--adapter"):
        engine.load_adapter("dora", write_adapter(model, LoraConfig(kind="dora"), tmp_path / "dora", 0))
    whole = write_adapter(model, LORAS[0], tmp_path / "whole", 0)
    tensors = load_file(whole / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.weight"] = torch.zeros(model.config.vocab_size, model.config.width)
    save_file(tensors, whole / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"replaces 'lm_head\.weight' of the base"):
        engine.load_adapter("whole", whole)
    head = write_adapter(model, LORAS[0], tmp_path / "head", 0)
    tensors = load_file(head / "adapter_model.safetensors")
    tensors["base_model.model.lm_head.lora_A.weight"] = torch.zeros(8, model.config.width)
    tensors["base_model.model.lm_head.lora_B.weight"] = torch.zeros(model.config.vocab_size, 8)
    save_file(tensors, head / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="adds to 'head', and only projections of the blocks"):
        engine.load_adapter("head", head)
    with pytest.raises(ModelError, match="there is no such folder"):
        engine.load_adapter("missing", tmp_path / "missing")
    other = make_model("llama", width=64)
    with pytest.raises(ModelError, match="the adapter is for another base"):
        engine.load_adapter("other", write_adapter(other, LORAS[0], tmp_path / "other", 0))
    assert list(engine.adapters) == ["support"]
