"""Conversations in every shape, and the sentence for each that breaks the rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownlm.data.read import read_records
from ownlm.data.sources import Columns, Failure, RawDocument
from ownlm.data.sources.chats import find_conversation
from ownlm.data.sources.records import Unreadable
from ownlm.errors import DataError

Read = Callable[..., tuple[list[RawDocument], list[Failure]]]


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def answer(content: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


SYSTEM = {"role": "system", "content": "Be kind"}
CHAT = [user("Hi"), answer("Hello")]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
CALL = answer("", tool_calls=[{"id": "1", "function": {"name": "f", "arguments": "{}"}}])
RESULT = {"role": "tool", "content": "5", "tool_call_id": "1"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"messages": CHAT}, CHAT),
        ({"messages": json.dumps(CHAT)}, CHAT),
        ({"messages": [{"role": "developer", "content": "Be kind"}, *CHAT]}, [SYSTEM, *CHAT]),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, CHAT[1]]}, CHAT),
        ({"messages": [user("Hi") | {"name": None, "tool_calls": None}, CHAT[1]]}, CHAT),
        ({"messages": [user("2+3"), CALL, RESULT, answer("5")]}, [user("2+3"), CALL, RESULT, answer("5")]),
        ({"messages": [user("Hi"), {"role": "assistant", "content": None, "tool_calls": [1]}]}, None),
        ({"messages": [answer("Welcome"), *CHAT]}, [answer("Welcome"), *CHAT]),
        ({"messages": [*CHAT, user("Thanks")]}, [*CHAT, user("Thanks")]),
        ({"conversations": SHARED}, CHAT),
        ({"conversations": [{"from": "system", "value": "Be kind"}, *SHARED]}, [SYSTEM, *CHAT]),
        ({"conversations": CHAT}, CHAT),
        ({"conversation": CHAT, "text": "Hi Hello"}, CHAT),
        ({"instruction": "Hi", "output": "Hello"}, CHAT),
        ({"instruction": "Add", "input": "2 3", "output": "5"}, [user("Add\n\n2 3"), answer("5")]),
        ({"instruction": "Hi", "input": "", "output": "Hello", "system": "Be kind"}, [SYSTEM, *CHAT]),
        ({"instruction": "Hi", "response": "Hello", "context": "shop", "role": "bot"}, CHAT),
        ({"prompt": "Hi", "response": "Hello"}, CHAT),
        ({"prompt": "Hi", "completion": "Hello"}, CHAT),
        ({"prompt": [user("Hi")], "completion": [answer("Hello")]}, CHAT),
        ({"question": "Hi", "answer": "Hello", "system": "Be kind"}, [SYSTEM, *CHAT]),
    ],
)
def test_shapes(value: dict, expected: list | None) -> None:
    found = find_conversation(value, Columns())
    assert found is not None
    assert found.messages == (expected or [user("Hi"), answer("", tool_calls=[1])])
    assert found.notes == {}


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "No"},
        {"instruction": "Hi", "input": "", "output": "Hello", "chosen": "Hello", "rejected": "No"},
        {"prompt": [user("Hi")], "chosen": [answer("Hello")], "rejected": [answer("No")]},
        {"prompt": "Hi", "chosen": CHAT, "rejected": [user("Hi"), answer("No")]},
        {"chosen": CHAT, "rejected": [user("Hi"), answer("No")]},
        {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
    ],
)
def test_preferences(value: dict) -> None:
    found = find_conversation(value, Columns())
    assert found is not None
    assert found.messages == CHAT
    assert found.notes == {"rejected": [user("Hi"), answer("No")]}


def test_messages_of_one_role_in_a_row_are_joined_and_counted() -> None:
    found = find_conversation({"messages": [user("Hi"), user("there"), answer("Hello"), answer("you")]}, Columns())
    assert found is not None
    assert found.messages == [user("Hi\n\nthere"), answer("Hello\n\nyou")]
    assert found.notes == {"joined": 2}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"messages": []}, "must be a list of messages"),
        ({"messages": "Hi"}, "not the JSON of a list"),
        ({"messages": {"role": "user"}}, "must be a list of messages"),
        ({"messages": ["Hi"]}, "message 1 is not an object"),
        ({"messages": [{"content": "Hi"}]}, "message 1 has no role"),
        ({"messages": [user("Hi"), {"role": "narrator", "content": "x"}]}, "the unknown role 'narrator'"),
        ({"messages": [user("Hi"), {"role": "assistant"}]}, "message 2 is not a text but NoneType"),
        ({"messages": [user("Hi"), answer(" ")]}, "message 2 is empty"),
        ({"messages": [user("Hi"), answer("\ud83d")]}, "half a character"),
        ({"messages": [user("Hi")]}, "no answer"),
        ({"messages": [answer("Hi"), user("Hello")]}, "no answer"),
        ({"messages": [answer("Hello")]}, "no message is the user's"),
        ({"messages": [user("Hi"), SYSTEM, answer("Hello")]}, "system message stands behind"),
        ({"messages": [user("Hi"), RESULT, answer("Hello")]}, "follows no call"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, CHAT[1]]}, "part that is not text"),
        ({"prompt": "Hi", "response": ""}, "'response' is empty"),
        ({"prompt": "Hi", "response": 5}, "'response' is not a text but int"),
        ({"chosen": "Hello", "rejected": "No"}, "not the JSON of a list"),
        ({"prompt": "Hi", "chosen": "", "rejected": "No"}, "message 2 is empty"),
    ],
)
def test_broken_conversations(value: dict, message: str) -> None:
    with pytest.raises(Unreadable, match=message) as caught:
        find_conversation(value, Columns())
    assert caught.value.reason == ("not-utf8" if "half" in message else "invalid-chat")


def test_named_columns(tmp_path: Path, read: Read) -> None:
    rows = [{"q": "Hi", "a": "Hello", "who": 7, "day": "Monday", "text": "not this"}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt": "q", "response": "a", "group": "who", "id": "who", "metadata": ["day", "absent"]}
    ([document], failures) = read(tmp_path, columns=columns)
    assert (document.messages, document.group, failures) == (CHAT, "7", [])
    assert document.metadata == {"day": "Monday", "id": 7}
    ([document], _) = read(tmp_path, columns={"text": "text"})
    assert (document.content, document.messages) == ("not this", None)
    assert [f.reason for f in read(tmp_path, columns={"text": "body"})[1]] == ["unknown-columns"]
    assert [f.reason for f in read(tmp_path, columns={"messages": "text"})[1]] == ["invalid-chat"]


values = st.recursive(
    st.none() | st.text() | st.integers() | st.just("user") | st.just("assistant"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "from", "value"]), inner)
    ),
    max_leaves=8,
)
KEYS = [
    "messages",
    "conversations",
    "prompt",
    "response",
    "chosen",
    "rejected",
    "instruction",
    "input",
    "output",
    "system",
]


@given(st.dictionaries(st.sampled_from(KEYS), values))
@settings(max_examples=60, deadline=None)
def test_nothing_but_its_own_error_is_raised(value: dict) -> None:
    try:
        found = find_conversation(value, Columns())
    except Unreadable:
        return
    assert found is None or all(isinstance(message["content"], str) for message in found.messages)


def test_the_same_conversations_as_training_reads(shared_data: Path, read: Read) -> None:
    path = shared_data / "bitext_support" / "bitext_support_long_responses.csv"
    documents, failures = read(path)
    assert [(d.line, d.messages) for d in documents] == [(r.line, r.messages) for r in read_records([path], "chat")]
    assert failures == []


def test_real_preferences(shared_data: Path, read: Read) -> None:
    documents, failures = read(shared_data / "hh_rlhf" / "test.jsonl.gz")
    assert len(documents) + len(failures) == 2312
    # Three pairs have an answer that was never given.
    assert [f.reason for f in failures] == ["invalid-chat"] * 3
    assert all(d.messages and d.metadata["rejected"][0] == d.messages[0] for d in documents)


ROWS = [
    {"ticket": 1, "who": "customer", "said": "Hi"},
    {"ticket": 1, "who": "customer", "said": "Anyone?"},
    {"ticket": 1, "who": "agent", "said": "Hello"},
    {"ticket": 2, "who": "customer", "said": "A question"},
    {"ticket": 3, "who": "visitor", "said": "Hi"},
    {"ticket": 3, "who": "agent", "said": None},
    {"ticket": 3, "who": "agent", "said": "Hello"},
    {"ticket": 4, "who": "alien", "said": "Hi"},
    {"ticket": None, "who": "agent", "said": "Hi"},
    {"ticket": 1, "who": "agent", "said": "again"},
]
FOLD = {"conversation": "ticket", "role": "who", "content": "said"}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_with_a_message_each_become_conversations(tmp_path: Path, read: Read, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    documents, failures = read(path, columns=FOLD)
    assert [(d.line, d.group, d.messages) for d in documents] == [
        (1, "1", [user("Hi\n\nAnyone?"), answer("Hello")]),
        (5, "3", CHAT),
    ]
    assert [d.metadata for d in documents] == [
        {"conversation": "1", "joined": 1},
        {"conversation": "3", "empty": 1},
    ]
    assert [(f.line, f.reason) for f in failures] == [
        (4, "invalid-chat"),
        (9, "damaged-record"),
        (8, "invalid-chat"),
        (10, "invalid-chat"),
    ]
    assert "columns.roles" in failures[2].message
    assert "order the rows" in failures[3].message
    documents, _ = read(path, columns=FOLD | {"roles": {"alien": "assistant", "visitor": "assistant", "agent": "user"}})
    assert [d.messages for d in documents] == []
    documents, _ = read(path, columns=FOLD | {"roles": {"visitor": "assistant", "agent": "user", "customer": "user"}})
    assert documents == []


def test_training_refuses_what_is_refused_here(tmp_path: Path) -> None:
    """Both readers keep one rule on what a conversation is; this one only knows more shapes."""
    path = tmp_path / "x.jsonl"
    for value in ({"messages": [user("Hi")]}, {"messages": [answer("Hello")]}, {"prompt": "Hi", "response": ""}):
        path.write_text(json.dumps(value))
        with pytest.raises(DataError):
            list(read_records([path], "chat"))
        with pytest.raises(Unreadable):
            find_conversation(value, Columns())
