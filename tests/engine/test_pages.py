"""Pages under any order of taking, finding and giving back, against a plain model of who has what."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ownlm.engine.pages import PAGE, PagePool, digest_of, pages_for


def test_counts() -> None:
    assert [pages_for(tokens) for tokens in (0, 1, PAGE, PAGE + 1, 10 * PAGE)] == [0, 1, 1, 2, 10]


def test_a_digest_tells_tokens_and_what_came_before_apart() -> None:
    first, other = digest_of(b"", [1, 2]), digest_of(b"", [2, 1])
    assert len({first, other, digest_of(first, [1, 2]), digest_of(other, [1, 2]), digest_of(b"adapter", [1, 2])}) == 5
    assert digest_of(first, [1, 2]) == digest_of(first, [1, 2])


def test_what_was_used_longest_ago_is_forgotten_first_and_a_beginning_last() -> None:
    pool = PagePool(4)
    for name in (b"old", b"new"):
        pages = [pool.take(), pool.take()]
        for place, page in enumerate(pages):
            pool.keep(page, name + bytes([place]))
        pool.give_back(pages)
    assert pool.available == 4
    assert pool.take() is not None
    assert [pool.find(d) is None for d in (b"old\1", b"old\0", b"new\1", b"new\0")] == [True, False, False, False]


def test_without_keeping_nothing_is_found() -> None:
    pool = PagePool(2, keeps=False)
    page = pool.take()
    pool.keep(page, b"x")
    assert pool.find(b"x") is None
    pool.give_back([page])
    assert (pool.available, pool.kept) == (2, 0)


class Life(RuleBasedStateMachine):
    """Users take pages, fill them, find each other's and give them back."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = PagePool(6)
        self.held: list[list[int]] = []
        # What each page holds, as its users see it.
        self.content: dict[int, bytes] = {}
        self.order: list[int] = []

    def users(self, page: int) -> int:
        return sum(pages.count(page) for pages in self.held)

    @rule(count=st.integers(1, 4))
    def take(self, count: int) -> None:
        pages = []
        for _ in range(count):
            before = self.pool.available
            page = self.pool.take()
            assert (page is None) == (before == 0)
            if page is not None:
                assert not self.users(page) and page not in pages
                self.content.pop(page, None)
                pages.append(page)
        self.held.append(pages)

    @precondition(lambda self: any(self.held))
    @rule(choice=st.randoms(use_true_random=False), name=st.integers(0, 5))
    def fill(self, choice, name: int) -> None:  # type: ignore[no-untyped-def]
        page = choice.choice(choice.choice([pages for pages in self.held if pages]))
        digest = bytes([name])
        self.pool.keep(page, digest)
        if digest not in self.content.values():
            self.content.setdefault(page, digest)

    @rule(name=st.integers(0, 5))
    def find(self, name: int) -> None:
        page = self.pool.find(bytes([name]))
        known = [p for p, digest in self.content.items() if digest == bytes([name])]
        # In use, what is known must be found; what nobody uses may have been forgotten, but is never found wrongly.
        assert page in (known or [None])
        if page is not None:
            self.held.append([page])

    @precondition(lambda self: self.held)
    @rule(choice=st.randoms(use_true_random=False))
    def give_back(self, choice) -> None:  # type: ignore[no-untyped-def]
        pages = self.held.pop(choice.randrange(len(self.held)))
        self.pool.give_back(pages)

    @invariant()
    def all_pages_are_accounted_for(self) -> None:
        used = {page for pages in self.held for page in pages}
        assert self.pool.available == 6 - len(used)
        assert self.pool.kept == len(self.content)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
