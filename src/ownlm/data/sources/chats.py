"""Conversations in the shapes that people keep them in, brought to one: a list of messages, each a role and a content.

| shape | known by |
|---|---|
| OpenAI | ``messages``, each with ``role`` and ``content`` (a text, or a list of text parts) |
| ShareGPT | ``conversations``, each with ``from`` and ``value`` |
| question and answer | ``prompt`` with ``response`` or ``completion``, ``question`` with ``answer`` |
| Alpaca | ``instruction``, ``input`` or not, with ``output`` or ``response`` |
| preference | ``chosen`` and ``rejected``: texts beside a question, conversations, or Human/Assistant transcripts |

``system`` may stand beside a question. A list may be given as JSON in a text, as tables do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import DataError
from ..messages import check_messages
from .options import Columns
from .records import Unreadable

LISTS = ("messages", "conversations", "conversation")
QUESTIONS = (
    ("prompt", "response"),
    ("prompt", "completion"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
)
PREFERENCE = ("chosen", "rejected")
KEYS = frozenset([*LISTS, *PREFERENCE, "input", "system", *(key for pair in QUESTIONS for key in pair)])

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "customer": "user",
    "client": "user",
    "visitor": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "agent": "assistant",
    "support": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_TURN = re.compile(r"\n\n(Human|Assistant):")

Message = dict[str, Any]


class Conversation(NamedTuple):
    """A conversation that keeps the rules.

    Attributes:
        messages: each with a role and a content.
        notes: ``joined``, how many messages were joined with the one before, which was of the same role; ``rejected``,
            the conversation with the answer that was not preferred.
    """

    messages: list[Message]
    notes: dict[str, Any]


def find_conversation(value: Mapping[str, Any], columns: Columns) -> Conversation | None:
    """The conversation that a record holds; None where it holds none.

    Raises:
        Unreadable: there is one, and it breaks the rules.
    """
    if columns.messages:
        return _checked(_listed(value.get(columns.messages), columns.messages))
    if columns.prompt and columns.response:
        return _answered(value, columns, columns.prompt, columns.response)
    if all(value.get(key) is not None for key in PREFERENCE):
        return _preference(value, columns)
    for key in LISTS:
        given = value.get(key)
        # A column called "conversation" may as well hold an id.
        if given is not None and (key != "conversation" or isinstance(given, list)):
            return _checked(_listed(given, key))
    for asked, answered in QUESTIONS:
        if value.get(asked) is not None and value.get(answered) is not None:
            return _answered(value, columns, asked, answered)
    return None


def _listed(value: Any, key: str) -> list[Any]:
    """A list of messages, which may come as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise _invalid(f"'{key}' is a text, and not the JSON of a list") from None
    if not isinstance(value, list) or not value:
        raise _invalid(f"'{key}' must be a list of messages")
    return value


def _answered(value: Mapping[str, Any], columns: Columns, asked: str, answered: str) -> Conversation:
    answer = value.get(answered)
    answers = answer if isinstance(answer, list) else [{"role": "assistant", "content": _text(answer, answered)}]
    return _checked([*_question(value, columns, asked), *answers])


def _question(value: Mapping[str, Any], columns: Columns, asked: str) -> list[Any]:
    """What stands before the answer: the question and its input, with the system's message."""
    question = value.get(asked)
    if isinstance(question, list):
        return question
    question = _text(question, asked)
    below = columns.input or ("input" if asked == "instruction" else None)
    if below and value.get(below):
        question += "\n\n" + _text(value[below], below)
    messages = [{"role": "user", "content": question}]
    above = columns.system or "system"
    if value.get(above):
        messages.insert(0, {"role": "system", "content": _text(value[above], above)})
    return messages


def _preference(value: Mapping[str, Any], columns: Columns) -> Conversation:
    asked = next((key for key in ("prompt", "instruction", "question") if value.get(key) is not None), None)
    both = []
    for key in PREFERENCE:
        given = value[key]
        if isinstance(given, str) and _TURN.match(given):
            both.append(_checked(_transcript(given)))
        elif isinstance(given, str) and asked:
            both.append(_checked([*_question(value, columns, asked), {"role": "assistant", "content": given}]))
        else:
            messages = _listed(given, key)
            before = _question(value, columns, asked) if asked else []
            # Some write the question into both answers as well.
            alone = any(_role(message) == "user" for message in messages if isinstance(message, Mapping))
            both.append(_checked(messages if alone else [*before, *messages]))
    chosen, rejected = both
    return Conversation(chosen.messages, {**chosen.notes, "rejected": rejected.messages})


