"""The engine as its users see it: the same answers as the reference, whoever else is being answered."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from ownlm.engine.engine import Engine
from ownlm.engine.requests import Completion, Event, SamplingOptions
from ownlm.errors import ConfigError, ModelError, UserError
from ownlm.model.checkpoint import save_model_folder
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

GREEDY = SamplingOptions(temperature=0, max_tokens=12, ignore_eos=True)


def prompts_for(tokenizer: Tokenizer, count: int = 6, seed: int = 0, longest: int = 90) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(tokenizer.vocab_size) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def drain(engine: Engine) -> list[Event]:
    events = []
    while engine.waiting or engine.running:
        events += engine.step()
    return events


def test_greedy_answers_are_those_of_transformers(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    prompts = prompts_for(tokenizer)
    for name in ("llama", "gpt2", "mistral", "qwen3"):
        model = make_model(name)
        save_model_folder(model, tmp_path / name)
        reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype=torch.float32)
        reference.generation_config.eos_token_id = None
        answers = Engine(model, tokenizer, max_sequences=4).generate(prompts, GREEDY)
        for prompt, answer in zip(prompts, answers, strict=True):
            ids = torch.tensor([prompt])
            expected = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
            assert list(answer.tokens) == expected[0, len(prompt) :].tolist(), name
            assert answer.text == tokenizer.decode(answer.tokens)
            assert answer.finish_reason == "length" and answer.prompt_tokens == len(prompt)


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
def test_an_answer_does_not_depend_on_who_else_is_answered(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer, name: str
) -> None:
    model, prompts = make_model(name), prompts_for(tokenizer, 6)
    drawn = SamplingOptions(temperature=0.8, top_p=0.9, seed=5, max_tokens=20, ignore_eos=True)
    for options in (SamplingOptions(**{**dict(GREEDY), "max_tokens": 30}), drawn):
        alone = [Engine(model, tokenizer).generate([prompt], options)[0] for prompt in prompts]
        for limits in ({}, {"max_sequences": 2}, {"prefill_tokens": 5}, {"prefill_tokens": 32, "cache_tokens": 300}):
            assert Engine(model, tokenizer, **limits).generate(prompts, options) == alone
        assert Engine(model, tokenizer, prefill_tokens=7).generate(prompts[::-1], options) == alone[::-1]


def test_requests_that_come_and_go_change_nothing(llama: Transformer, tokenizer: Tokenizer) -> None:
    prompts, rng = prompts_for(tokenizer, 12, seed=1), random.Random(2)
    options = [SamplingOptions(**{**dict(GREEDY), "max_tokens": rng.randint(1, 40)}) for _ in prompts]
    alone = [Engine(llama, tokenizer).generate([p], o)[0] for p, o in zip(prompts, options, strict=True)]
    engine = Engine(llama, tokenizer, max_sequences=3, prefill_tokens=20)
    got: dict[int, list[int]] = {}
    aborted = set()
    for number, (prompt, option) in enumerate(zip(prompts, options, strict=True)):
        assert engine.submit(prompt, option) == number
        for event in [event for _ in range(rng.randint(0, 6)) for event in engine.step()]:
            got.setdefault(event.request, []).append(event.token)
        if number % 4 == 3:
            aborted.add(number - 1)
            engine.abort(number - 1)
            got.pop(number - 1, None)
    for event in drain(engine):
        got.setdefault(event.request, []).append(event.token)
    for number, answer in enumerate(alone):
        if number not in aborted:
            assert got[number] == list(answer.tokens)
    assert not any(number in got for number in aborted if alone[number] != got.get(number))


def _rows_are_independent(model: Transformer) -> bool:
    """Whether this machine's bfloat16 products give a row the same bits beside others as alone."""
    x = torch.randn(32, model.config.width).bfloat16()
    for weight in (model.layers[0].attention.qkv.weight, model.head_weight):
        whole = torch.nn.functional.linear(x, weight)
        if any(not torch.equal(torch.nn.functional.linear(x[:rows], weight), whole[:rows]) for rows in (1, 2, 7)):
            return False
    return True


