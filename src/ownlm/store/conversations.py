"""Conversations with their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, and_, delete, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from ..errors import UserError
from .database import Database
from .records import Answer, Conversation, Rating
from .redaction import Redaction, cleaned
from .tables import CONVERSATIONS, FEEDBACK, MESSAGES

# A statement has so many parameters and no more.
_READ_AT_ONCE = 1000


class Conversations:
    """The conversations of a store, each written once."""

    def __init__(self, database: Database, redaction: Redaction) -> None:
        self._database = database
        self._redaction = redaction

    def add(self, conversation: Conversation) -> bool:
        """Writes a conversation with its answers, personal data redacted, whole and durably before it returns.

        Returns:
            Whether it was kept: False where it holds personal data of a kind for which the policy is ``drop``.

        Raises:
            UserError: there is one of this id already.
            MissingExtra: a library that searches for personal data is not installed.
        """
        # Numbers of options are no texts, and a seed may look like a telephone number.
        numbers = {key: value for key, value in conversation.options.items() if isinstance(value, int | float)}
        texts: dict[str, Any] = {
            "messages": [dict(message) for message in conversation.messages],
            "answers": [dict(answer.message) for answer in conversation.answers],
            "options": {key: value for key, value in conversation.options.items() if key not in numbers},
        }
        said = self._redaction(texts)
        if said is None:
            return False
        row = {
            "id": conversation.id,
            "model": conversation.model,
            "release": conversation.release,
            "options": said["options"] | numbers,
            "prompt_tokens": conversation.prompt_tokens,
            "completion_tokens": conversation.completion_tokens,
            "timings": dict(conversation.timings),
            "key_id": conversation.key_id,
            "created": conversation.created or datetime.now(UTC),
        }
        rows = [_message_row(message) for message in said["messages"]]
        for index, (message, answer) in enumerate(zip(said["answers"], conversation.answers, strict=True)):
            rows.append({**_message_row(message), "answer": index, "finish_reason": answer.finish_reason})
        for position, message in enumerate(rows):
            message |= {"conversation_id": conversation.id, "position": position}
        try:
            with self._database.writing() as connection:
                connection.execute(insert(CONVERSATIONS).values(row))
                if rows:
                    connection.execute(insert(MESSAGES), rows)
        except IntegrityError:
            raise UserError(
                f"there is a conversation with the id '{conversation.id}' already", where=self._database.name
            ) from None
        return True

    def get(self, conversation_id: str) -> Conversation | None:
        """The conversation of an id, as it was kept; None where there is none."""
        found = self._read(select(CONVERSATIONS).where(CONVERSATIONS.c.id == cleaned(conversation_id)))
        return found[0] if found else None

    def newest(
        self,
        *,
        limit: int = 100,
        before: Conversation | None = None,
        key_id: str | None = None,
        rating: Rating | None = None,
    ) -> list[Conversation]:
        """Conversations, the newest first.

        Args:
            limit: at most this many.
            before: only older ones: the last of the page before.
            key_id: only those with this key.
            rating: only those of which an answer was rated so.
        """
        chosen = select(CONVERSATIONS)
        if before is not None:
            assert before.created is not None
            older = CONVERSATIONS.c.created < before.created
            same = and_(CONVERSATIONS.c.created == before.created, CONVERSATIONS.c.id < before.id)
            chosen = chosen.where(or_(older, same))
        if key_id is not None:
            chosen = chosen.where(CONVERSATIONS.c.key_id == key_id)
        if rating is not None:
            rated = select(FEEDBACK.c.conversation_id).where(FEEDBACK.c.rating == rating)
            chosen = chosen.where(CONVERSATIONS.c.id.in_(rated))
        return self._read(chosen.order_by(CONVERSATIONS.c.created.desc(), CONVERSATIONS.c.id.desc()).limit(limit))

    def count(self) -> int:
        """How many there are."""
        with self._database.reading() as connection:
            return connection.execute(select(func.count()).select_from(CONVERSATIONS)).scalar_one()

    def remove(self, conversation_id: str) -> bool:
        """Removes a conversation with its feedback, as somebody may ask for; whether there was one."""
        with self._database.writing() as connection:
            gone = connection.execute(delete(CONVERSATIONS).where(CONVERSATIONS.c.id == conversation_id))
        return gone.rowcount > 0

    def _read(self, chosen: Any) -> list[Conversation]:
        with self._database.reading() as connection:
            rows = connection.execute(chosen).all()
            said: dict[str, list[Row]] = {row.id: [] for row in rows}
            for first in range(0, len(rows), _READ_AT_ONCE):
                ids = [row.id for row in rows[first : first + _READ_AT_ONCE]]
                of_these = select(MESSAGES).where(MESSAGES.c.conversation_id.in_(ids))
                for message in connection.execute(of_these.order_by(MESSAGES.c.conversation_id, MESSAGES.c.position)):
                    said[message.conversation_id].append(message)
        return [_conversation(row, said[row.id]) for row in rows]


def _message_row(message: Mapping[str, Any]) -> dict[str, Any]:
    more = {key: value for key, value in message.items() if key != "role"}
    content = more.pop("content") if isinstance(more.get("content"), str) else None
    return {"role": str(message["role"]), "content": content, "more": more, "answer": None, "finish_reason": None}


def _message(row: Row) -> dict[str, Any]:
    content = {} if row.content is None else {"content": row.content}
    return {"role": row.role, **content, **row.more}


def _conversation(row: Row, said: Sequence[Row]) -> Conversation:
    values = {column.name: getattr(row, column.name) for column in CONVERSATIONS.c}
    messages = tuple(_message(message) for message in said if message.answer is None)
    answers = tuple(Answer(_message(message), message.finish_reason) for message in said if message.answer is not None)
    return Conversation(**values, messages=messages, answers=answers)
