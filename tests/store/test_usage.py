"""Counters of usage: by key and day, exact however many count at once."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime

from ownlm.store import Store, Usage


def test_usage_adds_up_by_key_and_day(store: Store):
    day = date(2031, 5, 4)
    assert store.usage.of("k", day) == Usage("k", day)
    assert store.usage.add("k", requests=1, prompt_tokens=5, day=day) == Usage("k", day, 1, 5, 0)
    assert store.usage.add("k", completion_tokens=2**40, prompt_tokens=-2, day=day) == Usage("k", day, 1, 3, 2**40)
    store.usage.add("other", requests=7, day=day)
    store.usage.add("k", requests=9, day=date(2031, 5, 5))
    assert store.usage.of("k", day).tokens == 2**40 + 3
    today = datetime.now(UTC).date()
    assert store.usage.add("k", requests=1).day in (today, datetime.now(UTC).date())


def test_what_is_set_aside_stays_within_the_limit(store: Store):
    day = date(2031, 5, 4)

    def reserve(prompt: int, wanted: int, least: int) -> int | None:
        return store.usage.reserve("k", most=100, prompt_tokens=prompt, wanted=wanted, least=least, day=day)

    assert reserve(10, 50, 50) == 50
    assert reserve(10, 31, 31) is None and store.usage.of("k", day) == Usage("k", day, 1, 10, 50)
    # As much as is left, where less will do.
    assert reserve(10, 1000, 30) == 30
    assert reserve(1, 0, 0) is None and reserve(0, 5, 0) == 0
    store.usage.add("k", completion_tokens=-20, day=day)
    assert reserve(20, 0, 0) == 0 and reserve(1, 1, 0) is None
    assert store.usage.of("k", day) == Usage("k", day, 4, 40, 60)


def test_threads_that_set_aside_at_once_stay_within_the_limit(store: Store):
    day, granted = date(2031, 5, 4), []

    def work() -> None:
        granted.append(store.usage.reserve("k", most=35, prompt_tokens=3, wanted=7, least=7, day=day))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(granted, key=str) == [7, 7, 7, *[None] * 17]
    assert store.usage.of("k", day) == Usage("k", day, 3, 9, 21)


def test_threads_lose_no_count(store: Store):
    day = date(2031, 5, 4)

    def work() -> None:
        for _ in range(20):
            store.usage.add("k", requests=1, prompt_tokens=3, day=day)

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.usage.of("k", day) == Usage("k", day, 200, 600, 0)
