"""The scheduler under any order of arrivals, steps, ends and aborts."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ownlm.engine.cache import room_for
from ownlm.engine.requests import Answer, State
from ownlm.engine.scheduler import Scheduler


def make(count: int, prompt: int = 5, limit: int = 5) -> list[Answer]:
    return [Answer(request, 0, (1,) * prompt, limit) for request in range(count)]


def scheduler(**changes: int) -> Scheduler:
    return Scheduler(**{"max_sequences": 4, "cache_tokens": 100, "prefill_tokens": 8, **changes})


def test_a_long_prompt_is_read_in_pieces_at_its_own_multiples() -> None:
    plans = scheduler()
    long = Answer(0, 0, (1,) * 20, 5)
    plans.add(long)
    pieces = []
    while not pieces or not pieces[-1].is_last:
        (piece,) = plans.plan().prefill
        long.prefilled = piece.end
        pieces.append(piece)
    assert [(piece.start, piece.end) for piece in pieces] == [(0, 8), (8, 16), (16, 20)]


def test_short_prompts_share_a_step() -> None:
    plans = scheduler()
    for answer in make(4, prompt=3):
        plans.add(answer)
    assert [piece.answer.request for piece in plans.plan().prefill] == [0, 1]


def test_a_large_request_waits_for_room_and_is_not_overtaken() -> None:
    plans = scheduler(cache_tokens=30)
    first, large, small = Answer(0, 0, (1,) * 10, 5), Answer(1, 0, (1,) * 20, 8), Answer(2, 0, (1,), 1)
    for answer in (first, large, small):
        plans.add(answer)
    plans.plan()
    assert plans.running == [first] and list(plans.waiting) == [large, small]
    first.move(State.ABORTED)
    plans.remove(first)
    plans.plan()
    assert plans.running == [large, small]


class Life(RuleBasedStateMachine):
    """Drives a scheduler as the engine does."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(max_sequences=3, cache_tokens=400, prefill_tokens=16, room_for=room_for)
        self.alive: list[Answer] = []
        self.admitted: list[int] = []
        self.added = 0

    @rule(prompt=st.integers(1, 60), limit=st.integers(1, 140))
    def submit(self, prompt: int, limit: int) -> None:
        answer = Answer(self.added, 0, (1,) * prompt, limit)
        self.added += 1
        self.scheduler.add(answer)
        self.alive.append(answer)

    @precondition(lambda self: self.alive)
    @rule(choice=st.randoms(use_true_random=False), how=st.sampled_from([State.ABORTED, State.FAILED]))
    def end_early(self, choice, how: State) -> None:  # type: ignore[no-untyped-def]
        self._end(choice.choice(self.alive), how)

    @rule(choice=st.randoms(use_true_random=False), stops=st.floats(0, 0.5))
    def step(self, choice, stops: float) -> None:  # type: ignore[no-untyped-def]
        before = {id(answer) for answer in self.scheduler.running}
        plan = self.scheduler.plan()
        self.admitted += [a.request for a in self.scheduler.running if id(a) not in before]
        assert bool(plan) == bool(self.alive)
        assert sum(piece.end - piece.start for piece in plan.prefill) <= 16
        working = [*plan.decode, *(piece.answer for piece in plan.prefill)]
        assert len({id(answer) for answer in working}) == len(working)
        # Nobody who decodes is ever left out, and whoever is read has its turn.
        assert set(map(id, plan.decode)) == {id(a) for a in self.scheduler.running if a.state is State.DECODE}
        for piece in plan.prefill:
            assert piece.start == piece.answer.prefilled and piece.start % 16 == 0
            piece.answer.prefilled = piece.end
        speaking = [*plan.decode, *(piece.answer for piece in plan.prefill if piece.is_last)]
        for answer in speaking:
            answer.tokens.append(1)
            if len(answer.tokens) == answer.limit or choice.random() < stops:
                self._end(answer, State.FINISHED)
            elif answer.state is State.PREFILL:
                answer.move(State.DECODE)

    def _end(self, answer: Answer, state: State) -> None:
        answer.move(State.ABORTED if answer.state is State.QUEUED else state)
        self.scheduler.remove(answer)
        self.alive.remove(answer)

    @invariant()
    def limits_hold(self) -> None:
        running, waiting = self.scheduler.running, self.scheduler.waiting
        assert len(running) <= 3
        assert sum(room_for(len(a.prompt) + len(a.tokens)) for a in running) <= 400
        assert self.scheduler.reserved_tokens <= 400
        assert all(a.state is State.QUEUED for a in waiting)
        assert all(a.state in (State.PREFILL, State.DECODE) for a in running)
        assert sorted(a.request for a in [*running, *waiting]) == sorted(a.request for a in self.alive)

    @invariant()
    def first_come_first_served(self) -> None:
        assert self.admitted == sorted(self.admitted)

    def teardown(self) -> None:
        for _ in range(100_000):
            if not self.alive:
                return
            self.step(choice=_Never(), stops=0)
        raise AssertionError("somebody never came to an end")


class _Never:
    def random(self) -> float:
        return 1.0


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
