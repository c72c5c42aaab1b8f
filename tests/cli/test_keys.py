"""``ownlm keys`` and ``ownlm store``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ownlm.store import Answer, Conversation, Store

Run = Callable[..., Any]


def test_a_key_is_made_shown_once_listed_and_revoked(ownlm: Run, tmp_path: Path):
    made = ownlm("keys", "create", "Anna's laptop", "--role", "admin", "--tokens-per-day", "1000")
    assert made.code == 0
    key = made.out.strip()
    assert key.startswith("ownlm_")
    assert key not in made.err
    assert str(tmp_path / "home" / "store.db") in made.err
    other = ownlm("keys", "create", "Ben", "--requests-per-minute", "5", "--json").object
    assert {"key", "id"} <= set(other)
    assert ownlm("keys", "create", "--json").object["name"] == "unnamed"
    listed = ownlm("keys", "list", "--json")
    assert key.split("_")[2] not in listed.out
    assert [(k["name"], k["role"], k["tokens_per_day"], k["requests_per_minute"]) for k in listed.object["keys"]] == [
        ("Anna's laptop", "admin", 1000, None),
        ("Ben", "use", None, 5),
        ("unnamed", "use", None, None),
    ]
    with Store.open(str(tmp_path / "home" / "store.db")) as store:
        assert store.keys.find(key) is not None
        revoked = ownlm("keys", "revoke", other["id"], "--json").object
        assert revoked["id"] == other["id"] and revoked["revoked"]
        # In a process that had the store open before, from the next request on.
        assert store.keys.find(other["key"]) is None
    shown = ownlm("keys", "list").err
    assert "Ben" in shown and "revoked" in shown


def test_an_empty_list_says_what_to_do(ownlm: Run):
    assert ownlm("keys", "list", "--json").object == {"keys": []}
    assert "ownlm keys create" in ownlm("keys", "list").err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["keys", "create", ""], "a key needs a name"),
        (["keys", "revoke"], "missing"),
        (["keys", "create", "a", "--role", "amdin"], "admin"),
        (["keys", "create", "a", "--requests-per-minute", "0"], "positive"),
        (["keys", "create", "a", "--store", "mysql://h/d"], "mysql"),
        (["keys", "revoke", "nothing"], "nothing"),
        (["keys", "revok", "x"], "revoke"),
        (["store", "purge"], "--days"),
        (["store", "purge", "--days", "-1"], "0 or more"),
    ],
)
def test_a_wrong_line_is_refused(ownlm: Run, line: list[str], said: str):
    outcome = ownlm(*line, "--json")
    assert outcome.code == 2
    assert said in str(outcome.object["error"])


def test_old_conversations_are_purged_and_the_rest_is_counted(ownlm: Run, tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'mine.db'}"
    with Store.open(url) as store:
        for key, days in (("old", 40), ("new", 1)):
            created = datetime.now(UTC) - timedelta(days=days)
            answer = Answer({"role": "assistant", "content": "Hi"})
            question = {"role": "user", "content": "Hello"}
            store.conversations.add(Conversation(key, "tiny", "r1", (question,), (answer,), created=created))
            store.feedback.add(key, "up")
        store.keys.create("Anna")
        gone = ownlm("store", "purge", "--days", "30", "--store", url, "--json")
        assert gone.object == {"conversations": 1, "feedback": 1}
        shown = ownlm("store", "show", "--store", url, "--json").object
    assert (shown["conversations"], shown["feedback"], shown["keys"]) == (1, 1, 1)
