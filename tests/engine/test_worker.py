"""The engine's thread: the engine's own answers, whoever leaves, fails or comes too many."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from ownlm.engine.engine import Engine
from ownlm.engine.requests import Event, SamplingOptions
from ownlm.engine.worker import Busy, DeadlineExceeded, Draining, EngineFailed, EngineWorker, Stream
from ownlm.errors import UserError
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

GREEDY = SamplingOptions(temperature=0, max_tokens=12, ignore_eos=True)
LONG = SamplingOptions(temperature=0, max_tokens=140, ignore_eos=True)
PROMPTS = [[7, 8, 9], [10, 11], [12] * 20]


@pytest.fixture
def make_worker(llama: Transformer, tokenizer: Tokenizer) -> Iterator[Callable[..., EngineWorker]]:
    made = []

    def make(engine: Engine | None = None, **options: Any) -> EngineWorker:
        made.append(EngineWorker(engine or Engine(llama, tokenizer, max_sequences=4), **options))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


async def text_of(stream: Stream) -> str:
    return "".join([event.text async for event in stream])


async def until_idle(worker: EngineWorker) -> None:
    while worker.running or worker.pending:
        await asyncio.sleep(0.01)


def test_many_requests_at_once_get_the_engines_answers(
    make_worker: Callable[..., EngineWorker], llama: Transformer, tokenizer: Tokenizer
):
    wanted = [answer.text for answer in Engine(llama, tokenizer).generate(PROMPTS, GREEDY)]
    worker = make_worker()

    async def ask() -> list[str]:
        streams = [await worker.submit([prompt], GREEDY) for prompt in PROMPTS * 5]
        return list(await asyncio.gather(*map(text_of, streams)))

    assert run(ask()) == wanted * 5
    assert worker.pending == 0


def test_one_request_may_have_many_prompts_and_answers(
    make_worker: Callable[..., EngineWorker], llama: Transformer, tokenizer: Tokenizer
):
    options = SamplingOptions(seed=3, n=2, max_tokens=6, ignore_eos=True)
    wanted = [answer.text for answer in Engine(llama, tokenizer).generate(PROMPTS, options)]
    worker = make_worker()

    async def ask() -> list[str]:
        texts = [""] * 6
        stream = await worker.submit(PROMPTS, options)
        assert stream.prompt_tokens == [3, 2, 20]
        async for event in stream:
            texts[stream.choice(event)] += event.text
        return texts

    assert run(ask()) == wanted


def test_a_wrong_prompt_is_refused_and_nothing_of_its_request_stays(make_worker: Callable[..., EngineWorker]):
    worker = make_worker()

    async def ask() -> None:
        for wrong in ([], [5000], [1] * 160):
            with pytest.raises(UserError):
                await worker.submit([PROMPTS[0], wrong, PROMPTS[1]], LONG)
        await until_idle(worker)

    run(ask())
    assert worker.pending == worker.running == 0


def test_whoever_leaves_frees_their_place(make_worker: Callable[..., EngineWorker]):
    worker = make_worker()

    async def ask() -> None:
        streams = [await worker.submit([prompt], LONG) for prompt in PROMPTS * 4]
        async for _ in streams[0]:
            break
        for stream in streams:
            stream.close()
            stream.close()
        await until_idle(worker)
        assert worker.waiting == 0
        # A caller that is cancelled while it waits for its place.
        submitting = asyncio.create_task(worker.submit([PROMPTS[0]], LONG))
        await asyncio.sleep(0)
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        await until_idle(worker)

    run(ask())


def test_a_full_queue_says_when_to_come_again(make_worker: Callable[..., EngineWorker]):
    worker = make_worker(max_pending=3)

    async def ask() -> None:
        streams = [await worker.submit([PROMPTS[0]], LONG) for _ in range(3)]
        with pytest.raises(Busy) as caught:
            await worker.submit([PROMPTS[0]], LONG)
        assert 1 <= caught.value.retry_after <= 60
        with pytest.raises(Busy):
            await worker.call(lambda: 1)
        streams[0].close()
        await text_of(streams[1])
        assert await text_of(await worker.submit([PROMPTS[0]], GREEDY))
        streams[2].close()
        await until_idle(worker)
        # Alone, a request may be larger than all that may wait.
        assert await text_of(await worker.submit([PROMPTS[0]], SamplingOptions(n=8, max_tokens=2)))

    run(ask())


def test_a_deadline_ends_a_request(make_worker: Callable[..., EngineWorker]):
    worker = make_worker()

    async def ask() -> None:
        with pytest.raises(DeadlineExceeded):
            await text_of(await worker.submit([PROMPTS[0]], LONG, timeout=0.001))
        await until_idle(worker)
        # One that ends in time is let be.
        assert await text_of(await worker.submit([PROMPTS[0]], GREEDY, timeout=60))

    run(ask())


def test_draining_finishes_what_was_accepted(make_worker: Callable[..., EngineWorker]):
    worker = make_worker()

    async def ask() -> None:
        streams = [await worker.submit([prompt], LONG) for prompt in PROMPTS * 3]
        worker.drain()
        assert worker.draining
        with pytest.raises(Draining):
            await worker.submit([PROMPTS[0]], LONG)
        for stream in streams:
            events = [event async for event in stream]
            assert events[-1].finish_reason == "length"

    run(ask())


def test_closing_fails_what_is_left_and_never_hangs(make_worker: Callable[..., EngineWorker]):
    worker = make_worker()

    async def ask() -> None:
        stream = await worker.submit([PROMPTS[0]], LONG)
        calls = [asyncio.create_task(worker.call(lambda: time.sleep(0.01))) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.to_thread(worker.close)
        events = [event async for event in stream]
        assert isinstance(events[-1].error, Draining)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(result is None or isinstance(result, Draining) for result in results)
        with pytest.raises(Draining):
            await worker.submit([PROMPTS[0]], LONG)
        with pytest.raises(Draining):
            await worker.call(lambda: 1)

    run(ask())


class Failing(Engine):
    """An engine whose steps fail when it is told so."""

    fails = 0
    stuck = False

    def step(self) -> list[Event]:
        if self.fails:
            self.fails -= 1
            raise RuntimeError("a step went wrong")
        return super().step()

    def abort(self, request: int) -> None:
        if self.stuck:
            raise RuntimeError("nothing works any more")
        super().abort(request)


def test_a_failing_step_fails_its_requests_and_the_thread_goes_on(
    make_worker: Callable[..., EngineWorker], llama: Transformer, tokenizer: Tokenizer
):
    engine = Failing(llama, tokenizer)
    worker = make_worker(engine)

    async def ask() -> None:
        engine.fails = 1
        for stream in [await worker.submit([PROMPTS[0]], GREEDY), await worker.submit([PROMPTS[1]], GREEDY)]:
            last = [event async for event in stream][-1]
            assert last.finish_reason in ("error", "length")
        assert engine.fails == 0
        assert (await worker.submit([PROMPTS[0]], GREEDY)).prompt_tokens == [3]
        assert await text_of(await worker.submit([PROMPTS[0]], GREEDY))

    run(ask())
    assert worker.broken is None


def test_an_engine_that_cannot_be_emptied_is_given_up(
    make_worker: Callable[..., EngineWorker], llama: Transformer, tokenizer: Tokenizer
):
    engine = Failing(llama, tokenizer)
    worker = make_worker(engine)

    async def ask() -> None:
        engine.fails, engine.stuck = 1000, True
        last = [event async for event in await worker.submit([PROMPTS[0]], GREEDY)][-1]
        assert isinstance(last.error, RuntimeError)
        with pytest.raises(EngineFailed):
            await worker.submit([PROMPTS[0]], GREEDY)

    run(ask())
    assert isinstance(worker.broken, RuntimeError)


def test_calls_run_on_the_engines_thread_and_their_errors_come_back(make_worker: Callable[..., EngineWorker]):
    worker = make_worker()

    async def ask() -> None:
        stream = await worker.submit([PROMPTS[0]], LONG)
        assert await worker.call(lambda: threading.current_thread().name) == "ownlm-engine"
        with pytest.raises(ZeroDivisionError):
            await worker.call(lambda: 1 // 0)
        assert [event async for event in stream][-1].finish_reason == "length"
        assert worker.pending == 0

    run(ask())


class Watched(Engine):
    """An engine that counts how often it is asked whether there is work."""

    asked = 0

    @property
    def running(self) -> int:
        self.asked += 1
        return super().running


def test_an_idle_thread_sleeps(make_worker: Callable[..., EngineWorker], llama: Transformer, tokenizer: Tokenizer):
    engine = Watched(llama, tokenizer)
    worker = make_worker(engine)

    async def ask() -> None:
        await text_of(await worker.submit([PROMPTS[0]], GREEDY))
        await asyncio.sleep(0.1)
        before = engine.asked
        await asyncio.sleep(0.2)
        assert engine.asked == before

    run(ask())
