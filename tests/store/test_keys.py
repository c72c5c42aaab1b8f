"""Keys: found whole and only whole, kept as a hash, revoked at once."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from ownlm.errors import UserError
from ownlm.store import Store
from ownlm.store.tables import KEYS


def test_a_key_is_found_and_only_its_hash_is_kept(store: Store):
    text, made = store.keys.create("Anna", "review", requests_per_minute=60, tokens_per_day=10**12)
    found = store.keys.find(text)
    assert found is not None
    assert (found.id, found.name, found.role) == (made.id, "Anna", "review")
    assert (found.requests_per_minute, found.tokens_per_day) == (60, 10**12)
    assert found.may("use") and found.may("review") and not found.may("admin")
    assert store.keys.all()[0].created == made.created
    with store._database.reading() as connection:
        (row,) = connection.execute(select(KEYS)).all()
    assert row.hash == hashlib.sha256(text.encode()).hexdigest()
    assert text.split("_")[2] not in str(tuple(row))


def test_keys_differ_and_nothing_but_the_very_key_opens(store: Store):
    text, _ = store.keys.create("a")
    other, _ = store.keys.create("a")
    prefix, key_id, secret = text.split("_")
    assert {text, other, secret} & {other} == {other}
    assert store.keys.find(other) is not None
    wrong = ["", key_id, secret, text[:-1], text + "x", text + "\n", " " + text, text.swapcase(), text.upper()]
    wrong += [f"{prefix}_{key_id}_{other.split('_')[2]}", f"{prefix}_{other.split('_')[1]}_{secret}", "\0", "ü" * 60]
    wrong += [
        f"{prefix}_{key_id}_" + "\ud800" * 43,
        f"{prefix}_%_{secret}",
        f"{prefix}_{key_id[:-1]}٣_{secret}",
        "x" * 10**6,
    ]
    # One letter of the secret in the other case.
    place = next(i for i, letter in enumerate(secret) if letter.isalpha())
    wrong.append(f"{prefix}_{key_id}_{secret[:place]}{secret[place].swapcase()}{secret[place + 1 :]}")
    assert [text for text in wrong if store.keys.find(text) is not None] == []


def test_a_revoked_key_is_good_for_nothing_and_stays_listed(store: Store):
    text, made = store.keys.create("Anna")
    first = store.keys.revoke(made.id)
    assert first.revoked is not None
    assert store.keys.find(text) is None
    assert store.keys.revoke(made.id) == first == store.keys.all()[0]


def test_an_unknown_id_names_the_nearest_and_no_key_is_repeated(store: Store):
    with pytest.raises(UserError) as none:
        store.keys.revoke("nothing")
    assert "ownlm keys create" in str(none.value)
    text, made = store.keys.create("Anna")
    with pytest.raises(UserError) as near:
        store.keys.revoke(made.id[:-1])
    assert made.id in str(near.value)
    with pytest.raises(UserError) as whole:
        store.keys.revoke(text)
    assert text.split("_")[2] not in str(whole.value)


@pytest.mark.parametrize(
    ("name", "options", "where"),
    [
        ("  ", {}, "name"),
        ("a\nb", {}, "name"),
        ("x" * 201, {}, "name"),
        ("a", {"role": "root"}, "role"),
        ("a", {"requests_per_minute": 0}, "requests_per_minute"),
        ("a", {"tokens_per_day": -1}, "tokens_per_day"),
        ("a", {"tokens_per_day": 2**63}, "tokens_per_day"),
    ],
)
def test_what_is_no_key_is_refused(store: Store, name: str, options: dict, where: str):
    with pytest.raises(UserError) as error:
        store.keys.create(name, **options)
    assert error.value.where == where
    assert store.keys.all() == []


def test_the_last_use_is_kept_to_a_minute(store: Store):
    text, _ = store.keys.create("Anna")
    assert store.keys.all()[0].last_used is None
    before = datetime.now(UTC)
    store.keys.find(text)
    first = store.keys.all()[0].last_used
    assert first is not None
    assert before - timedelta(seconds=1) <= first <= datetime.now(UTC) + timedelta(seconds=1)
    store.keys.find(text)
    assert store.keys.all()[0].last_used == first
    long_ago = datetime.now(UTC) - timedelta(hours=1)
    with store._database.writing() as connection:
        connection.execute(update(KEYS).values(last_used=long_ago))
    store.keys.find(text)
    again = store.keys.all()[0].last_used
    assert again is not None
    assert again > long_ago
    assert store.keys.find(text.replace(text[-1], "!")) is None


def test_many_threads_find_and_make_keys_at_once(store: Store):
    text, _ = store.keys.create("shared")
    wrong: list[object] = []

    def work() -> None:
        try:
            for _ in range(5):
                mine, made = store.keys.create("own")
                found = store.keys.find(mine)
                if store.keys.find(text) is None or found is None or found.id != made.id:
                    wrong.append(mine)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(store.keys.all()) == 61
