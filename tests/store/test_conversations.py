"""Conversations and what people said about them: what was written comes back, in order, page by page, and goes for good."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from ownlm.errors import UserError
from ownlm.store import Answer, Conversation, Purged, Store

Talk = Callable[..., Conversation]
NOON = datetime(2031, 5, 4, 12, tzinfo=UTC)


def test_everything_comes_back_as_it_was_said(store: Store):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    messages = (
        {"role": "system", "content": "Be kind. 🙂\n\n\tIndented."},
        {"role": "user", "content": [{"type": "text", "text": "How is it?"}], "name": "anna"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": ""},
    )
    answers = (
        Answer({"role": "assistant", "content": "Sunny."}, "stop"),
        Answer({"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"),
    )
    said = Conversation(
        "chatcmpl-1",
        "tiny",
        "sha256:ab",
        messages,
        answers,
        options={"temperature": 0.7, "seed": 2**62, "stop": ["\n"], "stream": True, "response_format": None},
        prompt_tokens=12,
        completion_tokens=2**40,
        timings={"first_token": 0.25},
        key_id="abc",
        created=datetime(2031, 5, 4, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2))),
    )
    assert store.conversations.add(said)
    assert store.conversations.get("chatcmpl-1") == said
    assert store.conversations.count() == 1
    for unknown in ("chatcmpl-2", "", "\0", "\ud800", "%", "x" * 10_000):
        assert store.conversations.get(unknown) is None


def test_an_id_is_written_once(store: Store, talk: Talk):
    store.conversations.add(talk("a", "first"))
    with pytest.raises(UserError, match="already"):
        store.conversations.add(talk("a", "second"))
    found = store.conversations.get("a")
    assert found is not None
    assert found.messages[0]["content"] == "first"


def test_characters_that_a_database_has_no_place_for_are_marked(store: Store, talk: Talk):
    store.conversations.add(talk("a", "nul \0 here", "half \ud83d pair", options={"stop": ["\0"]}))
    found = store.conversations.get("a")
    assert found is not None
    assert found.messages[0]["content"] == "nul \ufffd here"
    assert found.answers[0].message["content"] == "half ? pair"
    assert found.options == {"stop": ["\ufffd"]}


def test_pages_hold_each_conversation_once_the_newest_first(store: Store, talk: Talk):
    # Some at the same moment, as a busy server has them.
    moments = {f"c{number:02}": NOON + timedelta(seconds=number // 3) for number in range(20)}
    for key in sorted(moments, key=lambda key: hash(key)):
        store.conversations.add(talk(key, created=moments[key], key_id="even" if int(key[1:]) % 2 == 0 else "odd"))
    expected = sorted(moments, key=lambda key: (moments[key], key), reverse=True)
    seen: list[str] = []
    page = store.conversations.newest(limit=7)
    while page:
        seen += [conversation.id for conversation in page]
        page = store.conversations.newest(limit=7, before=page[-1])
    assert seen == expected
    even = [conversation.id for conversation in store.conversations.newest(key_id="even")]
    assert even == [key for key in expected if int(key[1:]) % 2 == 0]


def test_feedback_is_on_an_answer_that_is_here_and_the_last_word_counts(store: Store, talk: Talk):
    store.conversations.add(talk("a"))
    store.conversations.add(talk("b"))
    store.feedback.add("a", "up", key_id="k1")
    store.feedback.add("a", "down", key_id="k2", reason="wrong", correction="Right.\0")
    last = store.feedback.add("a", "down", key_id="k1", reason="on second thought")
    assert store.feedback.count() == 2
    by_key = {entry.key_id: entry for entry in store.feedback.of("a")}
    assert by_key["k1"] == last
    assert (by_key["k2"].rating, by_key["k2"].reason, by_key["k2"].correction) == ("down", "wrong", "Right.\ufffd")
    assert [conversation.id for conversation in store.conversations.newest(rating="down")] == ["a"]
    assert store.conversations.newest(rating="up") == []
    assert store.feedback.all(rating="up") == []
    assert store.feedback.all(since=last.created) == [last]
    for conversation, answer in (("c", 0), ("a", 1), ("a", -1), ("a", 2**31), ("a", 2**80), ("\0", 0), ("\ud800", 0)):
        with pytest.raises(UserError, match="no answer"):
            store.feedback.add(conversation, "up", answer=answer)
    with pytest.raises(UserError, match="not a rating"):
        store.feedback.add("a", "sideways")  # type: ignore[arg-type]
    assert store.feedback.count() == 2


def test_old_conversations_go_with_their_feedback_and_their_texts(store: Store, talk: Talk, url: str, tmp_path: Path):
    for number in range(1200):
        age = timedelta(days=10 if number % 2 else 1)
        store.conversations.add(talk(f"c{number}", f"marzipan-{number}", created=NOON - age))
    store.feedback.add("c0", "up")
    store.feedback.add("c1", "up", reason="quincunx")
    assert store.purge(30, now=NOON) == Purged(0, 0)
    assert store.purge(7, now=NOON) == Purged(600, 1)
    assert store.conversations.count() == 600
    assert [entry.conversation_id for entry in store.feedback.all()] == ["c0"]
    assert store.conversations.get("c1") is None
    if url.startswith("sqlite"):
        left = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"marzipan-1198" in left
        assert b"marzipan-1199" not in left
        assert b"quincunx" not in left
    assert store.conversations.remove("c0")
    assert not store.conversations.remove("c0")
    assert store.feedback.count() == 0
    for days in (-1, float("nan"), float("inf")):
        with pytest.raises(UserError):
            store.purge(days)


def test_feedback_and_a_purge_at_once_leave_nothing_without_its_conversation(store: Store, talk: Talk):
    for number in range(60):
        store.conversations.add(talk(f"c{number}", created=NOON - timedelta(days=10)))
    others: list[Exception] = []

    def rate() -> None:
        for number in range(60):
            try:
                store.feedback.add(f"c{number}", "up")
            except UserError:
                pass
            except Exception as error:
                others.append(error)

    threads = [threading.Thread(target=rate) for _ in range(4)]
    for thread in threads:
        thread.start()
    store.purge(7, now=NOON)
    for thread in threads:
        thread.join()
    assert others == []
    assert (store.conversations.count(), store.feedback.count()) == (0, 0)
