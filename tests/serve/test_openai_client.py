"""OpenAI's own client, sync and async, streaming and not, against a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

from ownlm.api import load_model, load_tokenizer
from ownlm.engine.engine import Engine
from ownlm.engine.requests import SamplingOptions

from .conftest import NAME, Running

MESSAGES: Any = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is the "}, {"type": "text", "text": "weather?"}]},
]
PLAIN = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the weather?"}]
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def engine(tiny: Path) -> Engine:
    """The same model in this process: what the server must answer."""
    return Engine(load_model(tiny, dtype="float32", device="cpu"), load_tokenizer(tiny))


@pytest.fixture(scope="module")
def expected(engine: Engine) -> str:
    return engine.chat(PLAIN, SamplingOptions(temperature=0, max_tokens=12, ignore_eos=True)).text


def test_a_chat_is_the_engines_answer(server: Running, engine: Engine, expected: str):
    answer = server.client().chat.completions.create(model=NAME, messages=MESSAGES, **GREEDY)
    assert answer.choices[0].message.content == expected
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.object == "chat.completion" and answer.model == NAME and answer.id.startswith("chatcmpl-")
    assert answer.usage is not None
    read = len(engine.tokenizer.render(PLAIN, add_generation_prompt=True))
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (read, 12)
    assert answer.usage.total_tokens == read + 12


@pytest.mark.parametrize("streaming", [False, True])
def test_usage_says_what_was_found_in_the_cache(server: Running, streaming: bool):
    client = server.client()
    same = f"{streaming} " * 60
    prompt = len(client.post("/chat/render", body=_chat(same), cast_to=dict)["ids"])  # type: ignore[type-var]

    def cached(**options: Any) -> tuple[int, int]:
        wants = {"stream": True, "stream_options": {"include_usage": True}} if streaming else {}
        answer = client.chat.completions.create(**_chat(same), **wants, **GREEDY, **options)
        usage = [*answer][-1].usage if streaming else answer.usage
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        return usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens

    # The first has the beginning that every chat has, or nothing; the others all pages that are full but the last token.
    first, again = cached(), cached()
    assert first[0] == again[0] == prompt > 100
    assert first[1] < 32 and again[1] == (prompt - 1) // 32 * 32
    # A prompt counts once, however many answers there are.
    assert cached(n=3) == again


def _chat(text: str) -> dict[str, Any]:
    return {"model": NAME, "messages": [{"role": "user", "content": text}]}


def test_completions_say_what_was_found_in_the_cache(server: Running):
    def cached(prompts: list[list[int]]) -> int:
        answer = server.client().completions.create(model=NAME, prompt=prompts, **GREEDY)
        assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
        assert answer.usage.prompt_tokens == sum(map(len, prompts))
        return answer.usage.prompt_tokens_details.cached_tokens or 0

    first, second, other = [[60 + number] * 70 for number in range(3)]
    assert cached([first, second]) == 0
    assert cached([first, second, other]) == 128


def test_a_streamed_chat_has_one_role_one_id_and_an_empty_end(server: Running, expected: str):
    stream = server.client().chat.completions.create(
        model=NAME, messages=MESSAGES, stream=True, n=2, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == len({chunk.created for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    *body, last = chunks
    assert last.choices == [] and last.usage is not None
    assert last.usage.completion_tokens == 24
    assert all(chunk.usage is None for chunk in body)
    for index in (0, 1):
        mine = [chunk.choices[0] for chunk in body if chunk.choices[0].index == index]
        assert [choice.delta.role for choice in mine] == ["assistant"] + [None] * (len(mine) - 1)
        assert "".join(choice.delta.content or "" for choice in mine) == expected
        assert [choice.finish_reason for choice in mine] == [None] * (len(mine) - 1) + ["length"]
        assert mine[-1].delta.model_dump(exclude_unset=True) == {}


def test_usage_comes_only_when_asked_and_its_options_are_taken_without_a_stream(server: Running):
    client = server.client()
    chunks = list(client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True, **GREEDY))
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    options: Any = {"stream_options": {"include_usage": True}}
    assert client.chat.completions.create(model=NAME, messages=MESSAGES, **options, **GREEDY).choices


def test_the_async_client_streams_many_at_once(server: Running, expected: str):
    async def one(client: openai.AsyncOpenAI) -> str:
        stream = await client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True, **GREEDY)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask() -> list[str]:
        async with server.async_client() as client:
            whole = client.chat.completions.create(model=NAME, messages=MESSAGES, **GREEDY)
            *streamed, answer = await asyncio.gather(*(one(client) for _ in range(20)), whole)
            return [*streamed, answer.choices[0].message.content or ""]

    assert asyncio.run(ask()) == [expected] * 21


def test_seeds_repeat_and_n_answers_differ(server: Running):
    client = server.client()
    options: Any = {"model": NAME, "messages": MESSAGES, "max_tokens": 12, "n": 3, "extra_body": {"ignore_eos": True}}
    first, again, other = (client.chat.completions.create(seed=seed, **options) for seed in (7, 7, 8))
    texts = [[choice.message.content for choice in one.choices] for one in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]
    assert len(set(texts[0])) == 3


def test_stop_texts_end_an_answer_and_are_not_in_it(server: Running, expected: str):
    stop = expected[4:6]
    answer = server.client().chat.completions.create(model=NAME, messages=MESSAGES, stop=[stop, "never"], **GREEDY)
    assert answer.choices[0].message.content == expected[: expected.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    alone = server.client().chat.completions.create(model=NAME, messages=MESSAGES, stop=stop, **GREEDY)
    assert alone.choices[0].message.content == answer.choices[0].message.content


def test_an_answer_that_reaches_the_contexts_end_has_the_reason_length(server: Running):
    answer = server.client().chat.completions.create(
        model=NAME, messages=MESSAGES, max_completion_tokens=10**9, temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.total_tokens == 2048


@pytest.mark.parametrize("streaming", [False, True])
def test_logprobs_are_the_models(server: Running, engine: Engine, streaming: bool):
    client = server.client()
    options: Any = {"model": NAME, "messages": MESSAGES, "logprobs": True, "top_logprobs": 3, **GREEDY}
    if streaming:
        chunks = list(client.chat.completions.create(stream=True, **options))
        found = [
            item for chunk in chunks if chunk.choices[0].logprobs for item in chunk.choices[0].logprobs.content or ()
        ]
    else:
        logprobs = client.chat.completions.create(**options).choices[0].logprobs
        assert logprobs is not None
        found = logprobs.content or []
    wanted = SamplingOptions(temperature=0, max_tokens=12, ignore_eos=True, logprobs=3)
    answer = engine.chat(PLAIN, wanted)
    assert answer.logprobs is not None and len(found) == len(answer.logprobs) == 12
    for got, own in zip(found, answer.logprobs, strict=True):
        assert got.logprob == pytest.approx(own.logprob, abs=1e-5)
        assert [top.logprob for top in got.top_logprobs] == pytest.approx([value for _, value in own.top], abs=1e-5)
    together = b"".join(bytes(item.bytes or ()) for item in found)
    assert together.decode(errors="replace") == engine.tokenizer.decode(answer.tokens)


def test_completions_of_texts_and_of_ids(server: Running, engine: Engine):
    options = SamplingOptions(temperature=0, max_tokens=8, ignore_eos=True)
    texts = ["What is", "Größer"]
    ids = [engine.encode(text) for text in texts]
    wanted = [answer.text for answer in engine.generate(texts, options)]
    client, more = server.client(), {**GREEDY, "max_tokens": 8}
    for prompt in (texts, ids):
        answer = client.completions.create(model=NAME, prompt=prompt, **more)
        assert [choice.text for choice in answer.choices] == wanted
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert answer.usage is not None and answer.usage.prompt_tokens == sum(map(len, ids))
    assert client.completions.create(model=NAME, prompt=ids[1], **more).choices[0].text == wanted[1]
    echoed = client.completions.create(model=NAME, prompt=texts[0], echo=True, **more)
    assert echoed.choices[0].text == texts[0] + wanted[0]


def test_a_streamed_completion(server: Running, engine: Engine):
    wanted = engine.generate(["What is"], SamplingOptions(temperature=0, max_tokens=8, ignore_eos=True))[0].text
    chunks = list(
        server.client().completions.create(
            model=NAME, prompt="What is", stream=True, logprobs=2, echo=False, **{**GREEDY, "max_tokens": 8}
        )
    )
    assert "".join(chunk.choices[0].text for chunk in chunks) == wanted
    assert chunks[-1].choices[0].finish_reason == "length" and chunks[-1].choices[0].text == ""
    tokens = [token for chunk in chunks if (found := chunk.choices[0].logprobs) for token in found.tokens or ()]
    assert len(tokens) == 8


def test_sixteen_tokens_are_the_default_of_completions(server: Running):
    answer = server.client().completions.create(model=NAME, prompt="a", extra_body={"ignore_eos": True})
    assert answer.usage is not None and answer.usage.completion_tokens == 16


def test_embeddings_are_mean_pooled_and_of_length_1(server: Running, tiny: Path, engine: Engine):
    model, texts = load_model(tiny, dtype="float32", device="cpu"), ["What is", "the weather in Ulm?"]
    wanted = []
    for state in model.hidden_states([engine.encode(text) for text in texts]):
        mean = state.double().mean(0).numpy()
        wanted.append(mean / np.linalg.norm(mean))
    client = server.client()
    # The client asks for base64 by itself, and decodes it.
    for options in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model=NAME, input=texts, **options)  # type: ignore[arg-type]
        assert [item.index for item in answer.data] == [0, 1]
        for item, vector in zip(answer.data, wanted, strict=True):
            assert np.abs(np.array(item.embedding) - vector).max() < 1e-5
    assert answer.usage.prompt_tokens == sum(len(engine.encode(text)) for text in texts)
    by_id = client.embeddings.create(model=NAME, input=[engine.encode(text) for text in texts])
    assert np.allclose(by_id.data[1].embedding, wanted[1], atol=1e-5)
    assert client.embeddings.create(model=NAME, input="a", dimensions=48).data


def test_models_are_listed_and_shown(server: Running):
    client = server.client()
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == (NAME, "model", "ownlm")
    assert client.models.retrieve(NAME).id == NAME
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("org/other")
    assert caught.value.code == "model_not_found"


def test_errors_are_the_clients_own(server: Running):
    client = server.client()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="other", messages=MESSAGES)
    assert unknown.value.param == "model" and unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=NAME, messages=MESSAGES, temperature=3)
    assert wrong.value.param == "temperature" and wrong.value.type == "invalid_request_error"
    for streaming in (False, True):
        with pytest.raises(openai.BadRequestError) as long:
            client.chat.completions.create(
                model=NAME, messages=[{"role": "user", "content": "a b " * 2000}], stream=streaming
            )
        assert "2,048" in long.value.message


def test_what_is_known_and_unused_is_taken_and_the_unknown_refused(server: Running):
    known: Any = {"user": "me", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "verbosity": "low"}
    known |= {"reasoning_effort": "low", "prompt_cache_key": "k", "safety_identifier": "s", "parallel_tool_calls": True}
    assert server.chat(**known).status_code == 200
    assert server.chat(audio=None, functions=None, function_call=None, stop=None, tools=None, n=None).status_code == 200
    for name in ("temprature", "functions", "audio", "guided_json"):
        answer = server.chat(**{name: 1})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == name


def test_an_answer_may_be_sent_back_as_it_came(server: Running):
    message = server.chat().json()["choices"][0]["message"]
    body = {"model": NAME, "messages": [*PLAIN, message, PLAIN[1]], "max_tokens": 2}
    assert server.post("/v1/chat/completions", body).status_code == 200


def test_the_rendered_prompt_is_shown_exactly(server: Running, engine: Engine):
    answer = server.post("/v1/chat/render", {"model": NAME, "messages": MESSAGES}).json()
    assert answer["ids"] == engine.tokenizer.render(PLAIN, add_generation_prompt=True)
    assert answer["text"] == engine.tokenizer.render_text(PLAIN, add_generation_prompt=True)
    assert "".join(answer["tokens"]) == answer["text"]
