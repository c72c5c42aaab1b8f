"""Guesses by a draft model: its keys under any order of arrivals, steps, ends and failures, and what becomes of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor

from ownlm.engine.constraints import Choice
from ownlm.engine.draw import Draw
from ownlm.engine.engine import Engine
from ownlm.engine.pages import PAGE, PagePool
from ownlm.engine.requests import Answer, SamplingOptions, State
from ownlm.engine.scheduler import Scheduler
from ownlm.engine.speculation import CHEAP_ROWS, DraftModel, Speculation
from ownlm.errors import ModelError
from ownlm.model.transformer import Transformer
from ownlm.tokens.tokenizer import Tokenizer

VOCAB = 3
GREEDY = SamplingOptions(temperature=0, max_tokens=40, ignore_eos=True)


def next_of(tokens: Sequence[int]) -> int:
    """What the model says after these."""
    return (7 * sum(tokens) + len(tokens) + tokens[-1] ** 2) % VOCAB


def guess_of(tokens: Sequence[int]) -> int:
    """What the draft model says: mostly the same."""
    return (next_of(tokens) + (sum(tokens) % 5 == 0)) % VOCAB


class Slots:
    """A decoder that keeps, at each place of a page, all tokens up to there, and reads nothing that is not right."""

    kind, weight_bytes = "none", 0

    def __init__(self) -> None:
        self.held: dict[tuple[int, int], tuple[int, ...]] = {}
        self.broken = False
        self.passes = 0

    def reserve(self) -> None: ...

    def before(self, pages: Sequence[int], place: int) -> tuple[int, ...]:
        """The tokens up to a place, all of which must lie where they belong."""
        text = self.held[pages[(place - 1) // PAGE], (place - 1) % PAGE] if place else ()
        assert all(self.held[pages[at // PAGE], at % PAGE] == text[: at + 1] for at in range(place))
        return text

    def __call__(
        self,
        ids: Sequence[int],
        places: Sequence[int],
        starts: Sequence[int],
        pages: Sequence[Sequence[int]],
        speaking: Sequence[int],
    ) -> Tensor:
        if self.broken:
            raise RuntimeError("out of memory")
        self.passes += 1
        said = []
        for own, start, end in zip(pages, starts[:-1], starts[1:], strict=True):
            assert start < end and list(places[start:end]) == list(range(places[start], places[start] + end - start))
            text = self.before(own, places[start])
            for row in range(start, end):
                text = (*text, ids[row])
                self.held[own[places[row] // PAGE], places[row] % PAGE] = text
                if row in speaking:
                    said.append(torch.nn.functional.one_hot(torch.tensor(guess_of(text)), VOCAB + 1).float())
        return torch.stack(said) if said else torch.empty(0, VOCAB + 1)


class Life(RuleBasedStateMachine):
    """Drives scheduler and speculation as the engine does, with a draft model whose cache is looked into."""

    pages, budget = 9, 50

    @initialize(places=st.sampled_from([2, 6]), context=st.sampled_from([45, 64, 9 * PAGE]))
    def begin(self, places: int, context: int) -> None:
        self.scheduler = Scheduler(PagePool(self.pages), max_sequences=places, prefill_tokens=self.budget)
        self.draft, self.model = Slots(), Slots()
        self.context = context
        drafter = DraftModel(self.draft, context, VOCAB)
        self.speculation = Speculation(self.scheduler, kind="bf16", model=drafter)
        self.alive: list[Answer] = []
        self.added = 0

    @rule(start=st.integers(0, 1), prompt=st.integers(1, 120), limit=st.integers(1, 140), tail=st.integers(0, 2))
    def submit(self, start: int, prompt: int, limit: int, tail: int) -> None:
        text = (*[start] * (prompt - 1), tail)
        answer = Answer(self.added, 0, text, min(limit, self.pages * PAGE - prompt + 1))
        self.added += 1
        self.speculation.begin(answer, Draw(SamplingOptions(temperature=0), seed=None, prompt=text, index=0))
        self.scheduler.add(answer)
        self.alive.append(answer)

    @precondition(lambda self: self.alive)
    @rule(choice=st.randoms(use_true_random=False))
    def leave(self, choice: Any) -> None:
        self._end(choice.choice(self.alive), State.ABORTED)

    @precondition(lambda self: self.added > 9)
    @rule()
    def break_the_draft_model(self) -> None:
        self.draft.broken = True

    @rule(choice=st.randoms(use_true_random=False), times=st.integers(1, 40), rarely=st.sampled_from([0, 0.002, 0.05]))
    def steps(self, choice: Any, times: int, rarely: float) -> None:
        for _ in range(times):
            self._step(choice, rarely)
            self.both_hold_what_the_counts_say()
            self.a_page_is_found_only_when_both_have_filled_it()

    def _step(self, choice: Any, rarely: float) -> None:
        plan = self.speculation.guessed(self.scheduler.plan())
        assert bool(plan) == bool(self.alive)
        assert self.draft.broken or all(len(work.draft) < CHEAP_ROWS for work in plan)
        for work in list(plan):
            if choice.random() < rarely:
                self._end(work.answer, State.FAILED)
                plan.remove(work)
                continue
            tokens = [*work.answer.part(work.start, work.end), *work.draft]
            places = range(work.start, work.end + len(work.draft))
            self.model(tokens, places, [0, len(tokens)], [work.answer.pages], [])
        for work in plan:
            self.scheduler.done(work)
        for work in plan:
            answer = work.answer
            if not work.speaks:
                continue
            taken = [next_of(answer.part(0, answer.length))]
            while len(taken) <= len(work.draft) and taken[-1] == work.draft[len(taken) - 1]:
                taken.append(next_of([*answer.part(0, answer.length), *taken]))
            self.speculation.judged(work, taken)
            for token in taken:
                if not answer.ended:
                    answer.tokens.append(token)
                    if len(answer.tokens) == answer.limit or choice.random() < rarely:
                        self._end(answer, State.FINISHED)
                    elif answer.state is State.PREFILL:
                        answer.move(State.DECODE)
            if not answer.ended:
                self.scheduler.done(work, work.end + len(taken) - 1)

    def _end(self, answer: Answer, state: State) -> None:
        answer.move(State.ABORTED if answer.state is State.QUEUED else state)
        self.scheduler.remove(answer)
        self.speculation.end(answer)
        self.alive.remove(answer)

    @invariant()
    def both_hold_what_the_counts_say(self) -> None:
        for answer in self.alive:
            assert self.model.before(answer.pages, answer.cached) == tuple(answer.part(0, answer.cached))
            if answer.state is State.QUEUED:
                assert answer.cached == answer.drafted == 0
            if not self.draft.broken:
                assert answer.drafted <= min(answer.cached, self.context)
                assert self.draft.before(answer.pages, answer.drafted) == tuple(answer.part(0, answer.drafted))
                # It is behind by less than two pages however busy the model is, and never behind in a prompt.
                lacks = min(answer.cached, self.context) - answer.drafted
                assert lacks < PAGE + CHEAP_ROWS if answer.state is State.DECODE else lacks == 0

    @invariant()
    def a_page_is_found_only_when_both_have_filled_it(self) -> None:
        for answer in self.alive:
            full = answer.kept * PAGE
            assert full <= answer.cached
            assert self.draft.broken or min(full, self.context) <= answer.drafted

    @invariant()
    def pages_are_counted(self) -> None:
        used = {page for answer in self.alive for page in answer.pages}
        assert self.scheduler.pool.available == self.pages - len(used)

    def teardown(self) -> None:
        for _ in range(10_000):
            if not getattr(self, "alive", None):
                return
            self._step(_Never(), 0)
        raise AssertionError("somebody never came to an end")


class _Never:
    def random(self) -> float:
        return 1.0


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def alone(
    prompt: tuple[int, ...], limit: int, *, context: int = 500, **options: Any
) -> tuple[Scheduler, Speculation, Slots, Answer]:
    """An answer that is worked on alone, with its draft model's cache."""
    scheduler, slots = Scheduler(PagePool(20), max_sequences=4, prefill_tokens=500), Slots()
    speculation = Speculation(scheduler, kind="bf16", model=DraftModel(slots, context, VOCAB), **options)
    answer = Answer(0, 0, prompt, limit)
    speculation.begin(answer, Draw(SamplingOptions(temperature=0), seed=None, prompt=prompt, index=0))
    scheduler.add(answer)
    (work,) = speculation.guessed(scheduler.plan())
    assert work.draft == () and slots.passes == 1 and answer.drafted == len(prompt)
    scheduler.done(work)
    answer.move(State.DECODE)
    answer.tokens.append(next_of(prompt))
    return scheduler, speculation, slots, answer