def test_bfloat16_logits_are_the_same_bits_in_company(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    model = make_model("llama", dtype=torch.bfloat16, width=64)
    if not _rows_are_independent(model):
        pytest.skip("this machine's bfloat16 products depend on the number of rows")
    prompts = prompts_for(tokenizer, 7)
    options = SamplingOptions(temperature=0, max_tokens=30, logprobs=3)
    alone = [Engine(model, tokenizer).generate([prompt], options)[0] for prompt in prompts]
    assert Engine(model, tokenizer).generate(prompts, options) == alone
    assert Engine(model, tokenizer, max_sequences=3).generate(prompts, options) == alone


def test_the_end_token_ends_the_answer_and_is_not_part_of_it(llama: Transformer, tokenizer: Tokenizer) -> None:
    prompts = prompts_for(tokenizer, 40)
    free = Engine(llama, tokenizer).generate(
        prompts, SamplingOptions(temperature=1, seed=0, max_tokens=60, ignore_eos=True)
    )
    ended = Engine(llama, tokenizer).generate(prompts, SamplingOptions(temperature=1, seed=0, max_tokens=60))
    assert tokenizer.stop_ids == {tokenizer.backend.token_to_id(end) for end in ("<|endoftext|>", "<|im_end|>")}
    ends = [[token in tokenizer.stop_ids for token in answer.tokens] for answer in free]
    assert 0 < sum(map(any, ends)) < 40
    for long, short, is_end in zip(free, ended, ends, strict=True):
        assert short.tokens == (long.tokens[: is_end.index(True)] if any(is_end) else long.tokens)
        assert short.finish_reason == ("stop" if any(is_end) else "length")


def test_a_stop_text_ends_the_answer_before_it(llama: Transformer, tokenizer: Tokenizer) -> None:
    prompt = prompts_for(tokenizer, 1)[0]
    whole = Engine(llama, tokenizer).generate([prompt], GREEDY)[0].text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 2]
    answer = Engine(llama, tokenizer).generate([prompt], SamplingOptions(**{**dict(GREEDY), "stop": stop}))[0]
    assert answer.text == whole[: whole.index(stop)]
    assert answer.finish_reason == "stop"


def test_the_context_ends_an_answer_with_length(llama: Transformer, tokenizer: Tokenizer) -> None:
    options = SamplingOptions(temperature=0, max_tokens=10**6, ignore_eos=True)
    prompt = [5] * 150
    answer = Engine(llama, tokenizer).generate([prompt], options)[0]
    assert len(answer.tokens) == llama.config.max_positions - len(prompt)
    assert answer.finish_reason == "length"
    small = Engine(llama, tokenizer, cache_tokens=70)
    assert len(small.generate([[5] * 60], options)[0].tokens) == 4


@pytest.mark.parametrize("size", [160, 161, 1000])
def test_a_prompt_that_does_not_fit_is_refused_before_anything_runs(
    llama: Transformer, tokenizer: Tokenizer, size: int
) -> None:
    engine = Engine(llama, tokenizer)
    for ask in (engine.submit, engine.stream, lambda prompt: engine.generate([[1, 2], prompt])):
        with pytest.raises(UserError, match="the model's context has room for 160") as caught:
            ask([5] * size)
        assert caught.value.exit_code == 2
    assert (engine.waiting, engine.running, engine.step()) == (0, 0, [])


def test_bad_prompts_and_limits_are_refused(llama: Transformer, tokenizer: Tokenizer) -> None:
    engine = Engine(llama, tokenizer)
    with pytest.raises(UserError, match="the prompt is empty"):
        engine.submit([])
    with pytest.raises(UserError, match="320 is not a token"):
        engine.generate([[1], [2, 320]])
    with pytest.raises(UserError, match="a list of prompts"):
        engine.generate("one text")
    for limit in ({"max_sequences": 0}, {"cache_tokens": 10}, {"prefill_tokens": 0}, {"shared_prefill_tokens": 0}):
        with pytest.raises(ConfigError) as caught:
            Engine(llama, tokenizer, **limit)
        assert [caught.value.where] == list(limit)


