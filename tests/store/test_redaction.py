"""Personal data never reaches the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from ownlm.data.personal.options import PersonalOptions
from ownlm.store import Answer, Conversation, Store

MAIL, CARD, IBAN = "anna.schmidt@posteo.de", "4111 1111 1111 1111", "DE89 3704 0044 0532 0130 00"


def conversation(key: str = "a") -> Conversation:
    call = {"id": "c1", "type": "function", "function": {"name": "send", "arguments": f'{{"to": "{MAIL}"}}'}}
    return Conversation(
        key,
        "tiny",
        "r1",
        (
            {"role": "user", "content": f"My mail is {MAIL}, my card {CARD}."},
            {"role": "user", "content": [{"type": "text", "text": f"IBAN: {IBAN}"}], "name": MAIL},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ),
        (Answer({"role": "assistant", "content": f"I write to {MAIL} now."}, "stop"),),
        options={"seed": 4111111111111111, "stop": [MAIL], "temperature": 0.5},
    )


def files(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def test_personal_data_is_masked_wherever_it_stands(tmp_path: Path):
    with Store.open(str(tmp_path / "store.db")) as store:
        assert store.conversations.add(conversation())
        store.feedback.add("a", "down", reason=f"tell {MAIL}", correction=f"Pay with {CARD}")
        found = store.conversations.get("a")
        (entry,) = store.feedback.all()
        # In the log as in the file.
        for value in (MAIL, CARD, IBAN, MAIL.split("@")[0]):
            assert value.encode() not in files(tmp_path)
    assert found is not None
    assert found.messages[0]["content"] == "My mail is [EMAIL], my card [CARD]."
    assert found.messages[1]["content"] == [{"type": "text", "text": "IBAN: [IBAN]"}]
    assert found.messages[1]["name"] == "[EMAIL]"
    assert found.messages[2]["tool_calls"][0]["function"]["arguments"] == '{"to": "[EMAIL]"}'
    assert found.answers[0].message["content"] == "I write to [EMAIL] now."
    assert found.options == {"seed": 4111111111111111, "stop": ["[EMAIL]"], "temperature": 0.5}
    assert (entry.reason, entry.correction) == ("tell [EMAIL]", "Pay with [CARD]")


def test_a_value_has_one_stand_in_in_the_whole_conversation(tmp_path: Path):
    options = PersonalOptions(policy={"email": "replace", "card": "keep"})
    with Store.open(str(tmp_path / "store.db"), redact=options) as store:
        store.conversations.add(conversation())
        found = store.conversations.get("a")
    assert found is not None
    assert found.messages[0]["content"] == f"My mail is email1@example.com, my card {CARD}."
    assert found.answers[0].message["content"] == "I write to email1@example.com now."


def test_what_must_not_be_kept_is_not(tmp_path: Path):
    with Store.open(str(tmp_path / "store.db"), redact=PersonalOptions(policy={"card": "drop"})) as store:
        assert not store.conversations.add(conversation())
        assert store.conversations.count() == 0
        plain = Conversation(
            "b", "tiny", "r1", ({"role": "user", "content": "Hi"},), (Answer({"role": "assistant", "content": "Ho"}),)
        )
        assert store.conversations.add(plain)
        entry = store.feedback.add("b", "down", reason=f"my card is {CARD}")
    assert (entry.rating, entry.reason) == ("down", "")


def test_one_of_our_own_keys_said_in_a_conversation_is_masked(tmp_path: Path):
    with Store.open(str(tmp_path / "store.db")) as store:
        text, _ = store.keys.create("Anna")
        question = {"role": "user", "content": f"Why does {text} not work?"}
        store.conversations.add(Conversation("a", "tiny", "r1", (question,), ()))
        found = store.conversations.get("a")
    assert found is not None
    assert found.messages[0]["content"] == "Why does [SECRET] not work?"


@pytest.mark.parametrize(
    "said", ["", "no personal data at all", '{"a": [1, 2.5, null, "x"]}', "1234567890123456789 " * 3]
)
def test_the_rest_stays_as_it_is(tmp_path: Path, said: str):
    with Store.open(str(tmp_path / "store.db")) as store:
        plain = Conversation("a", "tiny", "r1", ({"role": "user", "content": said},), ())
        store.conversations.add(plain)
        found = store.conversations.get("a")
    assert found is not None
    assert found.messages == plain.messages
