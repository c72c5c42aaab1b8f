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