def test_a_model_that_writes_no_text_is_refused(make_model: Callable[..., Transformer], tokenizer: Tokenizer) -> None:
    with pytest.raises(ModelError, match="writes no text: it is a bert model with the head 'masked'"):
        Engine(make_model("bert"), tokenizer)
    with pytest.raises(ModelError, match="a llama model with the head 'classify'"):
        Engine(make_model("llama", head="classify", labels=["a", "b"]), tokenizer)


def test_a_tokenizer_of_another_model_is_refused(make_model: Callable[..., Transformer], tokenizer: Tokenizer) -> None:
    with pytest.raises(ModelError, match="the tokenizer has"):
        Engine(make_model("llama", vocab_size=100), tokenizer)


def test_rows_of_a_padded_vocabulary_are_never_drawn(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    model = make_model("llama", vocab_size=2 * tokenizer.vocab_size)
    options = SamplingOptions(temperature=100, max_tokens=30, seed=1, ignore_eos=True)
    for answer in Engine(model, tokenizer).generate(prompts_for(tokenizer), options):
        assert max(answer.tokens) < tokenizer.vocab_size


def test_an_empty_text_begins_with_the_document_mark(llama: Transformer, tokenizer: Tokenizer) -> None:
    engine = Engine(llama, tokenizer)
    assert engine.generate([""], GREEDY) == engine.generate([[tokenizer.eos_id]], GREEDY)


def test_abort_frees_everything_at_once(llama: Transformer, tokenizer: Tokenizer) -> None:
    engine = Engine(llama, tokenizer, max_sequences=2)
    ids = [engine.submit(prompt, GREEDY) for prompt in prompts_for(tokenizer, 4)]
    engine.step()
    assert engine.running == 2 and engine.waiting == 2 and engine.cached_tokens > 0
    for request in ids:
        engine.abort(request)
        engine.abort(request)
    assert (engine.running, engine.waiting, engine.cached_tokens) == (0, 0, 0)
    assert engine.step() == []
    engine.abort(12345)


def test_a_stream_left_early_aborts_its_request(llama: Transformer, tokenizer: Tokenizer) -> None:
    engine = Engine(llama, tokenizer)
    stream = engine.stream([1, 2, 3], GREEDY)
    assert next(stream).token is not None
    assert engine.running == 1
    stream.close()
    assert (engine.running, engine.cached_tokens) == (0, 0)
    engine.stream([1, 2, 3], GREEDY)
    assert engine.waiting == 0


def test_a_stream_aborted_from_its_own_loop_ends(llama: Transformer, tokenizer: Tokenizer) -> None:
    engine = Engine(llama, tokenizer)
    options = SamplingOptions(**{**dict(GREEDY), "n": 3})
    seen = []
    for event in engine.stream([1, 2, 3], options):
        seen.append(event)
        engine.abort(event.request)
    assert len(seen) == 1
    assert (engine.running, engine.waiting, engine.cached_tokens) == (0, 0, 0)


def test_streams_and_steps_side_by_side_each_get_their_own_events(llama: Transformer, tokenizer: Tokenizer) -> None:
    first, second, third = prompts_for(tokenizer, 3)
    alone = [list(a.tokens) for a in Engine(llama, tokenizer).generate([first, second, third], GREEDY)]
    engine = Engine(llama, tokenizer)
    stepped = engine.submit(third, GREEDY)
    one, two = engine.stream(first, GREEDY), engine.stream(second, GREEDY)
    pairs = list(zip(one, two, strict=True))
    assert [[pair[side].token for pair in pairs] for side in (0, 1)] == alone[:2]
    rest = engine.step() + drain(engine)
    assert {event.request for event in rest} == {stepped}
    assert [event.token for event in rest] == alone[2]
    assert [event.finish_reason for event in rest] == [None] * 11 + ["length"]


def test_n_answers_differ_and_each_is_repeatable(llama: Transformer, tokenizer: Tokenizer) -> None:
    options = SamplingOptions(n=3, seed=9, max_tokens=15)
    engine = Engine(llama, tokenizer, max_sequences=2)
    answers = engine.generate([[1, 2], [3]], options)
    assert [answer.index for answer in answers] == [0, 1, 2, 0, 1, 2]
    assert len({answer.tokens for answer in answers}) == 6
    assert engine.generate([[3]], options) == answers[3:]


def test_without_a_seed_one_is_drawn_and_told(llama: Transformer, tokenizer: Tokenizer) -> None:
    engine = Engine(llama, tokenizer)
    first, second = (engine.generate([[1, 2]], SamplingOptions(max_tokens=20))[0] for _ in range(2))
    assert first.tokens != second.tokens
    again = engine.generate([[1, 2]], SamplingOptions(max_tokens=20, seed=first.seed))
    assert again == [first]


def test_logprobs_are_those_of_the_whole_document(llama: Transformer, tokenizer: Tokenizer) -> None:
    prompt = prompts_for(tokenizer, 1)[0]
    options = SamplingOptions(temperature=1.5, seed=0, max_tokens=10, logprobs=4, ignore_eos=True)
    answer = Engine(llama, tokenizer).generate([prompt], options)[0]
    whole = llama.logits([[*prompt, *answer.tokens]])[0].log_softmax(-1)
    assert answer.logprobs is not None and len(answer.logprobs) == 10
    for place, (token, told) in enumerate(zip(answer.tokens, answer.logprobs, strict=True), len(prompt) - 1):
        assert told.token == token
        assert told.logprob == pytest.approx(float(whole[place, token]), abs=1e-4)
        assert [t for t, _ in told.top] == whole[place].topk(4).indices.tolist()


def test_streamed_text_is_the_answer(llama: Transformer, tokenizer: Tokenizer) -> None:
    options = SamplingOptions(temperature=1, seed=3, max_tokens=80)
    whole: Completion = Engine(llama, tokenizer).generate(["Where is my parcel? 🙂"], options)[0]
    events = list(Engine(llama, tokenizer).stream("Where is my parcel? 🙂", options))
    assert "".join(event.text for event in events) == whole.text == tokenizer.decode(whole.tokens)
    assert [event.finish_reason for event in events[:-1]] == [None] * (len(events) - 1)
    assert events[-1].finish_reason == whole.finish_reason


def test_chat_continues_the_rendered_conversation(llama: Transformer, tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "Where is my parcel?"}]
    engine = Engine(llama, tokenizer)
    rendered = tokenizer.render(messages, add_generation_prompt=True)
    assert engine.chat(messages, GREEDY) == engine.generate([rendered], GREEDY)[0]


