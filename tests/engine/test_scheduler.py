"""The scheduler under any order of arrivals, steps, ends and aborts, with a cache that is too small."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ownlm.engine.pages import PAGE, PagePool, pages_for
from ownlm.engine.requests import Answer, State
from ownlm.engine.scheduler import Scheduler, Work


def make(count: int, prompt: int = 5, limit: int = 5) -> list[Answer]:
    return [Answer(request, 0, (request,) * prompt, limit) for request in range(count)]


def scheduler(pages: int = 10, **changes: int) -> Scheduler:
    return Scheduler(PagePool(pages), **{"max_sequences": 4, "prefill_tokens": 8, **changes})


def run(plans: Scheduler) -> list[Work]:
    """One step, in which everybody who speaks says 9."""
    plan = plans.plan()
    for work in plan:
        speaks = work.speaks
        plans.done(work)
        if speaks:
            if work.answer.state is State.PREFILL:
                work.answer.move(State.DECODE)
            work.answer.tokens.append(9)
    return plan


def finish(plans: Scheduler, answer: Answer) -> None:
    answer.move(State.FINISHED)
    plans.remove(answer)


def test_a_long_prompt_is_read_in_pieces() -> None:
    plans = scheduler()
    plans.add(Answer(0, 0, (1,) * 20, 5))
    assert [(w.start, w.end, w.speaks) for _ in range(3) for w in run(plans)] == [
        (0, 8, False),
        (8, 16, False),
        (16, 20, True),
    ]


def test_while_somebody_is_answered_prompts_are_read_in_smaller_pieces() -> None:
    plans = scheduler(pages=30, prefill_tokens=20, shared_prefill_tokens=3)
    first, long = Answer(0, 0, (1,) * 2, 9), Answer(1, 0, (2,) * 25, 9)
    plans.add(long)
    assert [(w.start, w.end) for w in run(plans)] == [(0, 20)]
    plans.add(first)
    # Nobody waits for a token yet.
    assert [(w.answer, w.start, w.end) for w in run(plans)] == [(long, 20, 25), (first, 0, 2)]
    longer = Answer(2, 0, (3,) * 7, 9)
    plans.add(longer)
    parts = [[(w.start, w.end) for w in run(plans) if w.answer is longer] for _ in range(3)]
    assert parts == [[(0, 3)], [(3, 6)], [(6, 7)]]
    finish(plans, first)
    finish(plans, long)
    finish(plans, longer)
    plans.add(Answer(3, 0, (4,) * 25, 9))
    assert [(w.start, w.end) for w in run(plans)] == [(0, 20)]


def test_prompts_share_a_step_and_who_speaks_is_not_kept_waiting() -> None:
    plans = scheduler()
    for answer in make(4, prompt=3):
        plans.add(answer)
    assert [(w.answer.request, w.start, w.end) for w in run(plans)] == [(0, 0, 3), (1, 0, 3), (2, 0, 2)]
    assert [(w.answer.request, w.start, w.end) for w in run(plans)] == [(0, 3, 4), (1, 3, 4), (2, 2, 3), (3, 0, 3)]


def test_a_large_request_waits_for_room_and_is_not_overtaken() -> None:
    plans = scheduler(pages=4, prefill_tokens=500)
    first, large, small = (Answer(i, 0, (i,) * size, 2) for i, size in enumerate((40, 80, 1)))
    for answer in (first, large, small):
        plans.add(answer)
    run(plans)
    assert plans.running == [first] and list(plans.waiting) == [large, small]
    finish(plans, first)
    run(plans)
    assert plans.running == [large]


def test_who_came_last_gives_up_his_pages_and_is_read_again() -> None:
    plans = scheduler(pages=4, prefill_tokens=500)
    first, second = (Answer(i, 0, (i,) * 31, 40) for i in range(2))
    plans.add(first)
    plans.add(second)
    while not plans.preemptions:
        run(plans)
    assert (first.state, second.state) == (State.DECODE, State.QUEUED)
    assert plans.running == [first] and list(plans.waiting) == [second] and second.pages == []
    said = list(second.tokens)
    finish(plans, first)
    plan = run(plans)
    # What it had said is kept, and the page that still holds its beginning is not read again.
    assert second.tokens[: len(said)] == said
    assert [(w.answer, w.start, w.end) for w in plan] == [(second, PAGE, 31 + len(said))]
    # That page is its own: of what others had read it found nothing.
    assert second.reused == 0


def test_who_begins_alike_reads_only_the_rest() -> None:
    plans = scheduler(pages=20, prefill_tokens=500)
    same = (7,) * 70
    first, second, other = Answer(0, 0, same, 5), Answer(1, 0, (*same, 8), 5), Answer(2, 0, same, 5, namespace=b"lora")
    plans.add(first)
    run(plans)
    plans.add(second)
    plans.add(other)
    assert [(w.start, w.end) for w in run(plans)] == [(70, 71), (64, 71), (0, 70)]
    assert second.pages[:2] == first.pages[:2] and second.pages[2] != first.pages[2]
    assert plans.reused_tokens == 64
    assert [answer.reused for answer in (first, second, other)] == [0, 64, 0]


def test_who_would_read_the_same_at_the_same_time_waits_for_it() -> None:
    plans = scheduler(pages=30, prefill_tokens=40)
    for request in range(3):
        plans.add(Answer(request, 0, (7,) * 70, 5))
    assert [(w.answer.request, w.start, w.end) for w in run(plans)] == [(0, 0, 40)]
    assert [(w.answer.request, w.start, w.end) for w in run(plans)] == [(0, 40, 70)]
    assert [(w.answer.request, w.start, w.end) for w in run(plans)] == [(0, 70, 71), (1, 64, 70), (2, 64, 70)]


def test_a_prompt_that_is_known_to_its_end_still_reads_its_last_token() -> None:
    plans = scheduler(pages=30, prefill_tokens=500)
    for request in range(2):
        plans.add(Answer(request, 0, (7,) * 64, 5))
    run(plans)
    assert [(w.start, w.end) for w in run(plans)] == [(64, 65), (32, 64)]


class Life(RuleBasedStateMachine):
    """Drives a scheduler as the engine does, and keeps what the pages would hold."""

    pages, places, budget, shared = 9, 3, 50, 20

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(
            PagePool(self.pages),
            max_sequences=self.places,
            prefill_tokens=self.budget,
            shared_prefill_tokens=self.shared,
        )
        self.alive: list[Answer] = []
        self.added = 0
        # For each page, what was written at each of its places: all tokens up to there.
        self.written: dict[tuple[int, int], tuple[int, ...]] = {}

    # Few different beginnings, so that many are shared.
    @rule(start=st.integers(0, 1), prompt=st.integers(1, 120), limit=st.integers(1, 140), tail=st.integers(0, 2))
    def submit(self, start: int, prompt: int, limit: int, tail: int) -> None:
        text = (*[start] * (prompt - 1), tail)
        answer = Answer(self.added, 0, text, min(limit, self.pages * PAGE - prompt + 1))
        self.added += 1
        self.scheduler.add(answer)
        self.alive.append(answer)

    @precondition(lambda self: self.alive)
    @rule(choice=st.randoms(use_true_random=False), how=st.sampled_from([State.ABORTED, State.FAILED]))
    def end_early(self, choice, how: State) -> None:  # type: ignore[no-untyped-def]
        self._end(choice.choice(self.alive), how)

    @rule(choice=st.randoms(use_true_random=False), stops=st.floats(0, 0.5))
    def step(self, choice, stops: float) -> None:  # type: ignore[no-untyped-def]
        oldest = min(self.alive, key=lambda a: a.request, default=None)
        plan = self.scheduler.plan()
        assert bool(plan) == bool(self.alive)
        # Who came first always goes on, however little room there is.
        assert oldest is None or plan[0].answer is oldest or oldest in [work.answer for work in plan]
        assert len({id(work.answer) for work in plan}) == len(plan)
        reading = [work for work in plan if work.answer.state is State.PREFILL]
        most = self.budget if len(reading) == len(plan) else self.shared
        assert sum(work.end - work.start for work in reading) <= most
        for work in plan:
            answer = work.answer
            assert work.start == answer.cached < work.end <= answer.length
            assert len(answer.pages) >= pages_for(work.end)
            for place in range(work.start):
                here = self.written[answer.pages[place // PAGE], place % PAGE]
                assert here == tuple(answer.part(0, place + 1)), "the cache holds somebody else's tokens"
            for place in range(work.start, work.end):
                self.written[answer.pages[place // PAGE], place % PAGE] = tuple(answer.part(0, place + 1))
        for work in plan:
            answer, speaks = work.answer, work.speaks
            self.scheduler.done(work)
            if speaks:
                answer.tokens.append(choice.randrange(3))
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
        assert len(running) <= self.places
        assert all(a.state is State.QUEUED and not a.pages for a in waiting)
        assert all(a.state in (State.PREFILL, State.DECODE) for a in running)
        assert sorted(a.request for a in [*running, *waiting]) == sorted(a.request for a in self.alive)
        used = {page for answer in running for page in answer.pages}
        assert self.scheduler.pool.available == self.pages - len(used)

    @invariant()
    def first_come_first_served(self) -> None:
        order = [a.request for a in [*self.scheduler.running, *self.scheduler.waiting]]
        assert order == sorted(order)

    def teardown(self) -> None:
        for _ in range(100_000):
            if not self.alive:
                return
            self.step(choice=_Never(), stops=0)
        raise AssertionError("somebody never came to an end")


class _Never:
    def random(self) -> float:
        return 1.0

    def randrange(self, below: int) -> int:
        return 0


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