def test_a_pass_of_the_draft_model_guesses_one_token_and_the_last_guess_is_not_read() -> None:
    prompt = (0, 1, 2, 2, 1)
    scheduler, speculation, slots, answer = alone(prompt, 100)
    (work,) = speculation.guessed(scheduler.plan())
    text = list(answer.part(0, answer.length))
    for guess in work.draft:
        assert guess == guess_of(text)
        text.append(guess)
    assert len(work.draft) == 4 and slots.passes == 1 + 4
    assert answer.drafted == len(prompt) + 1 + 3
    # Of the four the first two are right: the third and what follows counts for nothing.
    speculation.judged(work, [*work.draft[:2], 0])
    scheduler.done(work)
    answer.tokens += [*work.draft[:2], 0]
    scheduler.done(work, work.end + 2)
    assert answer.cached == answer.drafted == len(prompt) + 3
    assert (speculation.guessed_tokens, speculation.right_tokens) == (4, 2)


@pytest.mark.parametrize(("options", "most"), [({}, 7), ({"drafts": 2}, 2), ({"drafts": 0}, 0)])
def test_no_more_is_guessed_than_was_allowed(options: dict[str, int], most: int) -> None:
    scheduler, speculation, _, answer = alone((0, 1, 2, 2, 1), 300, **options)
    longest = 0
    while len(answer.tokens) < 200:
        (work,) = speculation.guessed(scheduler.plan())
        longest = max(longest, len(work.draft))
        taken = [*work.draft, 1]
        speculation.judged(work, taken)
        answer.tokens += taken
        scheduler.done(work, work.end + len(work.draft))
    assert longest == most