def test_an_answer_without_finite_logits_fails_and_the_others_go_on(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    model = make_model("llama", tied_head=False)
    good = Engine(model, tokenizer).generate([[1, 2, 3]], GREEDY)[0]
    with torch.no_grad():
        model.embedding.token.weight[7] = float("nan")
    assert 7 not in good.tokens
    engine = Engine(model, tokenizer)
    engine.submit([1, 2, 3], GREEDY)
    engine.submit([1, 7], GREEDY)
    events = drain(engine)
    (failed,) = [event for event in events if event.request == 1]
    assert failed.finish_reason == "error" and "no finite logits" in str(failed.error)
    assert [event.token for event in events if event.request == 0] == list(good.tokens)
    assert engine.cached_tokens == 0
    with pytest.raises(ModelError, match="no finite logits"):
        engine.generate([[1, 2, 3], [7]], GREEDY)
    assert (engine.running, engine.waiting, engine.cached_tokens) == (0, 0, 0)


def test_weights_wider_than_the_model_computes_are_narrowed_once(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    prompts, options = prompts_for(tokenizer), SamplingOptions(temperature=0, max_tokens=12, logprobs=2)
    narrow, wide = make_model("llama", dtype=torch.bfloat16), make_model("llama")
    wide.compute_dtype = torch.bfloat16
    assert Engine(wide, tokenizer).generate(prompts, options) == Engine(narrow, tokenizer).generate(prompts, options)
    assert {weight.dtype for weight in wide.parameters()} == {torch.float32}


def test_a_model_in_training_answers_without_dropout_and_stays_in_training(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    model = make_model("llama")
    expected = Engine(model, tokenizer).generate([[1, 2, 3]], GREEDY)
    model.set_dropout(0.5)
    model.train()
    assert Engine(model, tokenizer).generate([[1, 2, 3]], GREEDY) == expected
    assert model.training and all(module.training for module in model.modules())
