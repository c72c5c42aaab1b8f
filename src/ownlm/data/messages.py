"""What a conversation is: a list of messages, each a role and a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import DataError, nearest

ROLES = ("system", "user", "assistant", "tool")

Messages = Sequence[Mapping[str, Any]]
# What a model may call, each as chat templates read it: {"type": "function", "function": {"name", "parameters", ...}}.
Tools = Sequence[Mapping[str, Any]]


def check_messages(messages: Any) -> None:
    """Checks that a conversation is a list of messages, each a role and a text.

    Raises:
        DataError: says which message is wrong, and how.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        raise DataError("a list of messages was expected", hint='for example [{"role": "user", "content": "Hello"}]')
    if not messages:
        raise DataError("this conversation has no messages")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping):
            raise DataError(f"message {number} is not an object with a role and a content")
        for key in ("role", "content"):
            if key not in message:
                found = ", ".join(map(str, message)) or "nothing"
                raise DataError(f"message {number} has no '{key}'", hint=f"it has: {found}")
        if message["role"] not in ROLES:
            hint = nearest(str(message["role"]), ROLES)
            raise DataError(f"message {number} has the unknown role '{message['role']}'", hint=hint)
        if not isinstance(message["content"], str):
            kind = type(message["content"]).__name__
            raise DataError(f"the content of message {number} is not a text but {kind}")
