"""Evaluations: whole or not at all, in order of time, with every number as it was."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from ownlm.store import Evaluation, Store, StoredScore

BEGAN = datetime(2031, 5, 4, 12, tzinfo=UTC)
INFLUENCES = struct.pack("<4f", 0.1, -0.2, 3e-9, 7.0)
SCORES = (
    StoredScore("boolq", "accuracy", 0, 0.625, 0.6, 0.65, 3270, "c0ffee", True, 1.0, INFLUENCES),
    StoredScore("wikitext", "word_perplexity", 2, 23.456789012345678, 22.0, math.inf, 2**40, "beef", False),
    StoredScore("crows_pairs/overall", "preference", 0, math.nan, math.nan, math.nan, 0, "beef", None, 50.0),
)


def made(model: str = "mine", release: str = "r1", **more: object) -> Evaluation:
    return Evaluation(model, release, SCORES, "asked", {"suites": ["core"], "limit": None}, **more)  # type: ignore[arg-type]


def test_every_number_comes_back_as_it_was(store: Store) -> None:
    given = store.evaluations.add(made(created=BEGAN))
    assert given.id and given.created == BEGAN
    (found,) = store.evaluations.all()
    assert replace(found, scores=()) == replace(given, scores=())
    assert found.scores[:2] == SCORES[:2]
    assert all(math.isnan(x) for x in (found.scores[2].value, found.scores[2].low, found.scores[2].high))
    assert (found.scores[2].higher_is_better, found.scores[2].best, found.scores[2].influences) == (None, 50.0, b"")


def test_they_come_by_time_and_by_model(store: Store) -> None:
    hour = timedelta(hours=1)
    late = store.evaluations.add(made("mine", "r2", created=BEGAN + 2 * hour))
    elsewhere = (BEGAN + hour).astimezone(timezone(5 * hour))
    early = store.evaluations.add(made("other", "r1", created=elsewhere))
    first = store.evaluations.add(made("mine", "r1", created=BEGAN))
    ids = [one.id for one in store.evaluations.all()]
    assert ids == [first.id, early.id, late.id]
    assert [one.release for one in store.evaluations.all(model="mine")] == ["r1", "r2"]
    assert [one.id for one in store.evaluations.all(since=BEGAN + hour)] == [early.id, late.id]
    assert store.evaluations.all(model="nobody") == []
    assert store.evaluations.models() == ["mine", "other"] and store.evaluations.count() == 3
    last = store.evaluations.last("mine", "asked")
    assert last is not None and (last.id, last.created) == (late.id, BEGAN + 2 * hour)
    assert store.evaluations.last("mine", "another") is None


def test_one_that_fails_leaves_nothing(store: Store) -> None:
    bad = replace(SCORES[0], n=None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)null"):
        store.evaluations.add(replace(made(), scores=(*SCORES, bad)))
    assert store.evaluations.count() == 0
    with store._database.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM scores")).scalar() == 0


def test_what_is_kept_of_a_unit_is_four_bytes(store: Store) -> None:
    many = struct.pack("<10000f", *[(-1) ** n / 10_000 for n in range(10_000)])
    store.evaluations.add(replace(made(), scores=(replace(SCORES[0], influences=many),)))
    assert store.evaluations.all()[0].scores[0].influences == many
    with store._database.reading() as connection:
        size = connection.execute(text("SELECT length(influences) FROM scores")).scalar()
    assert size is not None and size < 1000