def test_pages_beyond_what_the_draft_model_reads_are_found_too() -> None:
    scheduler, speculation, _, answer = alone((0, 1, 2, 2, 1), 300, context=40)
    while answer.length < 3 * PAGE + 5:
        (work,) = speculation.guessed(scheduler.plan())
        taken = [*work.draft, 1]
        speculation.judged(work, taken)
        answer.tokens += taken
        scheduler.done(work, work.end + len(work.draft))
    assert answer.drafted == 40 and answer.kept == answer.cached // PAGE >= 3


def test_who_gives_up_his_pages_is_read_again_by_the_draft_model_too() -> None:
    scheduler, slots = Scheduler(PagePool(4), max_sequences=4, prefill_tokens=500), Slots()
    speculation = Speculation(scheduler, kind="bf16", drafts=1, model=DraftModel(slots, 500, VOCAB))
    first, second = (Answer(i, 0, (i, *[2] * 30), 40) for i in range(2))
    for answer in (first, second):
        speculation.begin(answer, Draw(SamplingOptions(temperature=0), seed=None, prompt=answer.prompt, index=0))
        scheduler.add(answer)
    while not scheduler.preemptions:
        for work in speculation.guessed(scheduler.plan()):
            if work.answer.state is State.PREFILL:
                work.answer.move(State.DECODE)
            speculation.judged(work, [1])
            work.answer.tokens.append(1)
            scheduler.done(work, work.end)
    assert (second.state, second.cached, second.drafted) == (State.QUEUED, 0, 0)
    first.move(State.FINISHED)
    scheduler.remove(first)
    speculation.end(first)
    (work,) = speculation.guessed(scheduler.plan())
    # The page that still holds its beginning holds the draft model's keys as well.
    assert work.start == PAGE and second.drafted == work.end
    assert slots.before(second.pages, second.drafted) == tuple(second.part(0, work.end))