def _transcript(text: str) -> list[Message]:
    """The turns of "\\n\\nHuman: ...\\n\\nAssistant: ..."; an empty last one has not been said."""
    parts = _TURN.split(text)[1:]
    turns = [
        {"role": _ROLES[who.lower()], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    return [turn for turn in turns if turn["content"]]


def _text(value: Any, key: str) -> str:
    if isinstance(value, bytes):
        raise Unreadable("not-utf8", f"'{key}' is not UTF-8")
    if not isinstance(value, str):
        raise _invalid(f"'{key}' is not a text but {type(value).__name__}")
    if not value.strip():
        raise _invalid(f"'{key}' is empty")
    return value


def _role(message: Mapping[str, Any]) -> str | None:
    role = message.get("role") or message.get("from")
    return _ROLES.get(role.lower()) if isinstance(role, str) else None


def known_role(word: Any, roles: Mapping[str, str]) -> str | None:
    """The role that a word means: as the recipe says, or as is usual; None where neither knows it."""
    text = str(word).strip()
    return roles.get(text) or _ROLES.get(text.lower())


def _checked(given: Sequence[Any]) -> Conversation:
    """The messages in one shape, with those of one role in a row joined by an empty line.

    Raises:
        Unreadable: a role is unknown, a content is no text or empty, a system's message stands behind another, a tool
            answers no call, or no answer follows a question.
    """
    messages: list[Message] = []
    joined = 0
    for number, message in enumerate(given, 1):
        made = _message(message, number)
        if messages and _joinable(messages[-1], made):
            messages[-1]["content"] += "\n\n" + made["content"]
            joined += 1
        else:
            messages.append(made)
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        raise _invalid("a system message stands behind another message")
    for before, role in zip(["", *roles], roles, strict=False):
        if role == "tool" and before not in ("assistant", "tool"):
            raise _invalid("a tool's message follows no call")
    if "user" not in roles:
        raise _invalid("no message is the user's")
    if "assistant" not in roles[roles.index("user") :]:
        raise _invalid("it has no answer to learn from")
    try:
        check_messages(messages)
    except DataError as error:
        raise _invalid(error.message) from None
    return Conversation(messages, {"joined": joined} if joined else {})


def _message(message: Any, number: int) -> Message:
    if not isinstance(message, Mapping):
        raise _invalid(f"message {number} is not an object with a role and a content")
    role = _role(message)
    if role is None:
        named = message.get("role") or message.get("from")
        raise _invalid(f"message {number} has the unknown role '{named}'" if named else f"message {number} has no role")
    content = message.get("content", message.get("value"))
    if isinstance(content, list):
        content = "".join(_part(part, number) for part in content)
    calls = message.get("tool_calls")
    if content is None and calls:
        content = ""
    if not isinstance(content, str):
        raise _invalid(f"the content of message {number} is not a text but {type(content).__name__}")
    if not content.strip() and not calls:
        raise _invalid(f"message {number} is empty")
    if not whole_characters(content):
        raise Unreadable("not-utf8", f"message {number} holds half a character")
    # A table gives every message every key, most of them empty.
    rest = {k: v for k, v in message.items() if v is not None and k not in ("role", "from", "content", "value")}
    return {"role": role, "content": content, **rest}


def _part(part: Any, number: int) -> str:
    """The text of one part, where a content is a list of parts."""
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return part["text"]
    raise _invalid(f"message {number} has a part that is not text")


def _joinable(before: Message, message: Message) -> bool:
    plain = before.keys() == message.keys() == {"role", "content"}
    return plain and before["role"] == message["role"] != "tool"


def whole_characters(text: str) -> bool:
    """Whether a text has no half of a surrogate pair, which JSON can write and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _invalid(message: str) -> Unreadable:
    return Unreadable("invalid-chat", message)
