"""The tables, as the newest migration leaves them.

Texts that people and models write are ``Text`` without a limit; lists and objects are JSON. Moments are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

# Databases name what has no name each in their own way; a migration must find it again.
METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """A moment with its time zone: SQLite keeps none, so everything is kept in UTC and comes back in UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a moment without a time zone"
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


KEYS = Table(
    "keys",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", Text, nullable=False),
    Column("role", String(16), CheckConstraint("role in ('use', 'review', 'admin')", name="role"), nullable=False),
    # SHA-256 of the whole key, in hexadecimal.
    Column("hash", String(64), nullable=False),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_day", BigInteger),
    Column("created", Moment, nullable=False),
    Column("revoked", Moment),
    Column("last_used", Moment),
)

USAGE = Table(
    "usage",
    METADATA,
    Column("key_id", String(32), primary_key=True),
    Column("day", Date, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)

CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("model", Text, nullable=False),
    Column("release", Text, nullable=False),
    Column("options", JSON, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("timings", JSON, nullable=False),
    Column("key_id", String(32), nullable=False),
    Column("created", Moment, nullable=False),
    # The list of conversations is by time, the newest first.
    Index(None, "created", "id"),
)

MESSAGES = Table(
    "messages",
    METADATA,
    Column("conversation_id", String(200), ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    # Prompt and answers are counted through.
    Column("position", Integer, primary_key=True),
    # Which answer it is; null in a prompt.
    Column("answer", Integer),
    Column("role", Text, nullable=False),
    # Null where the content is no text; it is in ``more`` then.
    Column("content", Text),
    # What else the message has: tool calls, a name, parts.
    Column("more", JSON, nullable=False),
    Column("finish_reason", Text),
)

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("conversation_id", String(200), ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    Column("answer", Integer, primary_key=True),
    Column("key_id", String(32), primary_key=True),
    Column("rating", String(8), CheckConstraint("rating in ('up', 'down')", name="rating"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("correction", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Index(None, "created"),
)

EVALUATIONS = Table(
    "evaluations",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("model", Text, nullable=False),
    # The hash of what was measured: weights, tokenizer, settings.
    Column("release", String(64), nullable=False),
    # The hash of what was asked for, by which one knows when it is due again.
    Column("asked", String(64), nullable=False),
    # How it was measured, in words for people.
    Column("conditions", JSON, nullable=False),
    Column("created", Moment, nullable=False),
    Index(None, "model", "created"),
)

SCORES = Table(
    "scores",
    METADATA,
    Column("evaluation_id", String(32), ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("task", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("shots", Integer, nullable=False),
    # The hash of the items and of how they are shown: only scores of the same content compare.
    Column("content", String(64), nullable=False),
    # Null where it is no number.
    Column("value", Double),
    Column("low", Double),
    Column("high", Double),
    Column("n", BigInteger, nullable=False),
    Column("higher_is_better", Boolean),
    Column("best", Double),
    # Four bytes a unit of evidence: what it adds to the value, for comparing two evaluations unit by unit.
    Column("influences", LargeBinary),
)