def test_a_draft_model_that_is_right_saves_passes_and_one_that_is_wrong_rests(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    model, prompts = make_model("llama"), [[5, 9, 200, 31], [7, 8]]
    plain = Engine(model, tokenizer, drafts=0).generate(prompts, GREEDY)
    steps = {}
    for name, seed in (("itself", 0), ("another", 1)):
        engine = Engine(model, tokenizer, drafts=7, draft_model=make_model("llama", seed=seed))
        for prompt in prompts:
            engine.submit(prompt, GREEDY)
        tokens: dict[int, list[int]] = {0: [], 1: []}
        steps[name] = 0
        while engine.running or engine.waiting:
            steps[name] += 1
            for event in engine.step():
                if event.token is not None:
                    tokens[event.request].append(event.token)
        assert [tuple(tokens[number]) for number in range(2)] == [answer.tokens for answer in plain]
        if name == "itself":
            assert engine.right_tokens > 0.8 * engine.guessed_tokens > 0
        else:
            assert engine.right_tokens < 0.3 * engine.guessed_tokens < 30
    assert steps["itself"] < 20 and steps["another"] <= 40


def test_a_draft_model_of_another_family_and_context_guesses_too(
    make_model: Callable[..., Transformer], tokenizer: Tokenizer
) -> None:
    prompts, options = [[3] * 50, [4, 5, 6]], SamplingOptions(seed=3, max_tokens=60, ignore_eos=True)
    draft = make_model("gpt2", max_positions=70, vocab_size=tokenizer.vocab_size + 13)
    model = make_model("llama")
    engine = Engine(model, tokenizer, drafts=3, draft_model=draft)
    plain = Engine(model, tokenizer, drafts=0).generate(prompts, options)
    assert engine.generate(prompts, options) == engine.generate(prompts, options)
    assert [a.tokens for a in engine.generate(prompts, options)] == [a.tokens for a in plain]
    assert engine.guessed_tokens and engine.reused_tokens >= PAGE


def test_a_constraint_goes_first(llama: Transformer, tokenizer: Tokenizer) -> None:
    options = SamplingOptions(temperature=0, constraint=Choice(["the order number is what it is", "no"]))
    answers = [
        Engine(llama, tokenizer, drafts=7, draft_model=draft).generate(["Where? "], options)[0]
        for draft in (None, llama)
    ]
    assert answers[0] == answers[1]


def test_a_draft_model_that_fails_is_given_up_and_the_answers_go_on(
    llama: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = Engine(llama, tokenizer).generate([[1, 2, 3], [4, 5]], GREEDY)
    engine = Engine(llama, tokenizer, draft_model=llama)
    engine.submit([1, 2, 3], GREEDY)
    tokens = [event.token for _ in range(3) for event in engine.step()]
    guessed = engine.guessed_tokens
    assert guessed

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._speculation._model, "guess", fail)
    while engine.running:
        tokens += [event.token for event in engine.step()]
    assert tuple(tokens) == plain[0].tokens
    assert engine.generate([[4, 5]], GREEDY)[0].tokens == plain[1].tokens
    assert engine.guessed_tokens == guessed
    assert [record.message for record in caplog.records] == ["the draft model failed, and is not used any more"]


def test_a_draft_model_that_cannot_guess_is_refused(
    make_model: Callable[..., Transformer], llama: Transformer, tokenizer: Tokenizer
) -> None:
    with pytest.raises(ModelError, match=r"draft_model.*vocabulary only 100"):
        Engine(llama, tokenizer, draft_model=make_model("llama", vocab_size=100))
    with pytest.raises(ModelError, match="writes no text"):
        Engine(llama, tokenizer, draft_model=make_model("bert"))
